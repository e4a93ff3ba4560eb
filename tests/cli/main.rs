//! The program as a user types it: what it says, how it ends, what it passes on, and that it leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attach;
mod doctor;
mod ends;
mod killed;
#[path = "../support/live.rs"]
mod live;
mod no_room;
mod passing;
mod permission;
mod place;
mod programs;
mod refusals;
mod signals;
mod words;
