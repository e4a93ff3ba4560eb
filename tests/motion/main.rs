//! Processes and threads in motion: those that a program starts, that come and go by the thousand, that become another program,
//! and that are there when the interpreter ends.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

#[path = "../support/live.rs"]
mod live;

mod crowds;
mod ends;
mod families;
mod program;
mod programs;
