//! The stretch after a release, until it shows whether the release was forced.
//!
//! A thread that gives way to a drop request wants the lock back all along, but that shows only when it asks for it; until
//! then it may be preempted for milliseconds, or sleep until another thread has the lock. A thread that releases by itself
//! while somebody asks for the lock sleeps in the same way, and then goes on to its own business. So the time after a
//! release is booked as outside, and noted here as the wait that it may turn out to be. It was one if the thread asks for
//! the lock again having yielded, or having been asked to, without any sleep of its own and after next to no computing.
//!
//! Whoever yields is woken by a step that another thread takes with the lock's mutexes locked. If the two share a CPU, the
//! woken one comes first, finds the mutexes locked and sleeps once or twice more. Such a sleep is told from one of its own
//! by two signs: the other thread has hardly run since its step, and the sleep is short.
//!
//! ```text
//! Released ──▶ yields ──▶ sleeps ──▶ wakes ──▶ wants     forced
//! Released ──▶ (asked to) ──────────────────▶ wants     forced
//! … wakes ──▶ sleeps for a mutex ──▶ wakes ─▶ wants     forced
//! Released ──▶ sleeps                                    by itself
//! Released ──▶ yields ──▶ sleeps ──▶ wakes ──▶ sleeps    by itself
//! Released ──▶ computes for long                         by itself
//! ```

use crate::{
    ledger::{
        apportion::apportion,
        blame::Pair,
        lock::{InHold, LockAccount},
        relation::Ownership,
        run_delay::Sleeps,
    },
    model::{
        event::{CpuSight, Pause},
        ids::{LockId, Tid},
        stack::StackId,
        state::{State, StateTimes},
        time::{MonoNanos, Nanos},
    },
};

/// Looks, one in 5 ms where nothing is in the way, of which one at the least hits a long sleep.
const LOOKS: usize = 10;

/// What giving way takes at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivingWayLimits {
    /// CPU time from the release to asking for the lock again; one that computes for longer has released by itself.
    pub computing: Nanos,
    /// CPU time after a step with the lock until the thread that took it has unlocked the lock's mutexes.
    pub step: Nanos,
    /// A sleep for such a mutex: it is free after microseconds, but the sleeper may then wait for a CPU.
    pub mutex_sleep: Nanos,
}

/// What may have been the beginning of a wait.
#[derive(Debug, Clone)]
pub(super) struct GivingWay {
    pub(super) lock: LockId,
    pub(super) since: MonoNanos,
    limits: GivingWayLimits,
    progress: Progress,
    /// Whether the last sleep was taken to be for a mutex.
    for_a_mutex: bool,
    /// As it was booked; `unresolved` for the part whose state is not known yet.
    pub(super) outside: StateTimes,
    pub(super) unresolved: Nanos,
    /// Time on a CPU that switches have told.
    computed: Nanos,
    /// Time of which no switch has told anything, and how long another thread has owned the lock.
    blind: Nanos,
    taken: Nanos,
    most_taken: Nanos,
    /// Its CPU time at the first look since.
    ran_before: Option<Nanos>,
    /// As it would be booked.
    pub(super) waiting: StateTimes,
    /// Sleeps during it of whose latency no reading has told yet.
    pub(super) sleeps: Sleeps,
    owners: Vec<(Tid, Nanos)>,
    /// Part of the time in which the lock was held and nobody else waited.
    alone: Nanos,
    /// Part of the time that belongs to the present hold.
    in_present_hold: InHold,
    /// What the hold that was released was filed under.
    held_at: Option<StackId>,
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

/// Whether a sleep after a release can be for one of the lock's mutexes: each step with the lock is taken, and its
/// consequences are drawn, while some of them are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contention {
    /// Nobody has taken a step since the release, and whoever it woke may be about to.
    Approaching,
    /// Another thread has hardly run since its last step.
    Stepping,
    /// The mutexes are free.
    None,
}

impl GivingWay {
    /// A thread has released `lock`, after a hold that was filed under `held_at`.
    pub(super) fn new(
        (lock, since): (LockId, MonoNanos),
        request: Request,
        held_at: Option<StackId>,
        limits: GivingWayLimits,
    ) -> Self {
        let progress = match request {
            Request::Made => Progress::Asked,
            Request::None => Progress::Unasked,
        };
        Self {
            lock,
            since,
            limits,
            progress,
            outside: StateTimes::default(),
            unresolved: Nanos::ZERO,
            computed: Nanos::ZERO,
            blind: Nanos::ZERO,
            taken: Nanos::ZERO,
            most_taken: limits.mutex_sleep,
            ran_before: None,
            waiting: StateTimes::default(),
            sleeps: Sleeps::default(),
            for_a_mutex: false,
            owners: Vec::new(),
            alone: Nanos::ZERO,
            in_present_hold: InHold::default(),
            held_at,
        }
    }

    /// The thread goes to sleep until another one has the lock.
    pub(super) fn on_yielded(&mut self) {
        self.progress = Progress::Yielding;
    }

    /// The thread goes to sleep; `false` when that shows the release to have been its own wish.
    pub(super) fn may_sleep(&mut self, contention: Contention) -> bool {
        let yields = self.progress == Progress::Yielding;
        if yields {
            self.progress = Progress::Woken;
        }
        // Whoever has been asked cannot go to a sleep of its own before it has yielded, or others have come first.
        self.for_a_mutex = !yields && contention == Contention::Stepping;
        match contention {
            Contention::Stepping => true,
            Contention::Approaching => yields || self.progress == Progress::Asked,
            Contention::None => yields,
        }
    }

    /// The thread has slept for so long; `false` when that was too long for a mutex.
    pub(super) fn may_have_slept(&self, time: Nanos) -> bool {
        !self.for_a_mutex || time <= self.limits.mutex_sleep
    }

    /// The sleeps whose latency is read now.
    pub(super) fn take_sleeps(&mut self) -> Sleeps {
        std::mem::take(&mut self.sleeps)
    }

    /// Notes a stretch that was booked as `outside` while the lock had this ownership.
    pub(super) fn note(&mut self, outside: Option<State>, ownership: Ownership, time: Nanos) {
        match outside {
            Some(state) => self.book(state, time),
            None => {
                self.unresolved += time;
                self.blind += time;
            }
        }
        self.waiting.add(ownership.wait_state(), time);
        let Ownership::By(owner) = ownership else {
            self.in_present_hold = InHold::default();
            return;
        };
        self.taken += time;
        match self.owners.last_mut().filter(|(last, _)| *last == owner) {
            Some((_, total)) => *total += time,
            None => self.owners.push((owner, time)),
        }
        self.in_present_hold.waited += time;
    }

    /// Notes that nobody else waited during a stretch in which the lock was held.
    pub(super) fn note_alone(&mut self, time: Nanos) {
        self.alone += time;
        self.in_present_hold.contended += time;
    }

    /// The part whose state was not known has turned out to be `state`.
    pub(super) fn resolve(&mut self, state: State) {
        let time = std::mem::take(&mut self.unresolved);
        self.blind = Nanos::ZERO;
        self.book(state, time);
    }

    /// The part whose state was not known has been inferred together with other time outside: `whole` in each state.
    pub(super) fn resolve_as(&mut self, whole: [(State, Nanos); 3]) {
        let own = std::mem::take(&mut self.unresolved);
        let parts = apportion(own, &whole.map(|(_, time)| time.as_nanos()));
        for ((state, most), part) in whole.into_iter().zip(parts) {
            self.outside.add(state, part.min(most));
        }
    }

    fn book(&mut self, state: State, time: Nanos) {
        self.outside.add(state, time);
        if state == State::OutsideRunning {
            self.computed += time;
        }
    }

    /// The thread is looked at now and then: a sleep for something else that is long would be seen.
    pub(super) fn looked_at(mut self) -> Self {
        self.most_taken = self.limits.mutex_sleep.times(LOOKS);
        self
    }

    /// The thread was looked at; `false` when that shows the release to have been its own wish.
    pub(super) fn may_be_seen(&mut self, sight: CpuSight) -> bool {
        let ran = sight.spent.map_or(Nanos::ZERO, |spent| spent.ran);
        let since = ran.saturating_sub(*self.ran_before.get_or_insert(ran));
        // The counter of a thread on a CPU lags behind by up to a tick.
        let straight = sight.pause != Pause::Elsewhere && since <= self.limits.mutex_sleep;
        if straight {
            self.taken = Nanos::ZERO;
        }
        straight
    }

    /// Whether the release was forced, now that the thread asks for the lock again. Where no switch tells whether it slept
    /// for something else, it has come straight from its yielding if no other thread has owned the lock for longer than
    /// waking up takes, or not since it was last seen not to sleep for something else.
    pub(super) fn was_forced(&self) -> bool {
        let straight = self.blind == Nanos::ZERO || self.taken <= self.most_taken;
        self.progress != Progress::Unasked && self.computed <= self.limits.computing && straight
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
        lock.forced_releases += 1;
        lock.book.count_forced(self.held_at);
        lock.confirm_forced(self.alone, self.in_present_hold);
    }
}
