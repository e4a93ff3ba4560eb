//! Targets that lie about themselves: gilscope ends in time, says one sentence or writes a report, needs little memory, and
//! passes nothing on that steers a terminal. The liars are in `fixtures/liars`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "what was measured is worth a look")]

mod observed;
mod programs;
mod python;
#[path = "../support/live.rs"]
mod support;
