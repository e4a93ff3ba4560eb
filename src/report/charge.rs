//! Which stack each nanosecond is charged to. The invariant: for every thread and state the parts sum to the whole,
//! whatever the stacks cover; the rest is charged to `[no stack]`.

use std::sync::LazyLock;

use crate::model::{
    ids::LockId,
    profile::ThreadProfile,
    stack::{Frame, FrameKind, StackId, StackTable},
    state::State,
    time::Nanos,
};

static NO_STACK: LazyLock<Frame> = LazyLock::new(|| Frame::marker("no stack"));

/// Part of one thread's time in one state; no stack means that none is known for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) state: State,
    pub(super) lock: Option<LockId>,
    pub(super) stack: Option<StackId>,
    pub(super) time: Nanos,
}

/// The whole life of `thread` in parts.
pub(super) fn charges(thread: &ThreadProfile) -> impl Iterator<Item = Charge> + '_ {
    let known = thread.stacks.iter().map(|part| Charge {
        state: part.state,
        lock: part.lock,
        stack: Some(part.stack),
        time: part.time,
    });
    let rest = thread.states.iter().map(|(state, time)| {
        let covered = thread.stacks.iter().filter(|part| part.state == state).map(|part| part.time).sum();
        Charge { state, lock: None, stack: None, time: time.saturating_sub(covered) }
    });
    known.chain(rest).filter(|charge| charge.time > Nanos::ZERO)
}

/// The frames of `stack`, outermost first; never empty.
pub(super) fn frames_of(stacks: &StackTable, stack: Option<StackId>) -> Vec<&Frame> {
    let frames: Vec<&Frame> = stack.map(|stack| stacks.frames(stack).collect()).unwrap_or_default();
    if frames.is_empty() { vec![&NO_STACK] } else { frames }
}

/// The function to charge: the innermost one of the interpreted program, else the innermost frame.
pub(super) fn acting_frame(stacks: &StackTable, stack: Option<StackId>) -> &Frame {
    let frames = frames_of(stacks, stack);
    let script = frames.iter().rev().find(|frame| frame.kind == FrameKind::Script);
    script.or(frames.last()).copied().unwrap_or(&NO_STACK)
}
