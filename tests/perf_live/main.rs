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
                println!("skipped: {why}");
                return;
            }
        }
    };
}

mod cleanup;
mod hits;
mod probes;
mod program;
mod scheduling;
