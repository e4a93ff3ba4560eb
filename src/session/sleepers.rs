//! Stacks of threads that sleep, with what they sleep for: the kernel's work, and native frames if they are wanted.
//!
//! A sleeping thread changes nothing, so it can be read from outside piece by piece. That it slept all the while is confirmed
//! afterwards; else there is no stack.

use crate::{
    model::{ids::Tid, stack::Frame},
    native::stacks::kernel_frame,
    session::joiner::{Moment, SharedJoiner},
    stack::{Motion, StackFailure, plain, reader::StackReader},
    target::{
        discover::Target,
        memory::{MemoryError, ProcessMemory},
        parked::{Parked, ParkedThreads},
    },
};

/// Reads sleeping threads of one target.
#[derive(Debug)]
pub(super) struct Sleepers {
    parked: ParkedThreads,
    memory: ProcessMemory,
    joiner: Option<SharedJoiner>,
}

impl Sleepers {
    pub(super) fn of(target: &Target, joiner: Option<SharedJoiner>) -> Result<Self, MemoryError> {
        let (parked, memory) = (ParkedThreads::of(target.pid), ProcessMemory::open(target.pid)?);
        Ok(Self { parked, memory, joiner })
    }

    /// The stack of `tid` as it is now, running or not: without native frames, which cannot be read of a thread that runs.
    pub(super) fn read_any(&mut self, tid: Tid, reader: &mut StackReader) -> Result<Vec<Frame>, StackFailure> {
        match &self.joiner {
            Some(joiner) => joiner.borrow_mut().leave_apart(reader.read_script(tid, Motion::Moving)),
            None => reader.read(tid, Motion::Moving),
        }
    }

    /// The whole stack of `tid`; `None` if it does not sleep, or woke up meanwhile.
    pub(super) fn read(&mut self, tid: Tid, reader: &mut StackReader) -> Option<Result<Vec<Frame>, StackFailure>> {
        let parked = self.parked.look(tid)?;
        let script = reader.read_script(tid, Motion::Moving);
        let state = self.joiner.as_ref().map(|_| parked.machine_state(&self.memory));
        if self.parked.look(tid) != Some(parked) {
            return None;
        }
        Some(match (&self.joiner, state) {
            (Some(joiner), Some(state)) => joiner.borrow_mut().join((&state, Moment::Same), script),
            _ => script.map(|script| with_kernel(plain(script), parked)),
        })
    }
}

fn with_kernel(mut frames: Vec<Frame>, parked: Parked) -> Vec<Frame> {
    frames.extend(kernel_frame(parked.work));
    frames
}
