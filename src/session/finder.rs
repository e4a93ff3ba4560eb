//! The target's locks, read afresh whenever a source meets a condition variable it does not know.

use crate::{
    source::{calls::FindLocks, parking::ParkReader},
    target::{
        discover::Target,
        lock::LockSeat,
        memory::{Memory, MemoryError, ProcessMemory},
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

    fn looks_like(&mut self, seat: &LockSeat) -> bool {
        // What was a lock a moment ago has kept the interval, which interpreters inherit.
        let main = self.target.locks(&self.memory).ok().and_then(|locks| locks.into_iter().next());
        let interval = |seat: &LockSeat| self.memory.read_u64(seat.address.plus(seat.layout.interval)).ok();
        main.as_ref().and_then(interval).is_some_and(|known| interval(seat) == Some(known))
    }
}

/// What makes out the sleeps of the target's threads, where it is a free-threaded build and can be read.
pub(super) fn park_reader(target: &Target) -> Option<ParkReader> {
    let memory = target.is_free_threaded().then(|| ProcessMemory::open(target.pid).ok())??;
    let target = target.clone();
    Some(ParkReader::new(Box::new(move || target.interpreters(&memory))))
}

/// The locks of a process that was forked, or is over: those that its parent had. The memory of both is laid out alike.
#[derive(Debug)]
pub(super) struct InheritedLocks(pub(super) Vec<LockSeat>);

impl FindLocks for InheritedLocks {
    fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
        Some(self.0.clone())
    }
}
