//! Probes and watched words: what tells of steps with locks, and may come and go.
//!
//! Owns which of them are watched, not what is counted with them. Invariant: what was told before one of them went still comes.

use perf_event::Counter;

use crate::{
    model::address::LiveAddress,
    perf::{
        error::PerfError,
        family::Wanted,
        open::{Subject, keeper},
        stream::PerfStream,
    },
};

/// A probe to be hit, by the number its owner gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Told back with every hit.
    pub number: usize,
    /// The tracepoint's number, from the `id` file in tracefs.
    pub tracepoint: u64,
    /// The user register to take along, numbered as in `perf_regs.h`.
    pub register: u8,
}

/// A word to be watched for writes, by the number its owner gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchpoint {
    /// Told back with every write.
    pub number: usize,
    /// Where the word begins; a multiple of its length.
    pub address: LiveAddress,
    /// 1, 2, 4 or 8 bytes.
    pub length: u64,
}

impl PerfStream {
    /// Watches the same threads for hits of more probes.
    pub fn add_probes(&mut self, probes: &[Probe]) -> Result<(), PerfError> {
        if probes.is_empty() {
            return Ok(());
        }
        self.watch_locks(probes.iter().map(subject).collect())?;
        // They see our own calls, too.
        self.keepers.clear();
        Ok(())
    }

    /// Watches for no hits of probes any more, so that they cost nothing; those until now will be delivered.
    pub fn remove_probes(&mut self) {
        let is_probe = |subject| matches!(subject, Subject::Probe { .. });
        let open = self.families.iter().filter(|family| family.is_open());
        // Without them it only takes longer.
        let keepers = open.flat_map(|family| family.those(is_probe)).filter_map(|(subject, _)| keeper(subject).ok());
        let keepers: Vec<Counter> = keepers.collect();
        // Room first, as at the end.
        self.read_rings();
        self.drop_subjects(is_probe);
        // When there are no probes to be removed, those that were before are still to be kept.
        self.keepers.extend(keepers);
        self.read_rings();
    }

    /// Watches the same threads for writes to words of their memory. A processor can watch four at a time, of all that anybody
    /// wants watched; when these are too many, nothing has changed.
    pub fn add_watchpoints(&mut self, words: &[Watchpoint]) -> Result<(), PerfError> {
        let subjects = words.iter().map(|Watchpoint { number, address, length }| {
            (Subject::Watchpoint { address: *address, length: *length }, Some(*number))
        });
        self.watch_locks(subjects.collect())
    }

    /// Watches no more words; writes that have been told of already still come.
    pub fn drop_watchpoints(&mut self) {
        self.drop_subjects(|subject| matches!(subject, Subject::Watchpoint { .. }));
    }
}

pub(super) fn subject(probe: &Probe) -> Wanted {
    let Probe { number, tracepoint, register } = *probe;
    (Subject::Probe { tracepoint, register }, Some(number))
}

#[cfg(test)]
mod tests {
    use super::Probe;
    use crate::{
        model::ids::Pid,
        perf::{events::CountedEvent, limits::RingSize, stream::PerfStream},
    };

    #[test]
    fn probes_are_kept_in_use_while_they_are_removed_and_no_longer() {
        let us = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        let events = ["sched:sched_process_exit", "sched:sched_process_fork"].map(CountedEvent::named);
        let number = |event: &CountedEvent| event.code.config;
        let probe = |(at, tracepoint)| Probe { number: at, tracepoint, register: 0 };
        let probes: Vec<Probe> = events.iter().flatten().map(number).enumerate().map(probe).collect();
        let mut stream = match PerfStream::open_with_probes(us, &probes, &[], RingSize::Ordinary) {
            Ok(stream) if probes.len() == 2 => stream,
            _ => {
                eprintln!("skipped: tracepoints cannot be opened");
                return;
            }
        };
        for _ in 0..2 {
            stream.remove_probes();
            assert_eq!(stream.keepers.len(), 2);
            stream.remove_probes();
            assert_eq!(stream.keepers.len(), 2);
            stream.add_probes(&probes).unwrap();
            assert_eq!(stream.keepers.len(), 0);
        }
        stream.add_probes(&probes[..1]).unwrap();
        stream.remove_probes();
        assert_eq!(stream.keepers.len(), 3);
        stream.stop(&mut Vec::new());
        assert_eq!(stream.keepers.len(), 0);
    }
}
