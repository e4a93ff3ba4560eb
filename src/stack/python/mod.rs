//! Stacks of CPython threads, read from outside while the threads go on.
//!
//! A thread that waits or sleeps does not change its frames, and one reading is exact. The frames of a running thread are
//! overwritten while they are read, so they are read twice, and only what both readings and the thread's own pointer to
//! its innermost frame agree on is believed. What cannot be believed is refused as torn, never passed on.

pub mod code;
pub mod lines;
pub mod objects;
pub mod pages;
pub mod walk;

use crate::{
    model::{
        address::LiveAddress,
        stack::Frame,
    },
    stack::{
        Motion, StackFailure,
        python::{
            code::CodeCache,
            pages::Pages,
            walk::{Chain, RawFrame, Walker, WalkError},
        },
    },
    target::{
        layout::{Instruction, PythonLayout, TopFrame},
        memory::{Memory, MemoryError},
    },
};

/// How often the stack of a running thread is tried before it counts as torn.
const ATTEMPTS: usize = 8;

/// Frames whose callees begin further behind them are compared by their heads only.
const LONGEST_FRAME: u64 = 2048;

/// A reader of CPython stacks with what it has learned about the target.
#[derive(Debug)]
pub struct PythonStacks {
    layout: PythonLayout,
    walker: Walker,
    codes: CodeCache,
    first: Reading,
    second: Reading,
}

/// One walk and the memory it saw.
#[derive(Debug, Default)]
struct Reading {
    pages: Pages,
    chain: Chain,
}

impl PythonStacks {
    /// A reader for targets of this layout; `None` when the layout cannot be that of a CPython.
    pub fn new(layout: &PythonLayout) -> Option<Self> {
        Some(Self {
            walker: Walker::new(&layout.frame)?,
            codes: CodeCache::new(&layout.code, &layout.object)?,
            layout: layout.clone(),
            first: Reading::default(),
            second: Reading::default(),
        })
    }

    /// The word in a thread state that tells whose it is: a state may be freed and given to another thread.
    pub fn owner(&self, memory: &dyn Memory, state: LiveAddress) -> Option<u64> {
        match self.layout.thread.native_thread_id {
            Some(offset) => memory.read_u64(state.plus(offset)).ok(),
            None => memory.read_u64(state.plus(self.layout.thread.pthread)).ok(),
        }
    }

    /// The stack of the thread with this state, outermost frame first.
    pub fn read(
        &mut self,
        memory: &dyn Memory,
        state: LiveAddress,
        motion: Motion,
    ) -> Result<Vec<Frame>, StackFailure> {
        match motion {
            Motion::Still => self.read_still(memory, state),
            Motion::Moving => self.read_moving(memory, state),
        }
    }

    fn read_still(&mut self, memory: &dyn Memory, state: LiveAddress) -> Result<Vec<Frame>, StackFailure> {
        let top = self.top(memory, state)?;
        self.first.walk(&self.walker, memory, top)?;
        let frames = self.resolve(memory)?;
        // The caller's word that the thread is still may have been overtaken.
        if self.top(memory, state)? == top { Ok(frames) } else { Err(StackFailure::Torn) }
    }

    fn read_moving(&mut self, memory: &dyn Memory, state: LiveAddress) -> Result<Vec<Frame>, StackFailure> {
        let mut failure = StackFailure::Torn;
        for _ in 0..ATTEMPTS {
            let learned = self.codes.learned();
            match self.attempt(memory, state) {
                // Names that were read after the stack had been confirmed may be those of a successor; now that they
                // are known, confirm it again.
                Ok(_) if self.codes.learned() != learned => {}
                Ok(frames) => return Ok(frames),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn attempt(&mut self, memory: &dyn Memory, state: LiveAddress) -> Result<Vec<Frame>, StackFailure> {
        let top = self.top(memory, state)?;
        self.first.walk(&self.walker, memory, top)?;
        self.confirm_top(memory, state, top)?;
        self.second.walk(&self.walker, memory, top)?;
        self.confirm_top(memory, state, top)?;
        if !self.first.agrees(&self.second) {
            return Err(StackFailure::Torn);
        }
        self.resolve(memory)
    }

    fn confirm_top(&self, memory: &dyn Memory, state: LiveAddress, top: LiveAddress) -> Result<(), StackFailure> {
        if self.top(memory, state)? == top { Ok(()) } else { Err(StackFailure::Torn) }
    }

    /// The innermost frame.
    fn top(&self, memory: &dyn Memory, state: LiveAddress) -> Result<LiveAddress, StackFailure> {
        let top = match self.layout.thread.frame {
            TopFrame::Direct(offset) => memory.read_pointer(state.plus(offset)),
            TopFrame::ThroughCframe { cframe, frame } => {
                memory.read_pointer(state.plus(cframe)).and_then(|cframe| memory.read_pointer(cframe.plus(frame)))
            }
        };
        match top {
            Ok(top) if top.is_null() => Err(StackFailure::NoFrames),
            Ok(top) => Ok(top),
            Err(MemoryError::Open { .. } | MemoryError::Read { .. }) => Err(StackFailure::Unreadable),
        }
    }

    /// Names and lines for the first reading.
    fn resolve(&mut self, memory: &dyn Memory) -> Result<Vec<Frame>, StackFailure> {
        let chain = &self.first.chain;
        let mut frames = Vec::with_capacity(chain.frames.len() + 1);
        if chain.cut {
            frames.push(Frame::marker("deeper frames"));
        }
        for raw in chain.frames.iter().rev() {
            let code = self.codes.code(memory, raw.code).map_err(|_| StackFailure::Unreadable)?;
            frames.push(code.frame_at(byte_offset(&self.layout, raw)));
        }
        if chain.frames.is_empty() { Err(StackFailure::NoFrames) } else { Ok(frames) }
    }
}

impl Reading {
    fn walk(&mut self, walker: &Walker, memory: &dyn Memory, top: LiveAddress) -> Result<(), StackFailure> {
        walker.walk(memory, top, &mut self.pages, &mut self.chain).map_err(|error| match error {
            WalkError::Memory(_) => StackFailure::Unreadable,
            WalkError::Cycle(_) | WalkError::Ended(_) => StackFailure::Torn,
        })
    }

    /// Whether the other reading saw the same: everything but where the innermost frame is, for that one moves on.
    fn agrees(&self, other: &Self) -> bool {
        let (mine, others) = (&self.chain.frames, &other.chain.frames);
        let (Some(inner), Some(other_inner)) = (mine.first(), others.first()) else {
            return mine.is_empty() && others.is_empty();
        };
        inner.address == other_inner.address
            && inner.code == other_inner.code
            && mine[1..] == others[1..]
            && mine.windows(2).all(|pair| self.agrees_in_full(other, pair[1].address, pair[0].address))
    }

    /// Where the callee lies right behind its caller, the caller's variables lie between, and a caller's variables do not
    /// change while the callee runs: another call from the same place would most likely have left others.
    fn agrees_in_full(&self, other: &Self, caller: LiveAddress, callee: LiveAddress) -> bool {
        let adjacent = callee > caller && callee.raw() - caller.raw() <= LONGEST_FRAME;
        !adjacent || self.pages.agree(&other.pages, caller, callee)
    }
}

/// Where in its bytecode a frame is, in bytes.
fn byte_offset(layout: &PythonLayout, raw: &RawFrame) -> i64 {
    match layout.frame.instruction {
        Instruction::Index { scale, .. } => {
            let index = u32::try_from(raw.instruction).map_or(-1, u32::cast_signed);
            i64::from(index).saturating_mul(i64::try_from(scale).unwrap_or(1))
        }
        Instruction::Pointer { .. } => {
            let start = raw.code.plus(layout.code.bytecode.unwrap_or(0));
            raw.instruction.wrapping_sub(start.raw()).cast_signed()
        }
    }
}
