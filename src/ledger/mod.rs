//! The ledger: ordered events in, the nine states of every thread, holds, waits and blame out.
//!
//! It is pure: no clock, no kernel, no unsafe. It streams: what it keeps grows with the number of threads alive and of
//! distinct stacks, never with the length of the recording or the number of threads that have ended. An event that fits no
//! legal transition is counted as unmatched and changes nothing but what it contradicts; nothing is repaired by guessing.
//!
//! ```text
//!            want                 acquired
//!   Outside ─────────▶ Waiting ─────────────────▶ Inside
//!      ▲                  ▲                          │ released
//!      │                  └─── it was forced ────────┤ (see `giving_way`)
//!      └────────────────────── it was not ───────────┘
//! ```

mod apportion;
mod blame;
mod charging;
mod close;
mod counts;
mod cpu_share;
mod ended;
mod event_samples;
mod giving_way;
mod hold;
mod invariants;
mod lives;
mod lock;
mod looked;
mod parking;
mod relation;
mod run_delay;
mod samples;
mod spread;
mod standing;
mod steps;
mod stops;
mod switched;
mod thread;
mod untold;
mod windows;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{
    event::{Event, What},
    ids::{LockId, Tid},
    stack::StackId,
    time::{MonoNanos, Nanos},
};

use blame::BlameBook;
use ended::EndedThreads;
use event_samples::{EventBook, EventTotals};
use hold::LongHolds;
use lock::{LockAccount, Owner};
use parking::ParkingBook;
use thread::ThreadAccount;
use untold::Counting;
use windows::Windows;

pub use apportion::apportion;
pub use close::Attribution;
pub use giving_way::GivingWayLimits;

/// How to keep the books.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// Start of the window. Earlier events still count as evidence, their time does not.
    pub start: MonoNanos,
    /// Holds at least this long are listed one by one.
    pub long_hold: Nanos,
    /// How to tell forced releases from voluntary ones.
    pub giving_way: GivingWayLimits,
    /// The stack that stands in where none was read.
    pub no_stack: StackId,
}

/// What is known of a lock before the first event about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockStart {
    /// It did not exist, or was seen free: nobody owns it.
    Free,
    /// Somebody may own it.
    Unknown,
}

/// The books of one recording.
#[derive(Debug, Clone)]
pub struct Ledger {
    options: LedgerOptions,
    now: MonoNanos,
    locks: Vec<LockAccount>,
    threads: FxHashMap<Tid, ThreadAccount>,
    ended: EndedThreads,
    /// Threads whose lock events are missing since their last one.
    lossy: FxHashSet<Tid>,
    blame: BlameBook,
    long_holds: LongHolds,
    windows: Windows,
    parking: ParkingBook,
    /// What samples of the recording's event stand for that belong to no thread alive.
    events: EventBook,
    event_totals: EventTotals,
    /// What a probe takes of a thread's time at each step with a lock; zero while that is not known.
    event_cost: Nanos,
    tally: LedgerTally,
    counting: Counting,
    /// When the process executed another program than the one whose locks were seen.
    replaced: Option<MonoNanos>,
}

/// What the ledger counted about the quality of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerTally {
    /// Events that fit no legal transition.
    pub unmatched: u64,
    /// Events that sources reported as lost.
    pub lost: u64,
    /// Stacks that count for something.
    pub stack_samples: u64,
    /// Stacks that could not be read or were torn.
    pub stack_failures: u64,
}

impl Ledger {
    /// Empty books.
    pub fn new(options: LedgerOptions) -> Self {
        Self {
            now: options.start,
            long_holds: LongHolds::default(),
            options,
            locks: Vec::new(),
            threads: FxHashMap::default(),
            ended: EndedThreads::default(),
            lossy: FxHashSet::default(),
            blame: BlameBook::default(),
            windows: Windows::default(),
            parking: ParkingBook::default(),
            events: EventBook::default(),
            event_totals: EventTotals::default(),
            event_cost: Nanos::ZERO,
            tally: LedgerTally::default(),
            counting: Counting::Sound,
            replaced: None,
        }
    }

    /// Opens a lock's account, to be done before the first event about it. An account that is open already goes on, whatever
    /// `start` says, and gets its name: until its first event nothing was known of that lock, and what came since is newer.
    pub fn declare_lock(&mut self, id: LockId, name: &str, interpreter: Option<i64>, start: LockStart) {
        if let Some(lock) = self.locks.iter_mut().find(|lock| lock.id == id) {
            (lock.name, lock.interpreter) = (name.to_owned(), interpreter);
            return;
        }
        let owner = match start {
            LockStart::Free => Owner::Free,
            LockStart::Unknown => Owner::Unknown,
        };
        self.locks.push(LockAccount::new(id, name.to_owned(), interpreter, owner, self.options.start));
        // Whatever begins with it now has nothing to do with the time before.
        self.charge_lock(id);
        if !self.windows.take_events() {
            // Nobody sees who takes it from now on.
            self.doubt_owner(id);
        }
    }

    /// Books one event. Events must come in order of time; one that comes late counts as of now.
    pub fn apply(&mut self, event: &Event) {
        if self.replaced.is_some() {
            // It is another program's.
            return;
        }
        self.now = self.now.max(event.at);
        let tid = event.tid;
        match &event.what {
            What::Lock(lock, step) => self.on_lock_step(tid, *lock, *step),
            What::SwitchedIn => self.on_switched_in(tid),
            What::SwitchedOut(why) => self.on_switched_out(tid, *why),
            What::RunDelay(cumulative) => self.with_thread(tid, |thread| thread.on_run_delay(*cumulative)),
            What::Created => self.on_created(tid),
            What::Seen(sighting) => self.on_seen(tid, *sighting),
            What::CpuSeen(sight) => self.on_cpu_seen(tid, *sight),
            What::RelationSeen(relation) => self.on_relation_seen(tid, *relation),
            What::OwnerSeen(lock, owner) => self.on_owner_seen(*lock, *owner),
            What::Happened(counter, times) => self.on_happened(tid, *counter, *times),
            What::Measured(measures, since) => self.on_measured(tid, measures, *since),
            What::Unmeasured(counters) => self.with_thread(tid, |thread| thread.counts.on_unmeasured(*counters)),
            What::Exited => self.on_exited(tid),
            What::Executed => self.on_executed(tid),
            What::Named(name) => self.with_thread(tid, |thread| thread.name.clone_from(name)),
            What::LostLock(lost) => self.on_lock_events_lost(tid, *lost),
            What::LostSwitch(lost) => {
                self.tally.lost = self.tally.lost.saturating_add(lost.count);
                self.with_thread(tid, ThreadAccount::on_switches_lost);
            }
            What::Stack(sample) => self.on_stack(tid, *sample),
            What::EventSample(sample) => self.on_event_sample((event.at, tid), *sample),
            What::SeenFree(lock) => self.seed_free(*lock),
            What::Window(step) => self.on_window(*step),
            What::Counted(lock, steps) => self.on_counted(*lock, *steps),
            What::Uncounted => self.on_uncounted(),
            What::Park(step) => self.parking.on_step((tid, self.now), *step),
        }
    }

    /// From now on each step with a lock costs its thread so much; only estimates take it off.
    pub fn set_event_cost(&mut self, cost: Nanos) {
        self.event_cost = cost;
    }

    fn lock(&mut self, id: LockId) -> &mut LockAccount {
        if let Some(index) = self.locks.iter().position(|lock| lock.id == id) {
            return &mut self.locks[index];
        }
        self.declare_lock(id, &format!("lock {id}"), None, LockStart::Unknown);
        self.locks.last_mut().expect("the account was opened just now")
    }
}

#[cfg(test)]
mod tests;
