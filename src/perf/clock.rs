//! The clocks: that of the model, and the CPU time that we have used ourselves.
#![expect(unsafe_code, reason = "clock_gettime is a libc call")]

use crate::model::time::{MonoNanos, Nanos};

/// The present moment on `CLOCK_MONOTONIC`.
pub fn now() -> MonoNanos {
    let now = read(libc::CLOCK_MONOTONIC);
    debug_assert!(now.is_some(), "CLOCK_MONOTONIC can always be read");
    MonoNanos::from_monotonic(now.unwrap_or_default().as_nanos())
}

/// The CPU time of all threads of this process so far; `None` where the kernel does not tell.
pub fn cpu_of_process() -> Option<Nanos> {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// The calling thread's time on a CPU so far; `None` where the kernel does not tell.
pub fn cpu_of_thread() -> Option<Nanos> {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> Option<Nanos> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that the call fills.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
    (outcome == 0).then(|| Nanos::from_nanos(seconds * 1_000_000_000 + nanos))
}
