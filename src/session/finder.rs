//! The target's locks, read afresh whenever a source meets a condition variable it does not know.

use crate::{
    source::calls::FindLocks,
    target::{
        discover::Target,
        lock::LockSeat,
        memory::{MemoryError, ProcessMemory},
    },
};

/// Reads the locks of a live target.
#[derive(Debug)]
pub(super) struct LiveLocks {
    target: Target,
    memory: ProcessMemory,
}

impl LiveLocks {
    pub(super) fn of(target: &Target) -> Result<Self, MemoryError> {
        Ok(Self { target: target.clone(), memory: ProcessMemory::open(target.pid)? })
    }
}

impl FindLocks for LiveLocks {
    fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
        self.target.locks(&self.memory).ok()
    }
}

/// The locks of a process that was forked, or is over: those that its parent had. The memory of both is laid out alike.
#[derive(Debug)]
pub(super) struct InheritedLocks(pub(super) Vec<LockSeat>);

impl FindLocks for InheritedLocks {
    fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
        Some(self.0.clone())
    }
}
