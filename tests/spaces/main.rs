//! Targets in other pid, mount, user and network namespaces, with another root directory, and gilscope there with them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod inside;
#[path = "../support/live.rs"]
mod live;
mod outside;
mod refused;
mod stage;
