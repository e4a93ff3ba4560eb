//! The CPU time that this process has used.
#![expect(unsafe_code, reason = "clock_gettime is a libc call")]

use crate::model::time::Nanos;

/// The CPU time of all threads of this process so far; `None` where the kernel does not tell.
pub fn used() -> Option<Nanos> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call to write to.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
    (outcome == 0).then(|| Nanos::from_nanos(seconds * 1_000_000_000 + nanos))
}
