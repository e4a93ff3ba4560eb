//! Names of native code in running processes: libraries built with this machine's compilers, whole, stripped, and with
//! their symbols elsewhere. Each function's name is compared with what `nm` says. Compilers that are absent are skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking and says what it saw")]

mod elsewhere;
mod interpreter;
mod library;
#[path = "../support/live.rs"]
mod live;
mod whole;
