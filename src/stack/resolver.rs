//! From recorded stacks to frames with names and lines.
//!
//! The numbers of a frame are exact; what they stand for is read a little later, from code objects that may have been
//! freed meanwhile. An object whose name is not the one recorded with the frame is another object, and the stack is torn.

use std::fmt;

use crate::{
    model::{
        recorded::{Below, RecordedFrame, RecordedStack, Walk},
        stack::{Frame, GARBAGE_COLLECTION},
    },
    stack::{CHANGING, DEEPER, ScriptFrame, StackFailure, plain, python::names::PythonNames, toyvm::ToyStacks},
    target::{discover::Target, memory::Memory, runtime::Runtime},
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

impl Resolver {
    /// A resolver for the target; `None` when its layout cannot be right, and for PyPy.
    pub fn new(target: &Target, memory: Box<dyn Memory>) -> Option<Self> {
        let names = match &target.runtime {
            Runtime::CPython(python) => Names::Python(Box::new(PythonNames::new(&python.layout)?)),
            Runtime::ToyVm(toy) => Names::ToyVm(Box::new(ToyStacks::new(&toy.layout))),
            Runtime::PyPy(_) => return None,
        };
        Some(Self { memory, names })
    }

    /// The stack, outermost frame first.
    pub fn resolve(&mut self, stack: &RecordedStack) -> Result<Vec<Frame>, StackFailure> {
        self.resolve_script(stack).map(plain)
    }

    /// The same, with each frame's place in its call of the evaluation loop.
    pub fn resolve_script(&mut self, stack: &RecordedStack) -> Result<Vec<ScriptFrame>, StackFailure> {
        match stack.walk {
            Walk::UnknownThread => return Err(StackFailure::UnknownThread),
            Walk::Broken => return Err(StackFailure::Unreadable),
            Walk::Complete if stack.frames.is_empty() => return Err(StackFailure::NoFrames),
            Walk::Complete | Walk::Cut | Walk::Changing => {}
        }
        let mut frames = Vec::with_capacity(stack.frames.len() + 1);
        if stack.walk == Walk::Cut {
            frames.push(ScriptFrame::marker(DEEPER));
        }
        self.names.begin_reading();
        for frame in stack.frames.iter().rev() {
            frames.extend(self.names.name(&*self.memory, frame)?);
        }
        if stack.below == Below::GarbageCollection {
            frames.push(ScriptFrame::marker(GARBAGE_COLLECTION));
        }
        if stack.walk == Walk::Changing {
            frames.push(ScriptFrame::marker(CHANGING));
        }
        Ok(frames)
    }
}

impl Names {
    fn begin_reading(&mut self) {
        match self {
            Self::Python(names) => names.begin_reading(),
            // Its names never change.
            Self::ToyVm(_) => {}
        }
    }

    fn name(&mut self, memory: &dyn Memory, frame: &RecordedFrame) -> Result<Option<ScriptFrame>, StackFailure> {
        match self {
            Self::Python(names) => names.name(memory, frame),
            Self::ToyVm(names) => {
                let numbers = u32::try_from(frame.code).ok().zip(u32::try_from(frame.instruction).ok());
                let (function, line) = numbers.ok_or(StackFailure::Unreadable)?;
                let named = names.frame(memory, function, line).map_err(|_| StackFailure::Unreadable)?;
                Ok(Some(ScriptFrame { frame: named, entry: frame.entry }))
            }
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("names", &self.names).finish_non_exhaustive()
    }
}
