//! The sums that must hold in every recording, checked in whole nanoseconds against sums that were kept independently of each
//! other. A broken one is told in words; nothing is put right.

use crate::model::{
    profile::{Blame, HoldSite, HoldTally, LockProfile, ThreadProfile},
    state::{State, StateClass},
    time::Nanos,
};

/// What is to fit together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums<'a> {
    pub(super) window: Nanos,
    pub(super) locks: &'a [LockProfile],
    pub(super) threads: &'a [ThreadProfile],
    pub(super) blame: &'a [Blame],
    pub(super) hold_sites: &'a [HoldSite],
    /// What samples of an event stand for, by class and stack, and one by one.
    pub(super) of_samples: (u64, u64),
}

impl Sums<'_> {
    /// Each broken invariant in words.
    pub(super) fn broken(self) -> Vec<String> {
        let of_threads = self.threads.iter().flat_map(of_thread);
        let of_locks = self.locks.iter().flat_map(|lock| self.of_lock(lock).into_iter().chain(self.of_holds(lock)));
        let (left, right) = self.of_samples;
        let of_samples =
            Equation { what: "samples of the event: sum over stacks = all".to_owned(), unit: "", left, right };
        of_threads
            .chain(of_locks)
            .chain([of_samples])
            .filter_map(Equation::broken)
            .chain(self.misfit_of_held())
            .collect()
    }

    fn of_lock(self, lock: &LockProfile) -> [Equation; 3] {
        let entries = self.blame.iter().filter(|entry| entry.lock == lock.id).map(|entry| entry.wait).sum();
        let equation =
            |what: &str, left: Nanos, right| Equation::of_times(format!("{}: {what}", lock.name), left, right);
        [
            equation("held + free + unknown = window", lock.held + lock.free + lock.unknown, self.window),
            equation(
                "blame + handoff + unknown = waits",
                lock.blamed + lock.handoff + lock.wait_unknown,
                lock.wait_total,
            ),
            equation("sum of blame entries = blame", entries, lock.blamed),
        ]
    }

    /// The holds that were seen and those that were not are all holds.
    fn of_holds(self, lock: &LockProfile) -> [Equation; 4] {
        let mut all: HoldTally = lock.unseen;
        self.hold_sites.iter().filter(|site| site.lock == lock.id).for_each(|site| all.absorb(site.tally));
        let what = |what: &str| format!("{}: seen + unseen = {what}", lock.name);
        [
            Equation { what: what("holds"), unit: "", left: all.holds, right: lock.holds },
            Equation { what: what("forced releases"), unit: "", left: all.forced, right: lock.forced_releases },
            Equation::of_times(what("held"), all.held, lock.held),
            Equation::of_times(what("contended"), all.contended, lock.contended),
        ]
    }

    /// A thread inside is a lock held, unless its CPU part is unknown; then the lock is held for longer.
    fn misfit_of_held(self) -> Option<String> {
        let inside: Nanos = self.threads.iter().map(|thread| thread.states.class(StateClass::Inside)).sum();
        let held: Nanos = self.locks.iter().map(|lock| lock.held).sum();
        let slack: Nanos = self.threads.iter().map(|thread| thread.states.get(State::Unknown)).sum();
        let misfit = inside > held || held > inside + slack;
        misfit.then(|| format!("held time {} ns does not fit the threads' {} ns", held.as_nanos(), inside.as_nanos()))
    }
}

fn of_thread(thread: &ThreadProfile) -> [Equation; 2] {
    let (tid, states) = (thread.tid, thread.states.total());
    let spread = thread.stacks.iter().map(|part| part.time).sum();
    [
        Equation::of_times(format!("thread {tid}: sum of states = lifetime"), states, thread.lifetime),
        Equation::of_times(format!("thread {tid}: sum over stacks = sum of states"), spread, states),
    ]
}

/// Two sums that must be the same.
#[derive(Debug, Clone)]
struct Equation {
    what: String,
    unit: &'static str,
    left: u64,
    right: u64,
}

impl Equation {
    fn of_times(what: String, left: Nanos, right: Nanos) -> Self {
        Self { what, unit: " ns", left: left.as_nanos(), right: right.as_nanos() }
    }

    fn broken(self) -> Option<String> {
        let Self { what, unit, left, right } = self;
        (left != right).then(|| format!("{what}: {left}{unit} is not {right}{unit}"))
    }
}
