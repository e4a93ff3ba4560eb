//! What a stream passes on: records about watched processes, with what counters said at them.
//!
//! Invariant: no two groups of counters that there have been have the same place.

use crate::{
    model::{
        ids::{Pid, Tid},
        time::MonoNanos,
    },
    perf::{reading::GroupReading, record::Body},
};

/// A record about a watched process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub at: MonoNanos,
    /// In which process; for [`Body::Lost`] the first one.
    pub pid: Pid,
    /// In which thread; for [`Body::Lost`] the process's first, since a loss belongs to no thread.
    pub tid: Tid,
    /// What.
    pub body: Body,
    /// The number of the probe that was hit, or of the word that was written to.
    pub probe: Option<usize>,
    /// What was counted of the thread until then, if that is measured.
    pub reading: Option<Box<PlacedReading>>,
}

/// What a group of counters says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedReading {
    /// The number of the groups that were opened together.
    pub group: usize,
    /// Which of them it is: by the place of its CPU among all.
    pub cpu: usize,
    /// What it says.
    pub said: GroupReading,
}

impl PlacedReading {
    /// More CPUs than there are.
    const CPUS: usize = 1 << 16;

    /// A number for the group, of all that there have been.
    pub fn place(&self) -> usize {
        self.group * Self::CPUS + self.cpu
    }

    /// The number of the groups that a place belongs to.
    pub fn group_of(place: usize) -> usize {
        place / Self::CPUS
    }
}
