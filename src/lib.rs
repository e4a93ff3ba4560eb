//! gilscope: what does the global interpreter lock cost a program, and whose code makes it cost that?
//!
//! Data passes through the modules in this order:
//!
//! ```text
//! target ──▶ source ──▶ source::order ──▶ ledger ──▶ model::profile ──▶ report
//! find it    events     by time           attribution  numbers          svg json text
//!            stacks
//!            switches
//! ```
//!
//! `model` lies under everything; `session` wires the parts; `cli` turns typed words into a plan; `toyvm` is the
//! bundled interpreter and knows nothing of the profiler. `tests/layers.rs` guards these directions.

pub mod bpf;
pub mod cli;
pub mod estimate;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod ledger;
pub mod model;
pub mod native;
pub mod perf;
pub mod report;
pub mod session;
pub mod source;
pub mod stack;
pub mod target;
pub mod toyvm;
