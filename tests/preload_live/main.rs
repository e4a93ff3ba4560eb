//! The `preload` source against real processes: complete, strictly alternating, and invisible to the program.

#![expect(clippy::print_stdout, reason = "tests say what they skip and what they measured")]

mod counters;
#[path = "../support/live.rs"]
mod live;
mod program;
mod python;
mod recording;
mod stacks;
