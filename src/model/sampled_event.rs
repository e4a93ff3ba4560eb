//! An event that a recording samples, and what came of it: by class of states and stack, how much of it was counted.
//!
//! Invariant: the weights of all rows sum up to those of all samples taken.

use crate::model::{counts::GoneEvent, stack::StackId, state::StateClass, time::Nanos};

/// When a sample is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pace {
    /// Whenever the event has counted so much of a thread.
    Period(u64),
    /// So often a second while it counts, whatever that takes.
    Frequency(u32),
}

/// What an event's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventUnit {
    /// How often it has happened.
    Times,
    /// Nanoseconds.
    Nanos,
}

/// An event that is sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledEvent {
    /// As the user named it, unless this is another one in its place.
    pub name: String,
    /// What its numbers are.
    pub unit: EventUnit,
    /// When a sample is taken.
    pub pace: Pace,
    /// The event that the user named and that cannot be sampled here, if this one stands in for it.
    pub instead_of: Option<GoneEvent>,
}

/// What the ledger has booked of the samples.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventSums {
    /// How many samples there were.
    pub samples: u64,
    /// How many of them have no stack.
    pub without_stack: u64,
    /// Their weights, largest first.
    pub rows: Vec<EventRow>,
}

/// What samples of one class of states and one stack stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRow {
    /// What the thread was doing with respect to the locks.
    pub class: StateClass,
    /// Its stack.
    pub stack: StackId,
    /// How much the event had counted.
    pub weight: u64,
}

/// What came of sampling an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventProfile {
    /// Which event.
    pub event: SampledEvent,
    /// What its samples stand for.
    pub sums: EventSums,
    /// What the kernel has counted of all threads meanwhile, whether or not a sample was taken; `None` when that is not known.
    pub counted: Option<u64>,
}

impl EventSums {
    /// What all samples stand for.
    pub fn total(&self) -> u64 {
        self.rows.iter().fold(0, |sum, row| sum.saturating_add(row.weight))
    }

    /// What those of one class stand for.
    pub fn class(&self, class: StateClass) -> u64 {
        self.rows.iter().filter(|row| row.class == class).fold(0, |sum, row| sum.saturating_add(row.weight))
    }
}

impl EventUnit {
    /// An amount for people, where `count` writes numbers.
    pub fn shown(self, amount: u64, count: impl Fn(u64) -> String) -> String {
        match self {
            Self::Times => count(amount),
            Self::Nanos => Nanos::from_nanos(amount).to_string(),
        }
    }
}
