//! The nine states: every nanosecond of every thread is in exactly one of them.

use std::fmt;

use crate::model::time::Nanos;

/// What a thread is doing with respect to the global lock and the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Owns the lock, on a CPU.
    HeldRunning,
    /// Owns the lock, runnable, without a CPU.
    HeldPreempted,
    /// Owns the lock, asleep in the kernel.
    HeldBlocked,
    /// Wants the lock while another thread owns it.
    WaitQueued,
    /// Wants the lock while nobody owns it: wake-up and run-queue latency between release and acquire.
    WaitHandoff,
    /// Neither owns nor wants the lock, on a CPU.
    OutsideRunning,
    /// Neither owns nor wants the lock, runnable, without a CPU.
    OutsidePreempted,
    /// Neither owns nor wants the lock, asleep.
    OutsideBlocked,
    /// Before the first evidence, or after lost events; never guessed.
    Unknown,
}

/// The three classes over which counters and headlines are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateClass {
    /// The three `held_*` states.
    Inside,
    /// The two `wait_*` states.
    Waiting,
    /// The three `outside_*` states.
    Outside,
    /// The state `unknown`.
    Unknown,
}

impl State {
    /// All states in their customary order.
    pub const ALL: [Self; 9] = [
        Self::HeldRunning,
        Self::HeldPreempted,
        Self::HeldBlocked,
        Self::WaitQueued,
        Self::WaitHandoff,
        Self::OutsideRunning,
        Self::OutsidePreempted,
        Self::OutsideBlocked,
        Self::Unknown,
    ];

    /// The name used in JSON and in pictures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HeldRunning => "held_running",
            Self::HeldPreempted => "held_preempted",
            Self::HeldBlocked => "held_blocked",
            Self::WaitQueued => "wait_queued",
            Self::WaitHandoff => "wait_handoff",
            Self::OutsideRunning => "outside_running",
            Self::OutsidePreempted => "outside_preempted",
            Self::OutsideBlocked => "outside_blocked",
            Self::Unknown => "unknown",
        }
    }

    /// The class this state belongs to.
    pub const fn class(self) -> StateClass {
        match self {
            Self::HeldRunning | Self::HeldPreempted | Self::HeldBlocked => StateClass::Inside,
            Self::WaitQueued | Self::WaitHandoff => StateClass::Waiting,
            Self::OutsideRunning | Self::OutsidePreempted | Self::OutsideBlocked => StateClass::Outside,
            Self::Unknown => StateClass::Unknown,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::HeldRunning => 0,
            Self::HeldPreempted => 1,
            Self::HeldBlocked => 2,
            Self::WaitQueued => 3,
            Self::WaitHandoff => 4,
            Self::OutsideRunning => 5,
            Self::OutsidePreempted => 6,
            Self::OutsideBlocked => 7,
            Self::Unknown => 8,
        }
    }
}

impl StateClass {
    /// All classes in their customary order.
    pub const ALL: [Self; 4] = [Self::Inside, Self::Waiting, Self::Outside, Self::Unknown];

    /// The name used in JSON and in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Waiting => "waiting",
            Self::Outside => "outside",
            Self::Unknown => "unknown",
        }
    }

    pub(in crate::model) const fn index(self) -> usize {
        match self {
            Self::Inside => 0,
            Self::Waiting => 1,
            Self::Outside => 2,
            Self::Unknown => 3,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A duration for each of the nine states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateTimes([Nanos; 9]);

impl StateTimes {
    /// The time spent in `state`.
    pub fn get(&self, state: State) -> Nanos {
        self.0[state.index()]
    }

    /// Adds `time` to `state`.
    pub fn add(&mut self, state: State, time: Nanos) {
        self.0[state.index()] += time;
    }

    /// Takes at most `time` out of `state`.
    pub fn take(&mut self, state: State, time: Nanos) {
        self.0[state.index()] = self.get(state).saturating_sub(time);
    }

    /// Moves at most `time` from one state to another and returns what was moved.
    pub fn shift(&mut self, from: State, to: State, time: Nanos) -> Nanos {
        let moved = time.min(self.get(from));
        self.0[from.index()] = self.get(from).saturating_sub(moved);
        self.add(to, moved);
        moved
    }

    /// The sum over all nine states.
    pub fn total(&self) -> Nanos {
        self.0.iter().copied().sum()
    }

    /// The sum over the states of one class.
    pub fn class(&self, class: StateClass) -> Nanos {
        State::ALL.iter().filter(|state| state.class() == class).map(|state| self.get(*state)).sum()
    }

    /// Each state with its time, in customary order.
    pub fn iter(&self) -> impl Iterator<Item = (State, Nanos)> + '_ {
        State::ALL.iter().map(|state| (*state, self.get(*state)))
    }
}

#[cfg(test)]
mod tests {
    use super::{State, StateClass, StateTimes};
    use crate::model::time::Nanos;

    #[test]
    fn every_state_has_its_own_slot_and_the_classes_cover_them() {
        let mut times = StateTimes::default();
        for (nanos, state) in (1..).zip(State::ALL) {
            times.add(state, Nanos::from_nanos(nanos));
        }
        assert_eq!(times.total(), Nanos::from_nanos(45));
        assert_eq!(times.class(StateClass::Inside), Nanos::from_nanos(6));
        assert_eq!(times.class(StateClass::Waiting), Nanos::from_nanos(9));
        assert_eq!(times.class(StateClass::Outside), Nanos::from_nanos(21));
        assert_eq!(times.class(StateClass::Unknown), Nanos::from_nanos(9));
    }

    #[test]
    fn a_shift_never_moves_more_than_there_is() {
        let mut times = StateTimes::default();
        times.add(State::HeldBlocked, Nanos::from_nanos(5));
        let moved = times.shift(State::HeldBlocked, State::HeldPreempted, Nanos::from_nanos(9));
        assert_eq!(moved, Nanos::from_nanos(5));
        assert_eq!(times.get(State::HeldPreempted), Nanos::from_nanos(5));
        assert_eq!(times.get(State::HeldBlocked), Nanos::ZERO);
    }
}
