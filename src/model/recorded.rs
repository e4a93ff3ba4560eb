//! Stacks as they are recorded inside the target or the kernel: numbers that only the target's memory can turn into
//! names.

use std::num::NonZeroU64;

/// One frame, as its interpreter describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordedFrame {
    /// Address of the code object, or the number of the function.
    pub code: u64,
    /// Which copy of the bytecode runs; 0 is the code object's own.
    pub bytecode_copy: u32,
    /// Address or index of the instruction, or the line.
    pub instruction: u64,
    /// Address of the code object's name when the frame was recorded: an object with another one is another object.
    /// `None` where it was not recorded.
    pub name: Option<NonZeroU64>,
    /// Its place in its call of the evaluation loop.
    pub entry: Entry,
}

/// Whether a frame is the outermost of its call of the interpreter's evaluation loop, a C function: as many calls of
/// that function are on the machine's stack as there are such frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// C code called the loop for this frame.
    Outermost,
    /// The loop was at work for the caller already.
    Inner,
    /// It was not recorded.
    Unknown,
}

/// A stack, innermost frame first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordedStack {
    /// Its frames.
    pub frames: Box<[RecordedFrame]>,
    /// What became of the walk.
    pub walk: Walk,
    /// What the interpreter did below the innermost frame.
    pub below: Below,
}

/// What the interpreter does for a thread without a frame of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Below {
    /// Nothing that was noted.
    Nothing,
    /// It collects garbage.
    GarbageCollection,
}

/// What became of a walk along the frames of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Walk {
    /// It came to the outermost frame.
    Complete,
    /// It ended before, since the stack is too deep.
    Cut,
    /// It came to the outermost frame; inner ones changed meanwhile and are left out.
    Changing,
    /// A frame could not be read, or was none.
    Broken,
    /// It never began: the thread has no state in the interpreter that is known.
    UnknownThread,
}
