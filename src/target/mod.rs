//! Finding out what a process is: its runtime, its locks, its libc, without stopping or changing it.

pub mod launch;
pub mod layout;
pub mod lock;
pub mod memory;
pub mod site;
