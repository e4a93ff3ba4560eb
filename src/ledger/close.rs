//! The end of the books: open intervals are cut off, time is spread over stacks, and the invariants are checked.

use crate::{
    ledger::{
        Ledger, LedgerTally,
        apportion::apportion,
        invariants::Sums,
        lock::LockAccount,
        relation::Relation,
        thread::{Placed, Samples, ThreadAccount},
    },
    model::{
        estimate::Estimates,
        ids::Tid,
        parking::Parking,
        profile::{Blame, CountedLock, HoldSite, LockProfile, LongHold, StackTime, ThreadProfile},
        sampled_event::EventSums,
        stack::StackId,
        state::{State, StateClass},
        time::{MonoNanos, Nanos},
    },
};

/// What the ledger knows at the end of a recording.
#[derive(Debug, Clone)]
pub struct Attribution {
    /// From the first to the last moment.
    pub window: Nanos,
    /// One entry a lock, by id.
    pub locks: Vec<LockProfile>,
    /// One entry a thread, in order of first sight.
    pub threads: Vec<ThreadProfile>,
    /// All blame, largest first.
    pub blame: Vec<Blame>,
    /// The holds that were seen, by lock and stack.
    pub hold_sites: Vec<HoldSite>,
    /// Holds at least this long are long.
    pub long_hold_threshold: Nanos,
    /// The longest of the long holds, longest first.
    pub long_holds: Vec<LongHold>,
    /// What threads slept for without a global lock.
    pub parking: Parking,
    /// What samples of the recording's event stand for.
    pub events: EventSums,
    /// What was estimated; `None` when every lock event was taken.
    pub estimates: Option<Estimates>,
    /// What was counted about the input.
    pub tally: LedgerTally,
    /// Σ over threads of the time in state `unknown`.
    pub unknown: Nanos,
    /// Each broken invariant in words.
    pub invariants_broken: Vec<String>,
}

/// A thread whose account is closed.
#[derive(Debug, Clone)]
pub(super) struct ClosedThread {
    pub(super) profile: ThreadProfile,
    /// Its stacks while it owned a lock, for blame without samples of its own.
    pub(super) held: Samples,
}

impl Ledger {
    /// Closes the books at `end`, the last moment of the window.
    pub fn finish(mut self, end: MonoNanos) -> Attribution {
        self.now = self.replaced.unwrap_or(self.now.max(end));
        for id in self.locks.iter().map(|lock| lock.id).collect::<Vec<_>>() {
            self.charge_lock(id);
        }
        self.read_windows();
        for tid in self.threads.keys().copied().collect::<Vec<_>>() {
            if let Some(thread) = self.close_thread(tid) {
                self.ended.keep(thread);
            }
        }
        let estimates = self.estimates();
        let (now, start) = (self.now, self.options.start);
        let window = now.saturating_since(start);
        self.locks.sort_by_key(|lock| lock.id);
        let no_stack = self.options.no_stack;
        let held = self.ended.held_stacks();
        let held_stacks = |holder: Option<Tid>| holder.and_then(|holder| held.get(&holder)).cloned();
        let blame = self
            .blame
            .into_entries(|holder| held_stacks(holder).unwrap_or_else(|| Samples::from_iter([(no_stack, 1)])));
        let hold_sites: Vec<HoldSite> = self.locks.iter().flat_map(|lock| lock.book.sites(lock.id)).collect();
        let locks: Vec<LockProfile> = self.locks.into_iter().map(|lock| lock_profile(lock, self.tally.lost)).collect();
        let threads = self.ended.into_profiles();
        let events = self.events.close(self.event_totals);
        let of_samples = (events.total(), self.event_totals.weight());
        let sums =
            Sums { window, locks: &locks, threads: &threads, blame: &blame, hold_sites: &hold_sites, of_samples };
        let invariants_broken = sums.broken();
        Attribution {
            window,
            unknown: threads.iter().map(|thread| thread.states.get(State::Unknown)).sum(),
            locks,
            threads,
            blame,
            hold_sites,
            long_hold_threshold: self.options.long_hold,
            long_holds: self.long_holds.into_list(),
            parking: self.parking.close(now),
            events,
            estimates,
            tally: self.tally,
            invariants_broken,
        }
    }
}

impl ClosedThread {
    /// Closes an account that has been charged and resolved.
    pub(super) fn new(thread: ThreadAccount, no_stack: StackId) -> Self {
        debug_assert!(matches!(thread.relation, Relation::Outside | Relation::Unknown), "its relation was ended");
        let held = stacks_alone(class_samples(&thread, StateClass::Inside));
        let spread = |(state, time)| spread_state(&thread, state, time, no_stack);
        let stacks = thread.times.iter().flat_map(spread).collect();
        let profile = ThreadProfile {
            tid: thread.tid,
            name: thread.name.into_string(),
            first_seen: thread.first_seen,
            lifetime: thread.charged_until.saturating_since(thread.first_seen),
            holds: thread.holds,
            waits: thread.waits,
            forced_releases: thread.forced_releases,
            states: thread.times,
            undivided: thread.undivided,
            counts: thread.counts.close(&thread.times),
            stacks,
        };
        Self { profile, held }
    }
}

/// The stacks of one state with their share of its time: waits go to the stacks read during them, other states are
/// spread by ticks; a state too short to be sampled borrows the stacks of its class.
fn spread_state(thread: &ThreadAccount, state: State, time: Nanos, no_stack: StackId) -> Vec<StackTime> {
    if time == Nanos::ZERO {
        return Vec::new();
    }
    let candidates = [
        thread.waited_at.get(&state).cloned().unwrap_or_default(),
        thread.ticks.get(&state).cloned().unwrap_or_default(),
        class_samples(thread, state.class()),
        Placed::from_iter([((no_stack, None), 1)]),
    ];
    let weighty = |samples: &Placed| samples.values().any(|weight| *weight > 0);
    let mut samples: Vec<_> = candidates.into_iter().find(weighty).unwrap_or_default().into_iter().collect();
    // An order that does not depend on hashing.
    samples.sort_unstable();
    let weights: Vec<u64> = samples.iter().map(|(_, weight)| *weight).collect();
    let parts = samples.iter().zip(apportion(time, &weights)).filter(|(_, time)| *time > Nanos::ZERO);
    parts.map(|(((stack, lock), _), time)| StackTime { state, lock: *lock, stack: *stack, time }).collect()
}

fn class_samples(thread: &ThreadAccount, class: StateClass) -> Placed {
    let mut samples = Placed::default();
    if class == StateClass::Unknown {
        return samples;
    }
    let of_class = thread.ticks.iter().filter(|(state, _)| state.class() == class);
    for (place, weight) in of_class.flat_map(|(_, samples)| samples) {
        *samples.entry(*place).or_default() += weight;
    }
    samples
}

/// The same of whatever lock.
fn stacks_alone(placed: Placed) -> Samples {
    let mut samples = Samples::default();
    for ((stack, _), weight) in placed {
        *samples.entry(stack).or_default() += weight;
    }
    samples
}

fn lock_profile(lock: LockAccount, lost: u64) -> LockProfile {
    LockProfile {
        id: lock.id,
        name: lock.name,
        interpreter: lock.interpreter,
        // No event tells it.
        switch_interval: None,
        held: lock.ownerships.held,
        contended: lock.contended,
        free: lock.ownerships.free,
        unknown: lock.ownerships.unknown,
        handoff: lock.handoff,
        wait_unknown: lock.wait_unknown,
        wait_total: lock.wait_total,
        blamed: lock.blamed,
        holds: lock.holds,
        waits: lock.waits,
        forced_releases: lock.forced_releases,
        long_holds: lock.long_holds,
        unseen: lock.book.unseen,
        counted: lock.counted.map(|counted| CountedLock {
            holds: counted.holds.saturating_add(lock.acquired + lock.late.holds),
            waits: (lost == 0).then_some(counted.waits.saturating_add(lock.wanted + lock.late.waits)),
        }),
        hold_spread: lock.hold_lengths.spread(),
        wait_spread: lock.wait_lengths.spread(),
    }
}
