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
mod close;
mod counts;
mod cpu_share;
mod ended;
mod event_samples;
mod giving_way;
mod hold;
mod invariants;
mod lock;
mod looked;
mod parking;
mod relation;
mod run_delay;
mod samples;
mod spread;
mod steps;
mod stops;
mod switched;
mod thread;
mod windows;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{
    counts::{Counter, Measures},
    event::{CountedSteps, Event, LostEvents, MeasuredSince, OffCpu, SeenCpu, SeenRelation, Sighting, What},
    ids::{LockId, Tid},
    stack::StackId,
    time::{MonoNanos, Nanos},
};

use blame::BlameBook;
use close::ClosedThread;
use ended::EndedThreads;
use event_samples::{EventBook, EventTotals};
use hold::LongHolds;
use lock::{LockAccount, Owner};
use parking::ParkingBook;
use relation::{Ownership, Relation};
use thread::{Cpu, ThreadAccount};
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

/// Whether the steps that are told and those that are counted are all there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counting {
    Sound,
    /// Some were neither.
    Broken,
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

    /// Opens a lock's account, or names the account that an event opened first.
    pub fn declare_lock(&mut self, id: LockId, name: &str, interpreter: Option<i64>, start: LockStart) {
        let owner = match start {
            LockStart::Free => Owner::Free,
            LockStart::Unknown => Owner::Unknown,
        };
        match self.locks.iter_mut().find(|lock| lock.id == id) {
            Some(lock) => (lock.name, lock.interpreter) = (name.to_owned(), interpreter),
            None => {
                self.locks.push(LockAccount::new(id, name.to_owned(), interpreter, owner, self.options.start));
            }
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
                self.tally.lost += lost.count;
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

    /// The time up to which events have been booked.
    pub fn now(&self) -> MonoNanos {
        self.now
    }

    /// The counts so far.
    pub fn tally(&self) -> LedgerTally {
        self.tally
    }

    /// When the process executed another program, if it had done anything with a lock before: the books end there.
    pub fn replaced(&self) -> Option<MonoNanos> {
        self.replaced
    }

    /// The threads alive, in no particular order.
    pub fn live_threads(&self) -> impl Iterator<Item = Tid> + '_ {
        self.threads.keys().copied()
    }

    /// How long the threads alive have run so far, and how long they were runnable without a CPU.
    pub fn ran_and_delayed(&self) -> (Nanos, Nanos) {
        let sum = |of: fn(&ThreadAccount) -> Nanos| self.threads.values().map(of).sum();
        (sum(|thread| thread.ran), sum(|thread| thread.delayed))
    }

    /// Whether the thread waits for a lock and its stack has not been read since the wait began.
    pub fn awaits_stack(&self, tid: Tid) -> bool {
        let relation = self.threads.get(&tid).map(|thread| thread.relation);
        matches!(relation, Some(Relation::Waiting(wait)) if wait.stack.is_none())
    }

    /// Threads that own a lock for which others wait.
    pub fn contended_owners(&self) -> impl Iterator<Item = Tid> + '_ {
        self.locks.iter().filter(|lock| !lock.waiters.is_empty()).filter_map(|lock| match lock.ownership() {
            Ownership::By(owner) => Some(owner),
            Ownership::Free | Ownership::Unknown => None,
        })
    }

    /// The stack of a thread that waits, if it has been read: it stays the same as long as the wait.
    pub fn stack_of_wait(&self, tid: Tid) -> Option<StackId> {
        match self.threads.get(&tid)?.relation {
            // One whose reading has not ended by now may be that of a thread that has gone on meanwhile.
            Relation::Waiting(wait) => wait.stack.filter(|(_, until)| *until <= self.now).map(|(stack, _)| stack),
            Relation::Inside(_) | Relation::Outside | Relation::Unknown => None,
        }
    }

    /// Whether the thread has been asleep since its last booked event, as far as is known: its stack does not move.
    pub fn is_asleep(&self, tid: Tid) -> bool {
        let asleep = [Cpu::Off(OffCpu::Blocked), Cpu::Sampled(SeenCpu::Asleep)];
        self.threads.get(&tid).is_some_and(|thread| asleep.contains(&thread.cpu))
    }

    /// Whether the thread got a CPU and has not been seen to lose it.
    pub fn is_running(&self, tid: Tid) -> bool {
        self.threads.get(&tid).is_some_and(|thread| thread.cpu == Cpu::Running)
    }

    fn with_thread(&mut self, tid: Tid, then: impl FnOnce(&mut ThreadAccount)) {
        self.charge_thread(tid);
        if let Some(thread) = self.threads.get_mut(&tid) {
            then(thread);
        }
    }

    /// Charges one thread's time up to now.
    fn charge_thread(&mut self, tid: Tid) {
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        let wanted = match thread.relation {
            Relation::Waiting(wait) => Some(wait.lock),
            Relation::Inside(_) | Relation::Outside | Relation::Unknown => {
                thread.giving_way.as_ref().map(|giving_way| giving_way.lock)
            }
        };
        let lock = wanted.and_then(|wanted| self.locks.iter_mut().find(|lock| lock.id == wanted));
        match (thread.relation, lock) {
            (Relation::Waiting(_), Some(lock)) => {
                // Held without a waiter it cannot have been: this one waits.
                lock.charge(self.now);
                thread.charge_wait(self.now, lock.ownerships);
            }
            (_, lock) => thread.charge(self.now, lock.map_or(Ownership::Unknown, |lock| lock.ownership())),
        }
    }

    /// Charges a lock up to now; called before its owner or its waiters change. Those who wait are charged when their own
    /// next event comes, so that a step costs the same however many they are.
    fn charge_lock(&mut self, id: LockId) {
        let Some(index) = self.locks.iter().position(|lock| lock.id == id) else {
            return;
        };
        let lock = &mut self.locks[index];
        let alone = lock.charge(self.now);
        let ownership = lock.ownership();
        self.charge_givers(index, ownership, alone);
    }

    /// Charges the owner of a lock with the waits for it; called before the owner changes, or the wait of one ends.
    fn blame_owner(&mut self, id: LockId) {
        if let Some(lock) = self.locks.iter_mut().find(|lock| lock.id == id) {
            lock.blame_owner(&mut self.blame);
        }
    }

    /// Charges the threads that have released the lock and may want it back; `alone` is how long nobody else waited.
    fn charge_givers(&mut self, index: usize, ownership: Ownership, mut alone: Nanos) {
        let lock = &mut self.locks[index];
        let (id, now, threads) = (lock.id, self.now, &mut self.threads);
        lock.givers.retain(|giver| {
            let Some(thread) = threads.get_mut(giver).filter(|thread| thread.gives_way_on(id)) else {
                return false;
            };
            thread.charge(now, ownership);
            if let Some(giving_way) = &mut thread.giving_way {
                giving_way.note_alone(std::mem::take(&mut alone));
            }
            true
        });
    }

    fn lock(&mut self, id: LockId) -> &mut LockAccount {
        if let Some(index) = self.locks.iter().position(|lock| lock.id == id) {
            return &mut self.locks[index];
        }
        self.declare_lock(id, &format!("lock {id}"), None, LockStart::Free);
        self.locks.last_mut().expect("the account was opened just now")
    }

    /// The account of `tid`, opened with `relation` if this is the first that is heard of it.
    fn thread(&mut self, tid: Tid, relation: Relation) -> &mut ThreadAccount {
        let now = self.now;
        self.threads.entry(tid).or_insert_with(|| ThreadAccount::new(tid, now, relation, Cpu::Unresolved(None)))
    }

    /// So often, to a thread and to the hold in which it is.
    fn on_happened(&mut self, tid: Tid, counter: Counter, times: u32) {
        self.charge_thread(tid);
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        thread.counts.add(counter, times, thread.relation);
        if let Relation::Inside(id) = thread.relation
            && let Owner::Held(hold) = &mut self.lock(id).owner
        {
            hold.counts.add(counter, u64::from(times));
        }
    }

    /// So much since the thread's last step, to it and to the hold in which it is; or to neither class nor hold.
    fn on_measured(&mut self, tid: Tid, measures: &Measures, since: MeasuredSince) {
        self.charge_thread(tid);
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let relation = if since == MeasuredSince::LastStep { thread.relation } else { Relation::Unknown };
        thread.counts.measure(measures, relation);
        if let Relation::Inside(id) = relation
            && let Owner::Held(hold) = &mut self.lock(id).owner
        {
            hold.counts.add_measures(measures);
        }
    }

    fn on_created(&mut self, tid: Tid) {
        self.on_exited(tid);
        let cpu = Cpu::Off(OffCpu::Preempted);
        let relation = self.without_locks();
        self.threads.insert(tid, ThreadAccount::new(tid, self.now, relation, cpu));
    }

    fn on_seen(&mut self, tid: Tid, sighting: Sighting) {
        self.charge_thread(tid);
        let now = self.now;
        let unresolved = Cpu::Unresolved(sighting.cpu);
        let thread =
            self.threads.entry(tid).or_insert_with(|| ThreadAccount::new(tid, now, Relation::Unknown, unresolved));
        if thread.cpu == Cpu::Unresolved(None) {
            thread.cpu = unresolved;
        }
        // It has been woken and has not run since. Asleep it may have waited for a lock.
        let woken = sighting.cpu == Some(SeenCpu::Runnable) && thread.cpu == Cpu::Off(OffCpu::Blocked);
        if thread.relation == Relation::Unknown && self.windows.take_events() {
            match sighting.relation {
                Some(SeenRelation::Outside) if woken => {}
                Some(SeenRelation::Inside(lock)) => self.seed_owner(tid, lock),
                Some(SeenRelation::Waiting(lock)) => self.begin_wait(tid, lock, self.windows.extent_of_found()),
                Some(SeenRelation::Outside) => thread.relation = Relation::Outside,
                None => {}
            }
            // What it did before, unseen, has left nothing in doubt any more.
            if self.relation(tid) != Relation::Unknown {
                self.lossy.remove(&tid);
            }
        }
    }

    fn on_exited(&mut self, tid: Tid) {
        self.parking.on_exited(tid, self.now);
        if let Some(thread) = self.close_thread(tid) {
            self.ended.enter(thread);
        }
    }

    /// What the thread did with locks of its old program is over; nobody owns them any more.
    fn on_executed(&mut self, tid: Tid) {
        if self.locks.iter().any(|lock| lock.last_step.is_some()) {
            self.replaced = Some(self.now);
        }
        self.leave_relation(tid);
        let relation = self.without_locks();
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.relation = relation;
        }
        self.lossy.clear();
        if !self.windows.take_events() {
            return;
        }
        for index in 0..self.locks.len() {
            let id = self.locks[index].id;
            self.charge_lock(id);
            if matches!(self.locks[index].owner, Owner::Unknown) {
                self.locks[index].owner = Owner::Free;
            }
        }
    }

    fn on_counted(&mut self, id: LockId, steps: CountedSteps) {
        if self.counting == Counting::Broken {
            return;
        }
        let counted = self.lock(id).counted.get_or_insert_default();
        counted.holds += steps.holds;
        counted.waits += steps.waits;
    }

    fn on_uncounted(&mut self) {
        self.counting = Counting::Broken;
        self.locks.iter_mut().for_each(|lock| lock.counted = None);
    }

    /// The relation of a thread that has had nothing to do with locks so far.
    fn without_locks(&self) -> Relation {
        if self.windows.take_events() { Relation::Outside } else { Relation::Unknown }
    }

    fn close_thread(&mut self, tid: Tid) -> Option<ClosedThread> {
        self.leave_relation(tid);
        self.lossy.remove(&tid);
        let mut thread = self.threads.remove(&tid)?;
        thread.resolve_at_end();
        self.events.absorb(std::mem::take(&mut thread.events));
        self.windows.end_thread(&thread);
        Some(ClosedThread::new(thread, self.options.no_stack))
    }

    fn on_lock_events_lost(&mut self, tid: Tid, lost: LostEvents) {
        self.tally.lost += lost.count;
        self.parking.on_lost(tid);
        if !self.windows.take_events() {
            return;
        }
        self.leave_relation(tid);
        self.thread(tid, Relation::Unknown).relation = Relation::Unknown;
        self.lossy.insert(tid);
        // The thread may have taken any lock that is free. One that another thread is seen to own it cannot have.
        let free = self.locks.iter().filter(|lock| matches!(lock.owner, Owner::Free));
        for id in free.map(|lock| lock.id).collect::<Vec<_>>() {
            self.doubt_owner(id);
        }
    }
}

#[cfg(test)]
mod tests;
