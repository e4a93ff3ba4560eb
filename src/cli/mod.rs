//! From typed words to a plan, and from an outcome to words and an exit code.
//!
//! `args` is what was typed, `plan` what it means: checked and resolved before anything starts. Nothing here records.

pub mod args;
pub mod budget;
pub mod counters;
mod duration;
pub mod execute;
pub mod exit;
pub mod messages;
pub mod plan;

mod error;
mod program;
