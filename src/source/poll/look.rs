//! One look at the whole target.

use crate::{
    model::{
        event::{CpuSight, SeenRelation},
        ids::Tid,
        time::MonoNanos,
    },
    target::lock::LockSeat,
};

/// What one look saw.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// When the locks' words were read.
    pub(super) at: MonoNanos,
    /// Who owned each lock, by number.
    pub(super) owners: Vec<Owner>,
    /// The threads looked at; all, unless there are very many.
    pub(super) seen: Vec<ThreadSight>,
    /// Those that have ended since the look before.
    pub(super) gone: Vec<Tid>,
    /// Names that are new.
    pub(super) names: Vec<(Tid, Box<str>)>,
    /// Locks that are new, in the order of their numbers.
    pub(super) seats: Vec<LockSeat>,
}

/// Who owned a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    Thread(Tid),
    /// Somebody who could not be found, or the words could not be read.
    Unknown,
}

impl Owner {
    pub(super) fn thread(self) -> Option<Tid> {
        match self {
            Self::Thread(tid) => Some(tid),
            Self::Nobody | Self::Unknown => None,
        }
    }
}

/// What was seen of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ThreadSight {
    pub(super) tid: Tid,
    pub(super) relation: Relation,
    pub(super) cpu: CpuSight,
    /// Whether it has hardly run since its relation was first pending.
    pub(super) straight: bool,
}

/// What a look tells of a thread's relation to the locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// All that it can; `None`: nothing.
    Settled(Option<SeenRelation>),
    /// Outside, or waiting: a later look will tell.
    Pending,
}
