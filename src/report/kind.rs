//! What a lock was held for, told from the owner's state and stack alone.
//!
//! Refuses to guess: without machine code on the stack, bytecode is not told apart from C code that bytecode calls, and with
//! names missing it is not either. The rules are in `docs/method.md`.

use crate::{
    model::{
        profile::Profile,
        stack::{Frame, FrameKind, GARBAGE_COLLECTION, PAGE_FAULT},
        state::State,
    },
    report::native::{self, Role},
};

/// What a lock was held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum HoldKind<'a> {
    /// Interpreting the program.
    Bytecode,
    /// That, or C code that it calls.
    Interpreter,
    /// C code that keeps the lock.
    CCode(CCode<'a>),
    /// Looking for garbage.
    GarbageCollection,
    /// Taking an object apart.
    Destructor,
    /// Importing a module.
    Import,
    /// Asleep in this system call; `None` when nobody saw which.
    BlockedIn(Option<&'a str>),
    /// Asleep for another lock.
    OnOtherLock,
    /// The kernel brings in memory.
    PageFault,
    /// Nothing: others had the CPU.
    Preempted,
    /// No stack was seen.
    Unknown,
}

/// C code as bytecode called it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CCode<'a> {
    /// The shared object, as the target names it.
    pub(super) object: &'a str,
    /// Its function that was called.
    pub(super) function: &'a str,
    /// What was executing at last, called by that function or the function itself.
    pub(super) innermost: &'a str,
}

/// Whether stacks go on into machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NativeFrames {
    /// They do.
    Shown,
    /// They end with functions of the program.
    Hidden,
}

impl NativeFrames {
    /// Those of a profile.
    pub(super) fn of(profile: &Profile) -> Self {
        if profile.native { Self::Shown } else { Self::Hidden }
    }
}

impl<'a> HoldKind<'a> {
    /// What a thread in `state`, which owns a lock, was doing at `frames`, outermost first.
    pub(super) fn of(state: State, frames: &[&'a Frame], native: NativeFrames) -> Self {
        match state {
            State::HeldPreempted => Self::Preempted,
            State::HeldBlocked => Self::blocked(frames),
            State::HeldRunning => Self::running(frames, native),
            _ => Self::Unknown,
        }
    }

    fn blocked(frames: &[&'a Frame]) -> Self {
        match kernel(frames) {
            Some(PAGE_FAULT) => Self::PageFault,
            Some("futex" | "futex_wait" | "futex_waitv") => Self::OnOtherLock,
            call => Self::BlockedIn(call),
        }
    }

    fn running(frames: &[&'a Frame], native: NativeFrames) -> Self {
        if kernel(frames) == Some(PAGE_FAULT) {
            return Self::PageFault;
        }
        if collects_garbage(frames) {
            return Self::GarbageCollection;
        }
        let tail = native_tail(frames);
        if tail.iter().any(|frame| native::role(frame) == Role::Collector) {
            return Self::GarbageCollection;
        }
        if destroys(&tail) || frames.iter().any(|frame| finalizes(frame)) {
            return Self::Destructor;
        }
        if tail.iter().any(|frame| native::role(frame) == Role::Importer) || frames.iter().any(|frame| imports(frame)) {
            return Self::Import;
        }
        native::c_code(&tail).map_or_else(|| Self::interpreting(frames, &tail, native), Self::CCode)
    }

    fn interpreting(frames: &[&Frame], tail: &[&Frame], native: NativeFrames) -> Self {
        let script = frames.iter().any(|frame| frame.kind == FrameKind::Script);
        match native {
            _ if !script && tail.is_empty() => Self::Unknown,
            NativeFrames::Hidden => Self::Interpreter,
            NativeFrames::Shown if tail.iter().any(|frame| native::is_nameless(frame)) => Self::Interpreter,
            // What a marker stands for is not known.
            NativeFrames::Shown if frames.last().is_some_and(|last| last.kind == FrameKind::Marker) => {
                Self::Interpreter
            }
            NativeFrames::Shown => Self::Bytecode,
        }
    }

    /// The name used in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bytecode => "bytecode",
            Self::Interpreter => "interpreter",
            Self::CCode(_) => "c_code",
            Self::GarbageCollection => "garbage_collection",
            Self::Destructor => "destructor",
            Self::Import => "import",
            Self::BlockedIn(_) => "blocked",
            Self::OnOtherLock => "other_lock",
            Self::PageFault => "page_fault",
            Self::Preempted => "preempted",
            Self::Unknown => "unknown",
        }
    }

    /// What a person reads.
    pub(super) fn words(self) -> String {
        match self {
            Self::Bytecode => "bytecode".to_owned(),
            Self::Interpreter => "bytecode or C code".to_owned(),
            Self::CCode(code) => format!("C code: {}", native::short_name(code.object)),
            Self::GarbageCollection => "garbage collection".to_owned(),
            Self::Destructor => "destructor".to_owned(),
            Self::Import => "import".to_owned(),
            Self::BlockedIn(Some(call)) => format!("blocked in {call}"),
            Self::BlockedIn(None) => "blocked".to_owned(),
            Self::OnOtherLock => "on another lock".to_owned(),
            Self::PageFault => "page fault".to_owned(),
            Self::Preempted => "preempted".to_owned(),
            Self::Unknown => "unknown".to_owned(),
        }
    }

    /// Whether it matters which line of the program led there; the others are told by function elsewhere.
    pub(super) const fn has_caller(self) -> bool {
        !matches!(self, Self::Bytecode | Self::Interpreter | Self::Preempted | Self::Unknown)
    }
}

/// What the kernel does for the thread, if it was seen to do anything.
fn kernel<'a>(frames: &[&'a Frame]) -> Option<&'a str> {
    let last = frames.last().filter(|frame| frame.kind == FrameKind::Kernel);
    last.map(|frame| frame.function.as_str())
}

/// The machine code that the innermost function of the program runs, outermost first.
fn native_tail<'a>(frames: &[&'a Frame]) -> Vec<&'a Frame> {
    let after = frames.iter().rposition(|frame| frame.kind == FrameKind::Script).map_or(0, |at| at + 1);
    frames[after..].iter().copied().filter(|frame| frame.kind == FrameKind::Native).collect()
}

/// Whether bytecode itself takes an object apart; what C code does on its way is that code's work.
fn destroys(tail: &[&Frame]) -> bool {
    let first = tail.iter().position(|frame| native::role(frame) == Role::Destructor);
    first.is_some_and(|first| native::first_call(tail).is_none_or(|call| first <= call))
}

/// Whether the interpreter itself said, when the stack was read, that it collected garbage in the innermost function.
fn collects_garbage(frames: &[&Frame]) -> bool {
    let innermost = frames.iter().rev().take_while(|frame| frame.kind != FrameKind::Script);
    innermost.into_iter().any(|frame| **frame == Frame::marker(GARBAGE_COLLECTION))
}

fn finalizes(frame: &Frame) -> bool {
    let name = frame.function.rsplit('.').next().unwrap_or_default();
    frame.kind == FrameKind::Script && name == "__del__"
}

fn imports(frame: &Frame) -> bool {
    frame.kind == FrameKind::Script && frame.file.starts_with("<frozen importlib._bootstrap")
}

#[cfg(test)]
mod tests;
