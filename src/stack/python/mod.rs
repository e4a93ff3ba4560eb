//! Stacks of CPython threads, read from outside while the threads go on.
//!
//! A thread that waits or sleeps does not change its frames, and one reading is exact. The frames of a running thread are
//! overwritten while they are read, so they are read twice, and only what both readings and the thread's own pointer to
//! its innermost frame agree on is believed. What cannot be believed is refused as torn, never passed on.

pub mod bytecode;
pub mod code;
pub mod lines;
pub mod names;
pub mod objects;
pub mod pages;
pub mod reading;
#[cfg(test)]
mod tests;
pub mod walk;

use crate::{
    model::address::LiveAddress,
    stack::{
        ATTEMPTS, CHANGING, DEEPER, Motion, ScriptFrame, StackFailure,
        python::{names::PythonNames, reading::Reading, walk::Walker},
    },
    target::{
        layout::{PythonLayout, ThreadLayout, TopFrame},
        memory::Memory,
    },
};

/// A reader of CPython stacks with what it has learned about the target.
#[derive(Debug)]
pub struct PythonStacks {
    thread: ThreadLayout,
    walker: Walker,
    names: PythonNames,
    first: Reading,
    second: Reading,
}

/// How often it is tried in all: some attempts meet a frame that has just ended.
const MOST_ATTEMPTS: usize = 3 * ATTEMPTS;

/// How much of a running thread's stack is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// All of it or nothing.
    Whole,
    /// At least the outer frames that do not change.
    OuterPart,
}

impl PythonStacks {
    /// A reader for targets of this layout; `None` when the layout cannot be that of a CPython.
    pub fn new(layout: &PythonLayout) -> Option<Self> {
        Some(Self {
            walker: Walker::new(&layout.frame)?,
            names: PythonNames::new(layout)?,
            thread: layout.thread.clone(),
            first: Reading::default(),
            second: Reading::default(),
        })
    }

    /// The word in a thread state that tells whose it is: a state may be freed and given to another thread.
    pub fn owner(&self, memory: &dyn Memory, state: LiveAddress) -> Option<u64> {
        match self.thread.native_thread_id {
            Some(offset) => memory.read_u64(state.plus(offset)).ok(),
            None => memory.read_u64(state.plus(self.thread.pthread)).ok(),
        }
    }

    /// The stack of the thread with this state, outermost frame first.
    pub fn read(
        &mut self,
        memory: &dyn Memory,
        state: LiveAddress,
        motion: Motion,
    ) -> Result<Vec<ScriptFrame>, StackFailure> {
        match motion {
            Motion::Still => self.read_still(memory, state),
            Motion::Moving => self.read_moving(memory, state),
        }
    }

    fn read_still(&mut self, memory: &dyn Memory, state: LiveAddress) -> Result<Vec<ScriptFrame>, StackFailure> {
        let top = self.top(memory, state)?;
        self.first.walk(&self.walker, memory, top)?;
        let frames = self.resolve(memory)?;
        // The caller's word that the thread is still may have been overtaken.
        if self.top(memory, state)? == top { Ok(frames) } else { Err(StackFailure::Torn) }
    }

    fn read_moving(&mut self, memory: &dyn Memory, state: LiveAddress) -> Result<Vec<ScriptFrame>, StackFailure> {
        let mut failure = StackFailure::Torn;
        for attempt in 1..=MOST_ATTEMPTS {
            let wanted = if attempt < ATTEMPTS { Wanted::Whole } else { Wanted::OuterPart };
            let learned = self.names.learned();
            match self.attempt(memory, state, wanted) {
                // Names that were read after the stack had been confirmed may be those of a successor; now that they
                // are known, confirm it again.
                Ok(_) if self.names.learned() != learned => {}
                Ok(frames) => return Ok(frames),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn attempt(
        &mut self,
        memory: &dyn Memory,
        state: LiveAddress,
        wanted: Wanted,
    ) -> Result<Vec<ScriptFrame>, StackFailure> {
        let top = self.top(memory, state)?;
        self.first.walk(&self.walker, memory, top)?;
        let second_top = self.top(memory, state)?;
        if second_top != top && wanted == Wanted::Whole {
            return Err(StackFailure::Torn);
        }
        self.second.walk(&self.walker, memory, second_top)?;
        if self.top(memory, state)? == top && self.first.agrees(&self.second) {
            return self.resolve(memory);
        }
        match wanted {
            Wanted::Whole => Err(StackFailure::Torn),
            Wanted::OuterPart => self.resolve_outer_part(memory),
        }
    }

    /// The innermost frame.
    fn top(&self, memory: &dyn Memory, state: LiveAddress) -> Result<LiveAddress, StackFailure> {
        let top = match self.thread.frame {
            TopFrame::Direct(offset) => memory.read_pointer(state.plus(offset)),
            TopFrame::ThroughCframe { cframe, frame } => {
                memory.read_pointer(state.plus(cframe)).and_then(|cframe| memory.read_pointer(cframe.plus(frame)))
            }
        };
        match top {
            Ok(top) if top.is_null() => Err(StackFailure::NoFrames),
            Ok(top) => Ok(top),
            Err(_) => Err(StackFailure::Unreadable),
        }
    }

    /// Names and lines for the first reading.
    fn resolve(&mut self, memory: &dyn Memory) -> Result<Vec<ScriptFrame>, StackFailure> {
        self.resolve_outermost(memory, self.first.chain.frames.len())
    }

    /// Names and lines for the outer frames that both readings saw, and a marker for the rest.
    fn resolve_outer_part(&mut self, memory: &dyn Memory) -> Result<Vec<ScriptFrame>, StackFailure> {
        let stable = self.first.stable_outer(&self.second);
        if stable == 0 {
            return Err(StackFailure::Torn);
        }
        let mut frames = self.resolve_outermost(memory, stable)?;
        frames.push(ScriptFrame::marker(CHANGING));
        Ok(frames)
    }

    fn resolve_outermost(&mut self, memory: &dyn Memory, count: usize) -> Result<Vec<ScriptFrame>, StackFailure> {
        let chain = &self.first.chain;
        if chain.frames.is_empty() {
            return Err(StackFailure::NoFrames);
        }
        self.names.begin_reading();
        let mut frames = Vec::with_capacity(count + 2);
        if chain.cut {
            frames.push(ScriptFrame::marker(DEEPER));
        }
        for raw in chain.frames.iter().rev().take(count) {
            frames.extend(self.names.name(memory, &raw.frame)?);
        }
        Ok(frames)
    }
}
