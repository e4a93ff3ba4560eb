//! Kinds of hold against ground truth: `fixtures/kinds/kinds.py` holds the GIL in one way after the other and measures each by
//! its own clocks; the report must say the same.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

mod kinds;
#[path = "../support/live.rs"]
mod live;
