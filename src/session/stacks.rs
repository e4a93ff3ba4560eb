//! The one table of stacks of a recording, which the sampler and the sources share, and what stands in it for threads
//! without frames.
//!
//! The number of distinct stacks kept is bounded: past the bound they share one place holder.

use std::{cell::RefCell, rc::Rc};

use crate::{
    model::stack::{Frame, StackId, StackTable},
    stack::StackFailure,
};

/// Frames of all distinct stacks kept; past it memory would grow with the length of the recording.
const FRAMES_KEPT: usize = 1 << 20;

/// A table that several parts of one recording fill.
pub(super) type SharedStacks = Rc<RefCell<StackTable>>;

/// Where the stack of a wait comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitStacks {
    /// It is read from outside once the wait is seen.
    Read,
    /// The source brings it with the wait.
    Brought,
}

/// The place of what was read; `None` for a failure.
pub(super) fn keep(read: Result<Vec<Frame>, StackFailure>, stacks: &mut StackTable) -> Option<StackId> {
    match read {
        Ok(frames) => {
            let known = stacks.intern_within(&frames, FRAMES_KEPT);
            Some(known.unwrap_or_else(|| stacks.intern(&[Frame::marker("too many different stacks")])))
        }
        // Both are answers: a thread that is starting or ending, or that C code made for itself.
        Err(StackFailure::NoFrames) => Some(stacks.intern(&[Frame::marker("no script frames")])),
        Err(StackFailure::UnknownThread) => Some(stacks.intern(&[Frame::marker("not in the interpreter")])),
        Err(StackFailure::Torn | StackFailure::Unreadable | StackFailure::OldList) => None,
    }
}

/// The stack that stands in where none was read.
pub(super) fn no_stack(stacks: &mut StackTable) -> StackId {
    stacks.intern(&[Frame::marker("no stack read")])
}
