//! The runtimes that have a global lock this tool can observe, and what each knows about its own structures.

pub mod cpython;
pub mod descriptor;
pub mod foreign;
pub mod identify;
pub mod list;
pub mod pypy;
pub mod threads;
pub mod toyvm;

use crate::{
    model::address::LiveAddress,
    target::{
        memory::MemoryError,
        runtime::{cpython::CPython, pypy::PyPy, toyvm::ToyVm},
    },
};

/// The runtime of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    /// The reference implementation of Python.
    CPython(Box<CPython>),
    /// Another implementation, whose lock is taken without a call.
    PyPy(Box<PyPy>),
    /// The bundled toy VM.
    ToyVm(ToyVm),
}

/// Why the runtime's lists could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Some structure is not readable.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A list does not end, or leads elsewhere: it changed while it was read, or is none.
    #[error("the list of {what} from {head} on makes no sense")]
    Unsound {
        /// What the list should hold.
        what: &'static str,
        /// Where it begins.
        head: LiveAddress,
    },
}
