//! Programs in the kernel against the real kernel and real interpreters.
//!
//! Where the kernel does not permit them, the tests say so and pass.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says what it skips")]

#[path = "../support/live.rs"]
mod live;
mod object;
mod program;
mod stacks;
mod traces;
