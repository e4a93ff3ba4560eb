//! Which amounts of a thread and of a lock are read at the edges of windows, and what is estimated from each.
//!
//! Invariant: an amount is estimated from the place in which it was read.

use crate::{
    estimate::Parts,
    ledger::{
        lock::LockAccount,
        thread::ThreadAccount,
        windows::account::{Account, Reading, signed},
    },
    model::{
        estimate::{ClassEstimate, Estimate, LockEstimate, StateEstimate, ThreadEstimate},
        ids::{LockId, Tid},
        state::{State, StateClass},
        time::Nanos,
    },
};

/// The classes that are estimated.
const CLASSES: [StateClass; 3] = [StateClass::Inside, StateClass::Waiting, StateClass::Outside];
/// The states that are estimated: all but `unknown`.
const STATES: usize = State::ALL.len() - 1;
pub(super) const OF_THREAD: usize = STATES + CLASSES.len();
/// Held, contended, waited, holds, waits.
pub(super) const OF_LOCK: usize = 5;

pub(super) fn reading_of_lock(lock: &LockAccount, seen: Nanos) -> Reading<OF_LOCK> {
    let waited = lock.blamed + lock.handoff + lock.wait_unknown;
    let [held, contended, waited] = [lock.ownerships.held, lock.contended, waited].map(signed);
    let [acquired, wanted] = [lock.acquired, lock.wanted].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let probed = [lock.probed.held, lock.probed.contended, lock.probed.waited, Nanos::ZERO, Nanos::ZERO];
    Reading {
        amounts: [held, contended, waited, acquired, wanted],
        seen,
        unknown: lock.ownerships.unknown,
        probed: probed.map(signed),
        probed_seen: signed(lock.ownerships.probed),
    }
}

pub(super) fn reading_of_thread(thread: &ThreadAccount) -> Reading<OF_THREAD> {
    let [inside, waiting, outside] = thread.probed;
    // A thread in a probe is on a CPU; whoever waits for it waits in a queue.
    let probed_in = |state| match state {
        State::HeldRunning => inside,
        State::WaitQueued => waiting,
        State::OutsideRunning => outside,
        _ => Nanos::ZERO,
    };
    Reading {
        amounts: amounts(|state| thread.times.get(state), thread.unresolved()),
        seen: thread.charged_until.saturating_since(thread.first_seen),
        unknown: thread.times.get(State::Unknown),
        probed: amounts(probed_in, [Nanos::ZERO; 2]),
        probed_seen: thread.probed.into_iter().map(signed).sum(),
    }
}

/// Each state, and each class; the time inside and outside whose state is not yet known belongs to a class all the same.
pub(super) fn amounts(time_in: impl Fn(State) -> Nanos, unresolved: [Nanos; 2]) -> [i64; OF_THREAD] {
    let mut amounts = [0; OF_THREAD];
    for (state, amount) in State::ALL.iter().take(STATES).zip(&mut amounts) {
        *amount = signed(time_in(*state));
    }
    let [inside, outside] = unresolved;
    for ((class, more), place) in CLASSES.iter().zip([inside, Nanos::ZERO, outside]).zip(STATES..) {
        let states = State::ALL.iter().filter(|state| state.class() == *class);
        amounts[place] = signed(states.map(|state| time_in(*state)).sum::<Nanos>() + more);
    }
    amounts
}

/// The time among `rest`, which is no longer than that: what is left of it without probes may seem to be, since theirs is known
/// on average.
fn share_of(parts: &Parts, rest: Nanos) -> Option<Estimate<Nanos>> {
    parts.time_in(rest).map(|time| Estimate { value: time.value.min(rest), ..time })
}

impl Account<OF_THREAD> {
    pub(super) fn estimate(&self, tid: Tid, lifetime: Nanos) -> ThreadEstimate {
        let (classes, states) = if self.is_estimable() {
            (self.classes(lifetime), self.states(lifetime))
        } else {
            (Vec::new(), Vec::new())
        };
        ThreadEstimate { tid, classes, states }
    }

    pub(super) fn classes(&self, lifetime: Nanos) -> Vec<ClassEstimate> {
        let of = |(index, class): (usize, &StateClass)| {
            Some(ClassEstimate { class: *class, time: self.time(STATES + index, lifetime, share_of)? })
        };
        CLASSES.iter().enumerate().filter_map(of).collect()
    }

    fn states(&self, lifetime: Nanos) -> Vec<StateEstimate> {
        let of = |(index, state): (usize, &State)| {
            Some(StateEstimate { state: *state, time: self.time(index, lifetime, share_of)? })
        };
        State::ALL.iter().take(STATES).enumerate().filter_map(of).collect()
    }
}

impl Account<OF_LOCK> {
    pub(super) fn estimate(&self, lock: LockId, whole: Nanos) -> LockEstimate {
        let whole = whole.saturating_sub(self.born);
        let (time, count) = (|index| self.time(index, whole, share_of), |index| self.count(index, whole));
        let nothing = LockEstimate { lock, held: None, contended: None, waited: None, holds: None, waits: None };
        if !self.is_estimable() {
            return nothing;
        }
        LockEstimate {
            held: time(0),
            contended: time(1),
            waited: self.time(2, whole, Parts::times_in),
            holds: count(3),
            waits: count(4),
            ..nothing
        }
    }
}
