//! The one clock of the model, read.
#![expect(unsafe_code, reason = "clock_gettime is a libc call")]

use crate::model::time::MonoNanos;

/// The present moment on `CLOCK_MONOTONIC`.
pub fn now() -> MonoNanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that the call fills; the clock exists on every Linux.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    debug_assert_eq!(outcome, 0, "CLOCK_MONOTONIC can always be read");
    let (seconds, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    MonoNanos::from_monotonic(seconds * 1_000_000_000 + nanos)
}
