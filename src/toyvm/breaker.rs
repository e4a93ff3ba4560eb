//! The eval breaker: what the interpreter looks at on every backward jump and every call.

use std::sync::atomic::{AtomicU32, Ordering};

const DROP_REQUEST: u32 = 1;
const STOP: u32 = 2;

/// Requests to a thread that is interpreting.
#[derive(Debug, Default)]
pub struct EvalBreaker(AtomicU32);

impl EvalBreaker {
    /// Whether there is any request; the one check on the fast path.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Asks the holder of the lock to give way.
    pub fn request_drop(&self) {
        self.0.fetch_or(DROP_REQUEST, Ordering::Relaxed);
    }

    /// Takes that back.
    pub fn clear_drop(&self) {
        self.0.fetch_and(!DROP_REQUEST, Ordering::Relaxed);
    }

    /// Whether the holder of the lock is to give way.
    pub fn drop_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed) & DROP_REQUEST != 0
    }

    /// Ends the program: every thread stops at its next check.
    pub fn stop(&self) {
        self.0.fetch_or(STOP, Ordering::Relaxed);
    }

    /// Whether the program is ending.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed) & STOP != 0
    }
}
