//! The vocabulary every other module speaks: ids, times, events, stacks, the nine states and the profile.
//!
//! Nothing here performs I/O, reads a clock or contains `unsafe`; everything else may import this module and
//! it imports nothing of the crate.

pub mod address;
pub mod counts;
pub mod diagnosis;
pub mod estimate;
pub mod event;
pub mod family;
pub mod ids;
pub mod machine;
pub mod parking;
pub mod profile;
pub mod quality;
pub mod recorded;
pub mod sampled_event;
pub mod stack;
pub mod state;
pub mod surroundings;
pub mod time;
