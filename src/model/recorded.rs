//! Stacks as the kernel records them: numbers that only the target's memory can turn into names.

/// One frame, as its interpreter describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordedFrame {
    /// Address of the code object, or the number of the function.
    pub code: u64,
    /// Which copy of the bytecode runs; 0 is the code object's own.
    pub bytecode_copy: u16,
    /// Address or index of the instruction, or the line.
    pub instruction: u64,
    /// Address of the code object's name when the frame was recorded: an object with another one is another object.
    pub name: u64,
}

/// A stack, innermost frame first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordedStack {
    /// Its frames.
    pub frames: Box<[RecordedFrame]>,
    /// What became of the walk.
    pub walk: Walk,
}

/// What became of a walk along the frames of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Walk {
    /// It came to the outermost frame.
    Complete,
    /// It ended before, since the stack is too deep.
    Cut,
    /// A frame could not be read, or was none.
    Broken,
    /// It never began: the thread has no state in the interpreter that is known.
    UnknownThread,
}
