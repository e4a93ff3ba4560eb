//! Script stacks of a live target's threads, read from outside without stopping them.
//!
//! A stack either comes out whole and true or not at all: a reading that cannot be confirmed is a [`StackFailure`].

pub mod python;
pub mod reader;
pub mod resolver;
#[cfg(test)]
mod scene;
pub mod toyvm;

use crate::model::{recorded::Entry, stack::Frame};

/// How often the stack of a running thread is tried before it counts as torn.
const ATTEMPTS: usize = 8;

/// The most frames of a stack that are kept; deeper stacks lose their outermost ones.
pub const DEEPEST: usize = 511;

/// The marker in the place of inner frames that change faster than they can be read.
pub const CHANGING: &str = "changing";

/// The marker in the place of the outermost frames of a stack that is too deep.
pub const DEEPER: &str = "deeper frames";

/// A frame of a script, and whether it is the outermost of its call of the evaluation loop: what is needed to put a
/// script's frames between those of machine code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFrame {
    /// The frame.
    pub frame: Frame,
    /// Its place in its call of the evaluation loop.
    pub entry: Entry,
}

impl ScriptFrame {
    /// A place holder.
    fn marker(text: &str) -> Self {
        Self { frame: Frame::marker(text), entry: Entry::Unknown }
    }
}

/// The frames alone.
pub fn plain(frames: Vec<ScriptFrame>) -> Vec<Frame> {
    frames.into_iter().map(|script| script.frame).collect()
}

/// Whether a thread may change its stack while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// It waits or sleeps: one reading is exact.
    Still,
    /// It may run: the reading has to be confirmed.
    Moving,
}

/// Why there is no stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StackFailure {
    /// The thread changed its stack while it was read.
    #[error("the stack changed while it was read")]
    Torn,
    /// The memory, or what it holds, makes no sense.
    #[error("the stack cannot be read")]
    Unreadable,
    /// The thread runs no code of the program.
    #[error("the thread has no frames")]
    NoFrames,
    /// The interpreter does not know the thread.
    #[error("the interpreter does not know the thread")]
    UnknownThread,
    /// The thread is not in the list of the interpreter's threads, which cannot be read again just now.
    #[error("the list of threads is too old to know the thread")]
    OldList,
}
