//! The boundary to the kernel's `perf_event` facility: opening events, reading their rings, decoding their records.
//!
//! Everything that is `unsafe` here sits in the files that call the kernel or read what it shares, each of which says so at its
//! top; decoding and bookkeeping are pure. One ring a CPU takes the records of all events of all watched threads.

pub mod alarm;
pub mod clock;
mod cpu;
pub mod decoding;
pub mod error;
pub mod event_clock;
pub mod event_hits;
pub mod events;
mod family;
pub mod fault_cost;
mod fields;
pub mod filtered;
pub mod jitter;
pub mod limits;
pub mod lineage;
mod machine;
pub mod measured;
pub mod open;
pub mod pace;
pub mod priority;
pub mod reading;
pub mod record;
pub mod registers;
pub mod ring;
pub mod sampling;
pub mod stream;
pub mod user_reads;
