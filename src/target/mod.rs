//! Finding out what a process is: its runtime, its locks, its libc, without stopping or changing it.

pub mod catalog;
pub mod debug_offsets;
pub mod discover;
pub mod dwarf;
pub mod elf;
pub mod glance;
pub mod image;
pub mod launch;
pub mod layout;
pub mod libc;
pub mod lock;
pub mod maps;
pub mod memory;
pub mod parked;
pub mod process;
pub mod runtime;
pub mod sighting;
pub mod site;
pub mod usdt;
pub mod version;
pub mod waiters;
