//! The scheduler and uprobe sources against the real kernel and a real interpreter.
//!
//! Where the kernel does not permit something, the test says so and passes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

/// Skips with a reason, or gives the value.
macro_rules! permitted {
    ($outcome:expr) => {
        match $outcome {
            Ok(value) => value,
            Err(why) => {
                crate::live::outcome::skipped(&why.to_string());
                return;
            }
        }
    };
}

mod cleanup;
mod counting;
mod hits;
#[path = "../support/live.rs"]
mod live;
mod probes;
mod program;
mod scheduling;
