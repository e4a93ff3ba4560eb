//! Native stacks of real programs: libraries in C, C++ and Rust, one of them stripped, whose functions keep the GIL for
//! known times, and callbacks that lead from script to machine code and back. Interpreters and compilers that are absent
//! are skipped.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

mod keepers;
#[path = "../support/live.rs"]
mod live;
mod nested;
mod releases;
