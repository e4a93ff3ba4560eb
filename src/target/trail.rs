//! Frames as the in-target probe notes them: numbers, to which only the runtime's own structures give a meaning.

use crate::model::address::LiveAddress;

/// A stack without names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Trail {
    /// The frames that run code of the program, innermost first.
    pub frames: Vec<Step>,
    /// Whether outer frames are missing.
    pub cut: bool,
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Step {
    /// CPython: the code object. The toy VM: the function's index.
    pub code: LiveAddress,
    /// CPython: as [`Instruction`](crate::target::layout::Instruction) describes it. The toy VM: the line.
    pub instruction: u64,
    /// Which copy of the bytecode it runs; 0 is the code object's own.
    pub bytecode_copy: u32,
}
