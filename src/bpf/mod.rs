//! Loading BPF programs into the kernel by hand: maps, programs, links to uprobes and to a clock, and the ring they write.
//!
//! Nothing here knows what the programs do. Invariant: everything exists as long as its descriptor, so that nothing is
//! left in the kernel when the process ends, however it ends.

pub mod btf;
pub mod error;
pub mod image;
pub mod kernel;
pub mod loaded;
pub mod map;
pub mod ring;
mod syscall;
