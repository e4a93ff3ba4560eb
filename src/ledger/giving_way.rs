//! The stretch after a release, until it shows whether the release was forced.
//!
//! A thread that gives way to a drop request wants the lock back all along, but that shows only when it asks for it; until
//! then it may be preempted for milliseconds, or sleep until another thread has the lock. A thread that releases by itself
//! while somebody asks for the lock sleeps in the same way, and then goes on to its own business. So the time after a
//! release is booked as outside, and noted here as the wait that it may turn out to be. It was one if the thread asks for
//! the lock again having yielded, or having been asked to, without any other sleep and after next to no computing.
//!
//! ```text
//! Released ──▶ yields ──▶ sleeps ──▶ wakes ──▶ wants     forced
//! Released ──▶ (asked to) ──────────────────▶ wants     forced
//! Released ──▶ sleeps                                    by itself
//! Released ──▶ yields ──▶ sleeps ──▶ wakes ──▶ sleeps    by itself
//! Released ──▶ computes for long                         by itself
//! ```

use crate::{
    ledger::{blame::Pair, lock::LockAccount, thread::Ownership},
    model::{
        ids::{LockId, Tid},
        state::{State, StateTimes},
        time::{MonoNanos, Nanos},
    },
};

/// What may have been the beginning of a wait.
#[derive(Debug)]
pub(super) struct GivingWay {
    pub(super) lock: LockId,
    pub(super) since: MonoNanos,
    progress: Progress,
    /// As it was booked; `unresolved` for the part whose state is not known yet.
    pub(super) outside: StateTimes,
    pub(super) unresolved: Nanos,
    /// As it would be booked.
    pub(super) waiting: StateTimes,
    owners: Vec<(Tid, Nanos)>,
    /// Part of the time in which the lock was held and nobody else waited.
    alone: Nanos,
    /// Part of the time that belongs to the present hold.
    in_present_hold: Nanos,
}

/// How far it has come since the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nobody had asked for the lock.
    Unasked,
    /// A waiter had asked for the lock before the release.
    Asked,
    /// It yields: it may sleep until another thread has the lock.
    Yielding,
    /// It has slept as one that yields does.
    Woken,
}

/// Whether a waiter had asked for the lock when it was released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Made,
    None,
}

impl GivingWay {
    pub(super) fn new(lock: LockId, since: MonoNanos, request: Request) -> Self {
        let progress = match request {
            Request::Made => Progress::Asked,
            Request::None => Progress::Unasked,
        };
        Self {
            lock,
            since,
            progress,
            outside: StateTimes::default(),
            unresolved: Nanos::ZERO,
            waiting: StateTimes::default(),
            owners: Vec::new(),
            alone: Nanos::ZERO,
            in_present_hold: Nanos::ZERO,
        }
    }

    /// The thread goes to sleep until another one has the lock.
    pub(super) fn on_yielded(&mut self) {
        self.progress = Progress::Yielding;
    }

    /// The thread goes to sleep; `false` when that shows the release to have been its own wish.
    pub(super) fn may_sleep(&mut self) -> bool {
        let yielding = self.progress == Progress::Yielding;
        self.progress = Progress::Woken;
        yielding
    }

    /// Notes a stretch that was booked as `outside` while the lock had this ownership.
    pub(super) fn note(&mut self, outside: Option<State>, ownership: Ownership, time: Nanos) {
        match outside {
            Some(state) => self.outside.add(state, time),
            None => self.unresolved += time,
        }
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

    /// The part whose state was not known has turned out to be `state`.
    pub(super) fn resolve(&mut self, state: State) {
        let time = std::mem::take(&mut self.unresolved);
        self.outside.add(state, time);
    }

    /// Whether the release was forced, now that the thread asks for the lock again. `longest_computing` is what giving
    /// way and asking again may take at the most.
    pub(super) fn was_forced(&self, longest_computing: Nanos) -> bool {
        self.progress != Progress::Unasked && self.outside.get(State::OutsideRunning) <= longest_computing
    }

    /// The owners during it, each with the time it owned the lock.
    pub(super) fn blame(&self, waiter: Tid) -> impl Iterator<Item = (Pair, Nanos)> + '_ {
        self.owners.iter().map(move |(holder, time)| (Pair::of(self.lock, waiter, *holder), *time))
    }

    /// It was a wait: books on the lock what was noted.
    pub(super) fn confirm(&self, lock: &mut LockAccount) {
        lock.blamed += self.waiting.get(State::WaitQueued);
        lock.handoff += self.waiting.get(State::WaitHandoff);
        lock.wait_unknown += self.waiting.get(State::Unknown);
        lock.contended += self.alone;
        lock.forced_releases += 1;
        lock.add_to_hold(self.in_present_hold);
    }
}
