//! From the numbers of a CPython frame to its function, file and line.
//!
//! Code objects die, and what is told here is true of the moment of asking. A frame that was recorded together with its
//! code object's name refuses another object at the same address.

use crate::{
    model::{address::LiveAddress, recorded::RecordedFrame},
    stack::{
        ScriptFrame, StackFailure,
        python::{bytecode::byte_offset, code::CodeCache},
    },
    target::{layout::PythonLayout, memory::Memory},
};

/// Gives names to frames, and remembers code objects.
#[derive(Debug)]
pub struct PythonNames {
    layout: PythonLayout,
    codes: CodeCache,
}

impl PythonNames {
    /// Names for targets of this layout; `None` when the layout cannot be that of a CPython.
    pub fn new(layout: &PythonLayout) -> Option<Self> {
        Some(Self { layout: layout.clone(), codes: CodeCache::new(&layout.code, &layout.object)? })
    }

    /// Begins the reading of one stack: every code object is compared once in it.
    pub fn begin_reading(&mut self) {
        self.codes.begin_reading();
    }

    /// How often a code object had to be read in full.
    pub fn learned(&self) -> u64 {
        self.codes.learned()
    }

    /// What `frame` is; `None` if it is no frame of the program but the interpreter's own.
    pub fn name(&mut self, memory: &dyn Memory, frame: &RecordedFrame) -> Result<Option<ScriptFrame>, StackFailure> {
        let offset = byte_offset(memory, &self.layout, frame).map_err(|_| StackFailure::Unreadable)?;
        let at = LiveAddress::in_target(frame.code);
        let named = self.codes.frame(memory, at, offset).map_err(|_| StackFailure::Unreadable)?;
        if frame.name.is_some_and(|name| !self.codes.is_named(at, LiveAddress::in_target(name.get()))) {
            return Err(StackFailure::Torn);
        }
        Ok(named.map(|named| ScriptFrame { frame: named, entry: frame.entry }))
    }
}
