//! The source `preload`: lock events from a probe that is loaded into the launched program, at a few nanoseconds each.
//!
//! [`Prepared`] makes the shared memory and what a launcher needs; once the program runs, it becomes a
//! [`PreloadSource`]. The probe itself is `probes/preload`, embedded here so that gilscope is one file. What it writes
//! is foreign: every index and length is checked, and a target that scribbles over it harms only its own numbers.

mod clock;
pub mod file;
#[path = "../../../probes/preload/layout.rs"]
mod layout;
mod pool;
mod prepared;
pub mod quiet;
mod reader;
mod reading;
mod readings;
mod ring;
mod stacks;
mod tasks;
#[cfg(test)]
mod tests;

use std::io;

pub use self::{
    clock::ProbeClock,
    pool::{Origin, Pool, Room, RoomNumber},
    prepared::Prepared,
    reading::{CallSink, PreloadSource},
};

/// Why the probe cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PreloadError {
    /// No probe exists for this processor.
    #[error("build the in-target probe for this processor: only x86-64 is supported")]
    Unsupported,
    /// The kernel refused a memory file.
    #[error("create the memory file {name}")]
    MemoryFile {
        /// The file's name.
        name: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The shared memory could not be mapped.
    #[error("map the memory that is shared with the probe")]
    Map {
        /// The kernel's answer.
        source: io::Error,
    },
}
