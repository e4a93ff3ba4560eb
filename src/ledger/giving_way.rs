//! The stretch between a release and the yield that shows it to have been forced.
//!
//! A thread that gives way to a drop request wants the lock back all along, but that shows only when it goes to sleep
//! until another thread has the lock; before that it may be preempted for milliseconds. Until then the time is booked as
//! outside, and noted here as the wait that it may turn out to be. Going to sleep for any other reason, or any other step
//! with the lock, shows that the release was voluntary.

use crate::{
    ledger::{blame::Pair, lock::LockAccount, thread::Ownership},
    model::{
        ids::{LockId, Tid},
        state::{State, StateTimes},
        time::{MonoNanos, Nanos},
    },
};

/// What would have been a wait.
#[derive(Debug)]
pub(super) struct GivingWay {
    pub(super) lock: LockId,
    pub(super) since: MonoNanos,
    /// As it was booked.
    pub(super) outside: StateTimes,
    /// As it would be booked.
    pub(super) waiting: StateTimes,
    owners: Vec<(Tid, Nanos)>,
    /// Part of the time in which the lock was held and nobody else waited.
    alone: Nanos,
    /// Part of the time that belongs to the present hold.
    in_present_hold: Nanos,
}

impl GivingWay {
    pub(super) fn new(lock: LockId, since: MonoNanos) -> Self {
        Self {
            lock,
            since,
            outside: StateTimes::default(),
            waiting: StateTimes::default(),
            owners: Vec::new(),
            alone: Nanos::ZERO,
            in_present_hold: Nanos::ZERO,
        }
    }

    /// Notes a stretch that was booked as `outside` while the lock had this ownership.
    pub(super) fn note(&mut self, outside: State, ownership: Ownership, time: Nanos) {
        self.outside.add(outside, time);
        self.waiting.add(ownership.wait_state(), time);
        let Ownership::By(owner) = ownership else {
            self.in_present_hold = Nanos::ZERO;
            return;
        };
        match self.owners.last_mut().filter(|(last, _)| *last == owner) {
            Some((_, total)) => *total += time,
            None => self.owners.push((owner, time)),
        }
        self.in_present_hold += time;
    }

    /// Notes that nobody else waited during a stretch in which the lock was held.
    pub(super) fn note_alone(&mut self, time: Nanos) {
        self.alone += time;
    }

    /// The owners during it, each with the time it owned the lock.
    pub(super) fn blame(&self, waiter: Tid) -> impl Iterator<Item = (Pair, Nanos)> + '_ {
        self.owners.iter().map(move |(holder, time)| (Pair { lock: self.lock, waiter, holder: *holder }, *time))
    }

    /// It was a wait: books on the lock what was noted.
    pub(super) fn confirm(&self, lock: &mut LockAccount) {
        lock.blamed += self.waiting.get(State::WaitQueued);
        lock.handoff += self.waiting.get(State::WaitHandoff);
        lock.wait_unknown += self.waiting.get(State::Unknown);
        lock.contended += self.alone;
        lock.add_to_hold(self.in_present_hold);
    }
}
