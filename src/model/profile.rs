//! The result of a recording: what the ledger computes and every report reads.

use crate::model::{
    counts::{ClassCounts, Counter, Counters, Counts, GoneEvent, Measured},
    estimate::Estimates,
    ids::{LockId, Pid, Tid},
    parking::Parking,
    quality::Quality,
    sampled_event::EventProfile,
    stack::{StackId, StackTable},
    state::{State, StateClass, StateTimes},
    surroundings::Surroundings,
    time::{MonoNanos, Nanos},
};

/// Everything known about one recording.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Whom we watched.
    pub target: TargetSummary,
    /// The first moment of the recording.
    pub start: MonoNanos,
    /// From the first to the last moment of the recording.
    pub window: Nanos,
    /// Where the lock events came from.
    pub backend: Backend,
    /// Whether all lock events were taken, rather than a sample of them.
    pub exact: bool,
    /// Which events were seen one by one.
    pub counted: Counted,
    /// Whether all sampled stacks were read with their machine code: one without any was in bytecode.
    pub native: bool,
    /// What was counted of each thread beside time.
    pub counters: Counters,
    /// The events among them that were of the user's choice, by their places.
    pub measured: Vec<Measured>,
    /// Events that were chosen, too, and could not be measured.
    pub gone: Vec<GoneEvent>,
    /// The event that was sampled, by what its threads did with the locks; `None` when none was.
    pub event: Option<EventProfile>,
    /// What a page fault costs on this machine, at its best; `None` when page faults were not counted, or it was not measured.
    pub fault_cost: Option<Nanos>,
    /// One entry a lock, in order of discovery.
    pub locks: Vec<LockProfile>,
    /// One entry a thread, in order of first sight.
    pub threads: Vec<ThreadProfile>,
    /// Every waiter's time charged to an owner and to the owner's stack; largest first.
    pub blame: Vec<Blame>,
    /// The holds that were seen, by lock and stack.
    pub hold_sites: Vec<HoldSite>,
    /// Holds at least this long are long.
    pub long_hold_threshold: Nanos,
    /// The longest of the long holds, longest first.
    pub long_holds: Vec<LongHold>,
    /// What threads of a free-threaded build waited for without its global lock; `None` for other builds, and when that was
    /// not observed.
    pub parking: Option<Parking>,
    /// What was estimated beside what is exact; `None` when everything was observed.
    pub estimates: Option<Estimates>,
    /// How far to trust the rest.
    pub quality: Quality,
    /// The stacks that the entries refer to.
    pub stacks: StackTable,
}

impl Profile {
    /// What was counted of all threads together; `None` when nothing was, or some of it was lost. A thread that had nothing to do
    /// with a lock and of which events told nothing is left out; see [`ThreadProfile::is_untold`].
    pub fn counts(&self) -> Option<ClassCounts> {
        if self.counters.is_empty() {
            return None;
        }
        let counts = |thread: &ThreadProfile| {
            let left_out = thread.is_untold() && thread.holds == 0 && thread.waits == 0;
            thread.counts.map(|counts| if left_out { counts.nothing_missing() } else { counts })
        };
        self.threads.iter().map(counts).sum()
    }
}

/// Whom we watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSummary {
    /// The process.
    pub pid: Pid,
    /// Its command line, arguments joined by spaces.
    pub command: String,
    /// `cpython`, `pypy` or `toyvm`.
    pub runtime: String,
    /// Such as `3.12.1`.
    pub runtime_version: String,
    /// Whether the build can run without its global lock.
    pub free_threaded: bool,
    /// How its surroundings differ from ours.
    pub surroundings: Surroundings,
}

/// Which lock events were seen one by one, so that their numbers and lengths mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counted {
    /// All that were taken.
    Everything,
    /// All waits, and no holds.
    Waits,
    /// None.
    Nothing,
}

impl Counted {
    /// Whether holds were.
    pub const fn holds(self) -> bool {
        matches!(self, Self::Everything)
    }

    /// Whether waits were.
    pub const fn waits(self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

/// Where lock events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// The in-target probe loaded with `LD_PRELOAD`.
    Preload,
    /// Kernel uprobes on the libc calls of the lock.
    Uprobe,
    /// Hardware watchpoints on the lock's own words.
    Watchpoint,
    /// Looks at the lock's words and the threads, at a rate: statistical.
    Poll,
}

impl Backend {
    /// The name used on the command line and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preload => "preload",
            Self::Uprobe => "uprobe",
            Self::Watchpoint => "watchpoint",
            Self::Poll => "poll",
        }
    }

    /// Whether each acquisition, wait and release is seen, so that they can be counted.
    pub const fn counts_events(self) -> bool {
        !matches!(self, Self::Poll)
    }
}

/// What was counted of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedLock {
    /// All acquisitions.
    pub holds: u64,
    /// All waits that began; `None` when events were lost: whether a wait seen after that is a new one is not known.
    pub waits: Option<u64>,
}

/// One lock over the whole window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockProfile {
    /// Which lock.
    pub id: LockId,
    /// Such as `GIL` or `GIL of interpreter 2`.
    pub name: String,
    /// The interpreter it belongs to, numbered by the runtime; `None` when that could not be read.
    pub interpreter: Option<i64>,
    /// How long a waiter waits before it asks the owner to give way; `None` when that could not be read.
    pub switch_interval: Option<Nanos>,
    /// Time it had an owner.
    pub held: Nanos,
    /// The part of `held` during which at least one thread waited.
    pub contended: Nanos,
    /// Time it had no owner.
    pub free: Nanos,
    /// Time whose owner is unknown. `held + free + unknown = window`.
    pub unknown: Nanos,
    /// Sum over all waits of the time during which nobody owned the lock.
    pub handoff: Nanos,
    /// Sum over all waits of the time whose owner is unknown.
    pub wait_unknown: Nanos,
    /// Sum over all waits of their length. `Σ blame + handoff + wait_unknown = wait_total`.
    pub wait_total: Nanos,
    /// Sum over all waits charged to an owner.
    pub blamed: Nanos,
    /// Acquisitions whose release lies in the window, or that last to its end.
    pub holds: u64,
    /// Waits that ended in an acquisition, or that last to the window's end.
    pub waits: u64,
    /// Releases on demand of a waiter.
    pub forced_releases: u64,
    /// Holds that lasted the threshold or longer, listed or not.
    pub long_holds: u64,
    /// The holds during which no stack was seen. With the `hold_sites` of this lock they are all its holds.
    pub unseen: HoldTally,
    /// What was counted of it, exact though most events were not taken; `None` when the source does not count, or took all events,
    /// or some were neither taken nor counted.
    pub counted: Option<CountedLock>,
    /// Lengths of holds.
    pub hold_spread: Spread,
    /// Lengths of waits.
    pub wait_spread: Spread,
}

/// Percentiles of a set of durations; `max` is exact, the others to three significant digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    /// Half of the durations are at most this long.
    pub p50: Nanos,
    /// Nine tenths are at most this long.
    pub p90: Nanos,
    /// All but a hundredth are at most this long.
    pub p99: Nanos,
    /// The longest.
    pub max: Nanos,
}

/// One thread over its observed life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadProfile {
    /// Which thread.
    pub tid: Tid,
    /// Its last known name; empty when never known.
    pub name: String,
    /// First sight.
    pub first_seen: MonoNanos,
    /// From first sight to its exit or the end of the window.
    pub lifetime: Nanos,
    /// How often it held a lock.
    pub holds: u64,
    /// How often it waited for one.
    pub waits: u64,
    /// Releases it made on demand.
    pub forced_releases: u64,
    /// Time in each state; the sum is `lifetime`.
    pub states: StateTimes,
    /// The part of the state `unknown` of which only the use of the CPUs is unknown.
    pub undivided: Undivided,
    /// What was counted beside time; `None` when some of it was lost. Of what the recording does not count
    /// ([`Profile::counters`]) it means nothing.
    pub counts: Option<ClassCounts>,
    /// The same time spread over stacks: for each state the parts sum to `states`.
    pub stacks: Vec<StackTime>,
}

/// Time whose relation to the lock is known and whose use of the CPUs is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Undivided {
    /// Inside.
    pub inside: Nanos,
    /// Outside.
    pub outside: Nanos,
}

impl ThreadProfile {
    /// Whether it has run, and the recording's events have told nothing of it.
    pub fn is_untold(&self) -> bool {
        self.counts.is_some_and(|counts| !counts.told() && counts.total().get(Counter::TaskClock) > 0)
    }

    /// Time in one class of states, known to the state or not.
    pub fn class(&self, class: StateClass) -> Nanos {
        let known = self.states.class(class);
        match class {
            StateClass::Inside => known + self.undivided.inside,
            StateClass::Outside => known + self.undivided.outside,
            StateClass::Waiting => known,
            StateClass::Unknown => known.saturating_sub(self.undivided.inside + self.undivided.outside),
        }
    }

    /// Whether nothing is known of its use of the CPUs while its relation to the lock is known.
    pub fn is_undivided(&self) -> bool {
        self.undivided != Undivided::default()
    }
}

/// Part of a state's time, charged to one stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackTime {
    /// The state.
    pub state: State,
    /// The lock that the thread owned or wanted meanwhile; `None` if none, or if that was not seen.
    pub lock: Option<LockId>,
    /// The stack.
    pub stack: StackId,
    /// The time.
    pub time: Nanos,
}

/// Time that one thread waited because another one, with this stack, owned the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blame {
    /// The lock.
    pub lock: LockId,
    /// Who waited; `None`: threads that are not named one by one.
    pub waiter: Option<Tid>,
    /// Who owned the lock meanwhile; `None`: threads that are not named one by one.
    pub holder: Option<Tid>,
    /// How long.
    pub wait: Nanos,
    /// The owner's stack as it was during the contended hold.
    pub stack: StackId,
}

/// Holds of one lock during which this stack was seen most often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldSite {
    /// The lock.
    pub lock: LockId,
    /// The stack.
    pub stack: StackId,
    /// The holds.
    pub tally: HoldTally,
}

/// A number of holds, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HoldTally {
    /// How many.
    pub holds: u64,
    /// Their length.
    pub held: Nanos,
    /// The longest of them.
    pub longest: Nanos,
    /// The part of `held` during which at least one thread waited.
    pub contended: Nanos,
    /// How many ended in a forced release.
    pub forced: u64,
    /// What was counted of the owner meanwhile, but for its time on a CPU.
    pub counts: Counts,
}

impl HoldTally {
    /// Adds the holds of `other`.
    pub fn absorb(&mut self, other: Self) {
        self.holds += other.holds;
        self.held += other.held;
        self.longest = self.longest.max(other.longest);
        self.contended += other.contended;
        self.forced += other.forced;
        self.counts.add_all(&other.counts);
    }
}

/// One hold that lasted the threshold or longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongHold {
    /// The lock.
    pub lock: LockId,
    /// The owner.
    pub tid: Tid,
    /// From the start of the window to the acquisition.
    pub start: Nanos,
    /// Acquisition to release.
    pub duration: Nanos,
    /// How the owner spent it; the sum is `duration`. `Unknown`: whether it had a CPU is not known.
    pub states: StateTimes,
    /// How many threads waited during it.
    pub waiters: u32,
    /// The sum of their waiting during it.
    pub waited: Nanos,
    /// The owner's stack during it.
    pub stack: StackId,
}
