//! The boundary to the kernel's `perf_event` facility: opening events, reading their rings, decoding their records.
//!
//! Everything that is `unsafe` here sits in the files that make a system call (`clock`, `limits`, `open`, `ring`);
//! decoding and bookkeeping are pure. One ring a CPU takes the records of all events of all watched threads.

pub mod alarm;
pub mod clock;
mod cpu;
pub mod error;
pub mod event_clock;
pub mod event_hits;
pub mod events;
pub mod fault_cost;
mod fields;
pub mod filtered;
pub mod jitter;
pub mod limits;
pub mod lineage;
mod machine;
pub mod open;
pub mod pace;
pub mod priority;
pub mod record;
pub mod registers;
pub mod ring;
pub mod sampling;
pub mod stream;
pub mod user_reads;
