//! From stacks that the kernel recorded to frames with names and lines.
//!
//! The numbers of a frame are exact; what they stand for is read a little later, from code objects that may have been
//! freed meanwhile. An object whose name is not the one recorded with the frame is another object, and the stack is torn.

use std::fmt;

use crate::{
    model::{
        address::LiveAddress,
        recorded::{RecordedFrame, RecordedStack, Walk},
        stack::Frame,
    },
    stack::{
        DEEPER, StackFailure,
        python::{bytecode::byte_offset, code::CodeCache, walk::RawFrame},
        toyvm::ToyStacks,
    },
    target::{discover::Target, layout::PythonLayout, memory::Memory, runtime::Runtime},
};

/// Gives names to the recorded stacks of one target.
pub struct Resolver {
    memory: Box<dyn Memory>,
    names: Names,
}

/// Where names come from, by runtime.
#[derive(Debug)]
enum Names {
    Python(Box<PythonNames>),
    ToyVm(Box<ToyStacks>),
}

#[derive(Debug)]
struct PythonNames {
    layout: PythonLayout,
    codes: CodeCache,
}

impl Resolver {
    /// A resolver for the target; `None` when its layout cannot be right.
    pub fn new(target: &Target, memory: Box<dyn Memory>) -> Option<Self> {
        let names = match &target.runtime {
            Runtime::CPython(python) => {
                let layout = python.layout.clone();
                let codes = CodeCache::new(&layout.code, &layout.object)?;
                Names::Python(Box::new(PythonNames { layout, codes }))
            }
            Runtime::ToyVm(toy) => Names::ToyVm(Box::new(ToyStacks::new(&toy.layout))),
        };
        Some(Self { memory, names })
    }

    /// The stack, outermost frame first.
    pub fn resolve(&mut self, stack: &RecordedStack) -> Result<Vec<Frame>, StackFailure> {
        match stack.walk {
            Walk::UnknownThread => return Err(StackFailure::UnknownThread),
            Walk::Broken => return Err(StackFailure::Unreadable),
            Walk::Complete if stack.frames.is_empty() => return Err(StackFailure::NoFrames),
            Walk::Complete | Walk::Cut => {}
        }
        let mut frames = Vec::with_capacity(stack.frames.len() + 1);
        if stack.walk == Walk::Cut {
            frames.push(Frame::marker(DEEPER));
        }
        let memory = &*self.memory;
        match &mut self.names {
            Names::Python(names) => {
                names.codes.begin_reading();
                for frame in stack.frames.iter().rev() {
                    frames.push(names.frame(memory, frame)?);
                }
            }
            Names::ToyVm(names) => {
                for frame in stack.frames.iter().rev() {
                    let numbers = u32::try_from(frame.code).ok().zip(u32::try_from(frame.instruction).ok());
                    let (function, line) = numbers.ok_or(StackFailure::Unreadable)?;
                    frames.push(names.frame(memory, function, line).map_err(|_| StackFailure::Unreadable)?);
                }
            }
        }
        Ok(frames)
    }
}

impl PythonNames {
    fn frame(&mut self, memory: &dyn Memory, frame: &RecordedFrame) -> Result<Frame, StackFailure> {
        let raw = RawFrame {
            address: LiveAddress::in_target(0),
            code: LiveAddress::in_target(frame.code),
            instruction: frame.instruction,
            bytecode_copy: u32::from(frame.bytecode_copy),
        };
        let offset = byte_offset(memory, &self.layout, &raw).map_err(|_| StackFailure::Unreadable)?;
        let name = LiveAddress::in_target(frame.name);
        let code = self.codes.code_named(memory, raw.code, name).map_err(|_| StackFailure::Unreadable)?;
        code.map(|code| code.frame_at(offset)).ok_or(StackFailure::Torn)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("names", &self.names).finish_non_exhaustive()
    }
}
