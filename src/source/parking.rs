//! From sleeps of a free-threaded interpreter's threads to what they sleep for.
//!
//! Whoever requests a stop of the world sleeps, a slice at a time, for an event that lies in the runtime or in an interpreter;
//! nothing else there is waited for with a time limit. Events elsewhere belong to threads and modules.

use std::fmt;

use rustc_hash::FxHashSet;

use crate::{
    model::{
        address::LiveAddress,
        event::{ParkPlace, ParkStep},
    },
    target::interpreters::Extent,
};

/// Addresses remembered as events of nobody; past that they are looked up again each time.
const MOST_ELSEWHERE: usize = 1 << 12;

/// A sleep begins or ends, as a probe sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkCall {
    /// Until the lock at this address is free.
    Mutex(LiveAddress),
    /// Until its own state says otherwise.
    Suspended,
    /// For an event.
    Event,
    /// For the event at this address, up to a time limit.
    TimedEvent(LiveAddress),
    /// It was woken.
    Woken,
    /// It goes on for another reason.
    GaveUp,
}

/// Tells where the runtime and its interpreters lie now.
pub type FindInterpreters = Box<dyn FnMut() -> Vec<Extent>>;

/// Makes out what sleeps are for.
pub struct ParkReader {
    find: FindInterpreters,
    known: Vec<Extent>,
    elsewhere: FxHashSet<LiveAddress>,
}

impl ParkReader {
    /// Asks `find` now and whenever an unknown event is waited for.
    pub fn new(mut find: FindInterpreters) -> Self {
        let known = find();
        Self { find, known, elsewhere: FxHashSet::default() }
    }

    /// What the call means.
    pub fn read(&mut self, call: ParkCall) -> ParkStep {
        match call {
            ParkCall::Mutex(address) => ParkStep::Began(ParkPlace::Mutex(address)),
            ParkCall::Suspended => ParkStep::Began(ParkPlace::Suspended),
            ParkCall::Event => ParkStep::Began(ParkPlace::Elsewhere),
            ParkCall::TimedEvent(address) if self.is_of_interpreter(address) => {
                ParkStep::Began(ParkPlace::StopRequest(address))
            }
            ParkCall::TimedEvent(_) => ParkStep::Began(ParkPlace::Elsewhere),
            ParkCall::Woken => ParkStep::Woken,
            ParkCall::GaveUp => ParkStep::GaveUp,
        }
    }

    fn is_of_interpreter(&mut self, address: LiveAddress) -> bool {
        let contains = |known: &[Extent]| known.iter().any(|extent| extent.contains(address));
        if contains(&self.known) {
            return true;
        }
        if self.elsewhere.contains(&address) {
            return false;
        }
        // The runtime can no longer be read once it has ended: what was known stays known.
        self.known.extend((self.find)());
        self.known.sort_unstable();
        self.known.dedup();
        let found = contains(&self.known);
        if !found && self.elsewhere.len() < MOST_ELSEWHERE {
            self.elsewhere.insert(address);
        }
        found
    }
}

impl fmt::Debug for ParkReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkReader").field("known", &self.known).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{ParkCall, ParkReader};
    use crate::{
        model::{
            address::LiveAddress,
            event::{ParkPlace, ParkStep},
        },
        target::interpreters::Extent,
    };

    #[test]
    fn an_event_inside_an_interpreter_is_that_of_a_stop() {
        let extent = |start, size| Extent { start: LiveAddress::in_target(start), size };
        let mut found = vec![vec![extent(0x5000, 0x100)], vec![extent(0x1000, 0x100)]];
        let mut reader = ParkReader::new(Box::new(move || found.pop().unwrap_or_default()));
        let mut read = |address| reader.read(ParkCall::TimedEvent(LiveAddress::in_target(address)));
        let stop = |address| ParkStep::Began(ParkPlace::StopRequest(LiveAddress::in_target(address)));
        assert_eq!(read(0x10ff), stop(0x10ff));
        assert_eq!(read(0x1100), ParkStep::Began(ParkPlace::Elsewhere));
        // An interpreter that came later.
        assert_eq!(read(0x5010), stop(0x5010));
        assert_eq!(read(0x1000), stop(0x1000));
    }
}
