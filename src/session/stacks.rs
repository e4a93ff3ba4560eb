//! The one table of stacks of a recording, which the sampler and the sources share, and what stands in it for threads
//! without frames.
//!
//! The number of distinct stacks kept is bounded: past the bound they share one place holder.

use std::{cell::RefCell, rc::Rc};

use rustc_hash::FxHashMap;

use crate::{
    model::{
        recorded::RecordedStack,
        stack::{Frame, StackId, StackTable},
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    stack::{StackFailure, recorded::Resolver},
};

/// Frames of all distinct stacks kept; past it memory would grow with the length of the recording.
const FRAMES_KEPT: usize = 1 << 20;
/// Recorded stacks remembered at a time.
const REMEMBERED: usize = 20_000;
/// How long a recorded stack is taken for the same as before without looking again at its code objects.
const TRUSTED: Nanos = Nanos::from_millis(20);

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
        Err(StackFailure::Torn | StackFailure::Unreadable) => None,
    }
}

/// The stack that stands in where none was read.
pub(super) fn no_stack(stacks: &mut StackTable) -> StackId {
    stacks.intern(&[Frame::marker("no stack read")])
}

/// Puts recorded stacks into the table.
#[derive(Debug)]
pub(super) struct Recorder {
    resolver: Resolver,
    stacks: SharedStacks,
    known: FxHashMap<RecordedStack, Known>,
}

#[derive(Debug)]
struct Known {
    stack: StackId,
    trusted_until: MonoNanos,
}

impl Recorder {
    pub(super) fn new(resolver: Resolver, stacks: SharedStacks) -> Self {
        Self { resolver, stacks, known: FxHashMap::default() }
    }

    /// The place of `recorded`; `None` when it cannot be believed.
    pub(super) fn record(&mut self, recorded: &RecordedStack) -> Option<StackId> {
        let now = clock::now();
        if let Some(known) = self.known.get(recorded).filter(|known| now < known.trusted_until) {
            return Some(known.stack);
        }
        let stack = keep(self.resolver.resolve(recorded), &mut self.stacks.borrow_mut())?;
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(recorded.clone(), Known { stack, trusted_until: now.later_by(TRUSTED) });
        Some(stack)
    }
}
