//! Whole stacks of one moment: a script's frames, those of machine code between and below them, and the kernel's work for the
//! thread.

use std::{cell::RefCell, rc::Rc};

use crate::{
    model::{
        machine::MachineState,
        recorded::Entry,
        stack::{Frame, FrameKind, GARBAGE_COLLECTION, NATIVE_UNREAD},
    },
    native::{
        merge::{Extent, Fit, Role, ScriptFrame as Script, merge},
        stacks::NativeStacks,
    },
    session::options::FrameDetail,
    stack::{DEEPER, ScriptFrame, StackFailure, plain},
    target::{discover::Target, runtime::Runtime},
};

/// The joiner of a recording, used by whatever reads stacks.
pub(super) type SharedJoiner = Rc<RefCell<Joiner>>;

/// Joins native and script stacks of one process.
#[derive(Debug)]
pub(super) struct Joiner {
    stacks: NativeStacks,
    tally: JoinTally,
}

/// What became of native stacks so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct JoinTally {
    /// Stacks joined.
    pub(super) joined: u64,
    /// Those of them whose outermost native frames are missing.
    pub(super) cut: u64,
    /// Those of them that have native frames only below the innermost script frame.
    pub(super) unfit: u64,
    /// Script stacks left as they were, since the native one was of another moment.
    pub(super) apart: u64,
}

/// Whether a native and a script stack were taken at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// They were.
    Same,
    /// The script stack was read some microseconds later, and may be of another call.
    Near,
}

impl JoinTally {
    /// What a reader of the numbers should know; `None` when no stack has been joined or left apart.
    pub(super) fn words(self) -> Option<String> {
        let Self { joined, cut, unfit, apart } = self;
        let all = joined + apart;
        let parts = [
            (cut, "whose outermost ones were not copied"),
            (unfit, "with some only below the innermost script frame"),
            (apart, "left without, shown as others at the same place"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let parts: Vec<String> = parts.collect();
        let rest = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
        (all > 0).then(|| format!("native frames were joined to {joined} of {all} sampled stacks{rest}"))
    }
}

impl Joiner {
    /// A joiner, if `frames` are wanted that it has.
    pub(super) fn wanted(target: &Target, frames: FrameDetail, notes: &mut Vec<String>) -> Option<SharedJoiner> {
        match (frames, &target.runtime) {
            (FrameDetail::Script, _) => None,
            (FrameDetail::ScriptAndNative, Runtime::PyPy(_)) => {
                notes.push("no native frames: of PyPy no stacks are read".to_owned());
                None
            }
            (FrameDetail::ScriptAndNative, Runtime::ToyVm(_)) => {
                notes.push("no native frames: those of the toy VM are gilscope's own".to_owned());
                None
            }
            (FrameDetail::ScriptAndNative, Runtime::CPython(_)) => {
                let stacks = NativeStacks::of(target.pid);
                Some(Rc::new(RefCell::new(Self { stacks, tally: JoinTally::default() })))
            }
        }
    }

    pub(super) fn tally(&self) -> JoinTally {
        self.tally
    }

    /// The whole stack, outermost frame first, of a thread with this script stack, outermost first, and this state.
    pub(super) fn join(
        &mut self,
        (state, moment): (&MachineState, Moment),
        script: Result<Vec<ScriptFrame>, StackFailure>,
    ) -> Result<Vec<Frame>, StackFailure> {
        let (script, failure) = match script {
            Ok(frames) => (frames, None),
            // Both are answers: what the thread runs is machine code alone.
            Err(why @ (StackFailure::NoFrames | StackFailure::UnknownThread)) => (Vec::new(), Some(why)),
            Err(why) => return Err(why),
        };
        let is_known = |last: &Frame| last.kind != FrameKind::Marker || *last == Frame::marker(GARBAGE_COLLECTION);
        if script.last().is_some_and(|last| !is_known(&last.frame)) {
            // Its innermost frames are not known, so nobody knows who called what.
            return Ok(plain(script));
        }
        let native = self.stacks.read(state);
        if let (true, Some(why)) = (native.frames.is_empty(), failure) {
            return Err(why);
        }
        let is_cut = script.first().is_some_and(|first| first.frame == Frame::marker(DEEPER));
        let script: Vec<Script> = script.into_iter().rev().map(convert).collect();
        let script_extent = if is_cut { Extent::Cut } else { Extent::Whole };
        let merged = merge((&native.frames, native.extent), (&script, script_extent));
        if merged.fit == Fit::Tail && moment == Moment::Near {
            self.tally.apart += 1;
            return Ok(marked(script.into_iter().rev().map(|script| script.frame).collect()));
        }
        self.tally.joined += 1;
        self.tally.cut += u64::from(native.extent == Extent::Cut);
        self.tally.unfit += u64::from(merged.fit == Fit::Tail);
        let has_loop = native.frames.iter().any(|frame| frame.role == Role::Loop);
        let ends_with_script = merged.frames.last().is_some_and(|last| last.kind == FrameKind::Script);
        // Where the loop has no name, all the interpreter's code may be the loop, or be called by it.
        Ok(if ends_with_script && !has_loop { marked(merged.frames) } else { merged.frames })
    }

    /// The same for a script stack without a native one of the same moment, or close enough to it.
    pub(super) fn leave_apart(
        &mut self,
        script: Result<Vec<ScriptFrame>, StackFailure>,
    ) -> Result<Vec<Frame>, StackFailure> {
        let script = script?;
        self.tally.apart += 1;
        Ok(marked(plain(script)))
    }
}

/// With the marker that native frames were not read.
pub(super) fn marked(mut frames: Vec<Frame>) -> Vec<Frame> {
    frames.push(Frame::marker(NATIVE_UNREAD));
    frames
}

fn convert(script: ScriptFrame) -> Script {
    Script { frame: script.frame, is_entry: script.entry == Entry::Outermost }
}
