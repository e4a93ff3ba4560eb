//! Where events come from. Every source implements [`Source`]; what lies behind it cannot be told apart from outside.

pub mod bpf;
pub mod calls;
pub mod kin;
pub mod measuring;
mod metering;
pub mod order;
pub mod parking;
pub mod poll;
pub mod preload;
pub mod renumber;
pub mod run_delay;
pub mod sampled;
pub mod sampling;
pub mod scheduler;
pub mod scheduling;
mod switchable;
mod thread_watch;
pub mod uprobe;
pub mod watchpoint;

use std::{fmt, io, os::fd::RawFd};

use crate::{
    model::{
        counts::Counters,
        event::Event,
        ids::Tid,
        recorded::RecordedStack,
        stack::StackId,
        time::{MonoNanos, Nanos},
    },
    perf::event_clock::EventClock,
    source::sampling::{EventRefused, OnEvent},
};

/// Turns a recorded stack into one of the table; `None` when it cannot be believed.
pub type OnStack = Box<dyn FnMut(&RecordedStack) -> Option<StackId>>;

/// A stream of events about one target.
pub trait Source: fmt::Debug {
    /// Moves every event that is ready into `out`, in any order, and returns the watermark: all events of this
    /// source with an earlier time have now been delivered. `now` is the time just before the call.
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos;

    /// Ends the recording: disarms whatever observes the target, then delivers what is left. Afterwards nothing of the
    /// source remains in the target or the kernel.
    fn finish(&mut self, out: &mut Vec<Event>);

    /// A source that this one stands on, if any: whatever it counts and samples this one does, too, unless it says otherwise.
    fn beside(&self) -> Option<&dyn Source> {
        None
    }

    /// The same, to be asked for more.
    fn beside_mut(&mut self) -> Option<&mut dyn Source> {
        None
    }

    /// Files that become readable when something should be looked at before the next turn is due.
    fn alarms(&self) -> Vec<RawFd> {
        self.beside().map_or(Vec::new(), |beside| beside.alarms())
    }

    /// Takes no lock events for a while, so that they cost the target next to nothing; scheduling goes on. Says whether it
    /// can do that.
    fn pause(&mut self) -> Pausing {
        Pausing::Unable
    }

    /// Takes them again. `waited`: threads that were waiting for a lock when the last event was taken, which is long ago.
    /// When it fails, none will be taken any more.
    fn resume(&mut self, _waited: &[Tid]) -> io::Result<()> {
        Ok(())
    }

    /// Has running threads tell what their counters say now, where that is told at lock events and switches alone.
    fn settle(&mut self) {}

    /// What the source has seen and missed so far.
    fn tally(&self) -> Tally;

    /// Whether it tells of sleeps that have to do with no global lock.
    fn tells_of_parks(&self) -> bool {
        false
    }

    /// Counts no more than this from now on, to cost the target no more than that.
    fn count(&mut self, wanted: Counters) {
        self.beside_mut().into_iter().for_each(|beside| beside.count(wanted));
    }

    /// Tells of page faults so many at a time from now on, to cost the target less.
    fn group_faults(&mut self, group: u32) -> Grouping {
        self.beside_mut().map_or(Grouping::None, |beside| beside.group_faults(group))
    }

    /// Samples an event of all threads from now on; `on_event` reads stacks where nobody reads them at the very moment.
    fn sample_event(&mut self, clock: EventClock, on_event: OnEvent) -> Result<(), EventRefused> {
        self.beside_mut().ok_or(EventRefused::NotHere)?.sample_event(clock, on_event)
    }

    /// Takes a sample of it so many times more rarely than at first, from now on.
    fn slow_event(&mut self, times: u32) {
        self.beside_mut().into_iter().for_each(|beside| beside.slow_event(times));
    }

    /// What that event has counted of all threads by the end of the recording, sampled or not; `None` before, or when that is not
    /// known.
    fn counted_event(&self) -> Option<u64> {
        self.beside()?.counted_event()
    }

    /// What it counts of each thread beside time.
    fn counters(&self) -> Counters {
        self.beside().map_or(Counters::default(), |beside| beside.counters())
    }

    /// What a reader of the numbers should know beside that, in sentences.
    fn remarks(&self) -> Vec<String> {
        self.beside().map_or(Vec::new(), |beside| beside.remarks())
    }
}

/// What became of page faults that were to be told of in groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// They are.
    Grouped,
    /// They cannot be, and are not told of any more.
    Dropped,
    /// None are told of.
    None,
}

/// Whether a source can take no lock events for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pausing {
    /// It takes none from now on.
    Paused,
    /// It cannot, or takes none anyway.
    Unable,
}

impl Tally {
    /// What everything that is measured here has cost the target; `None` if events or stacks are not known.
    pub fn cost(&self) -> Option<Nanos> {
        let times = |each: Nanos, count| Nanos::from_nanos(each.as_nanos().saturating_mul(count));
        // The target has paid for lost ones, too.
        let events = times(self.cost_per_event?, self.lock_events.saturating_add(self.lost));
        Some(
            events
                + self.cost_of_counts
                + self.cost_of_faults
                + self.cost_of_event
                + self.cost_of_switches
                + self.cost_of_stacks?,
        )
    }
}

/// What a source has seen and missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Lock events taken from the target, used or not.
    pub lock_events: u64,
    /// Events of the target that were lost on the way, as far as they are known to have been.
    pub lost: u64,
    /// Records that make no sense; calls on condition variables that belong to no lock are none of them.
    pub unmatched: u64,
    /// The time one lock event costs the thread that makes it, measured on this machine; `None` when not measured.
    pub cost_per_event: Option<Nanos>,
    /// The time that threads of the target have spent in counting events which were not taken.
    pub cost_of_counts: Nanos,
    /// The time that records of page faults have taken from threads of the target.
    pub cost_of_faults: Nanos,
    /// The time that samples of an event have taken from them, if that is not among what stacks have cost.
    pub cost_of_event: Nanos,
    /// The time that switches between their threads and others have taken to read counters.
    pub cost_of_switches: Nanos,
    /// The time that threads of the target have spent reading stacks beside that; `None` when not measured.
    pub cost_of_stacks: Option<Nanos>,
}

impl Tally {
    /// Both sources' together; what a single one has not measured is the other's.
    pub fn with(self, other: Self) -> Self {
        let costs = [self.cost_of_stacks, other.cost_of_stacks].into_iter().flatten();
        Self {
            lock_events: self.lock_events + other.lock_events,
            lost: self.lost.saturating_add(other.lost),
            unmatched: self.unmatched + other.unmatched,
            cost_of_counts: self.cost_of_counts + other.cost_of_counts,
            cost_of_faults: self.cost_of_faults + other.cost_of_faults,
            cost_of_event: self.cost_of_event + other.cost_of_event,
            cost_of_switches: self.cost_of_switches + other.cost_of_switches,
            cost_per_event: self.cost_per_event.or(other.cost_per_event),
            cost_of_stacks: costs.reduce(|one, other| one + other),
        }
    }
}
