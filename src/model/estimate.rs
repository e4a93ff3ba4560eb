//! What was estimated from a part of the time, beside what is exact.
//!
//! An estimate has an interval that contains the true amount 95 times in 100. It never replaces an exact number and is never
//! added to one.

use crate::model::{
    ids::{LockId, Tid},
    state::{State, StateClass},
    time::Nanos,
};

/// An amount with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate<T> {
    /// The likeliest amount.
    pub value: T,
    /// The lower end of the interval.
    pub low: T,
    /// The upper end of the interval.
    pub high: T,
}

/// Everything that a recording estimates rather than knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimates {
    /// How the observed part was chosen.
    pub method: Method,
    /// Parts that were observed apart from each other: windows, or runs of looks.
    pub parts: u64,
    /// Their length together.
    pub observed: Nanos,
    /// All threads together, over their lifetimes.
    pub total: Vec<ClassEstimate>,
    /// One entry a thread.
    pub threads: Vec<ThreadEstimate>,
    /// One entry a lock.
    pub locks: Vec<LockEstimate>,
}

/// How the observed part of the time was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The lock and the threads were looked at this often a second, at jittered moments.
    Looks {
        /// Looks a second, as achieved.
        rate: u32,
    },
    /// Every event was taken in windows that began at random moments.
    Windows,
}

/// Time spent in one class of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassEstimate {
    /// The class.
    pub class: StateClass,
    /// The time.
    pub time: Estimate<Nanos>,
}

/// Time spent in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateEstimate {
    /// The state.
    pub state: State,
    /// The time.
    pub time: Estimate<Nanos>,
}

/// One thread over its observed life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadEstimate {
    /// Which.
    pub tid: Tid,
    /// Inside, waiting, outside; a class that could not be observed is missing.
    pub classes: Vec<ClassEstimate>,
    /// The states likewise.
    pub states: Vec<StateEstimate>,
}

/// One lock over the whole window; `None`: not observed in this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockEstimate {
    /// Which.
    pub lock: LockId,
    /// Time it had an owner.
    pub held: Option<Estimate<Nanos>>,
    /// The part of it during which others waited.
    pub contended: Option<Estimate<Nanos>>,
    /// The sum of all waits for it.
    pub waited: Option<Estimate<Nanos>>,
    /// Holds that began.
    pub holds: Option<Estimate<u64>>,
    /// Waits that began.
    pub waits: Option<Estimate<u64>>,
}
