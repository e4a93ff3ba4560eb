//! Finding out what a process is: its runtime, its locks, its libc, without stopping or changing it.

pub mod catalog;
pub mod claimant;
pub mod debug_offsets;
pub mod discover;
pub mod dwarf;
pub mod elf;
pub mod frugal;
pub mod image;
pub mod launch;
pub mod layout;
pub mod libc;
pub mod loader;
pub mod lock;
pub mod maps;
pub mod memory;
pub mod packed;
pub mod parked;
pub mod proc_mount;
pub mod process;
pub mod regular;
pub mod runtime;
pub mod sighting;
pub mod site;
pub mod surroundings;
pub mod usdt;
pub mod version;
