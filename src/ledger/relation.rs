//! What a thread can have to do with a lock, and what is known of the lock that it waits for.
//!
//! Invariant: a thread has one relation at a time, and each belongs to one class of states.

use crate::{
    ledger::windows::Extent,
    model::{
        ids::{LockId, Tid},
        stack::StackId,
        state::{State, StateClass},
        time::{MonoNanos, Nanos},
    },
};

/// A thread's relation to the locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// No evidence yet, or none since events were lost.
    Unknown,
    /// Neither owns nor wants a lock.
    Outside,
    /// Wants this lock.
    Waiting(Wait),
    /// Owns this lock.
    Inside(LockId),
}

/// In sums by class.
pub(super) const WAITING: usize = 1;

impl Relation {
    /// The class of states in which the thread is.
    pub(super) const fn class(self) -> StateClass {
        match self {
            Self::Inside(_) => StateClass::Inside,
            Self::Waiting(_) => StateClass::Waiting,
            Self::Outside => StateClass::Outside,
            Self::Unknown => StateClass::Unknown,
        }
    }

    /// Its place in sums by class: inside, waiting, outside.
    pub(super) const fn place(self) -> Option<usize> {
        match self.class() {
            StateClass::Inside => Some(0),
            StateClass::Waiting => Some(WAITING),
            StateClass::Outside => Some(2),
            StateClass::Unknown => None,
        }
    }
}

/// A wait that is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) lock: LockId,
    pub(super) began: MonoNanos,
    pub(super) extent: Extent,
    /// Parts charged so far.
    pub(super) queued: Nanos,
    pub(super) handoff: Nanos,
    /// The lock's account when they were charged last.
    pub(super) seen: Ownerships,
    /// When it last began to sleep for a switch interval.
    pub(super) last_slice: Option<MonoNanos>,
    /// The waiter's stack, and when reading it ended.
    pub(super) stack: Option<(StackId, MonoNanos)>,
}

/// Who owns the lock that a thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ownership {
    Unknown,
    Free,
    By(Tid),
}

impl Ownership {
    /// The state of a thread that waits for a lock with this ownership.
    pub(super) const fn wait_state(self) -> State {
        match self {
            Self::By(_) => State::WaitQueued,
            Self::Free => State::WaitHandoff,
            Self::Unknown => State::Unknown,
        }
    }
}

/// How long a lock has been held by anybody, free, and of unknown ownership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ownerships {
    pub(super) held: Nanos,
    pub(super) free: Nanos,
    pub(super) unknown: Nanos,
    /// Time that threads have spent in probes at steps with it.
    pub(super) probed: Nanos,
}

impl Ownerships {
    /// What has come since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            held: self.held.saturating_sub(earlier.held),
            free: self.free.saturating_sub(earlier.free),
            unknown: self.unknown.saturating_sub(earlier.unknown),
            probed: self.probed.saturating_sub(earlier.probed),
        }
    }
}
