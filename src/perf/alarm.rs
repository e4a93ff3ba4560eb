//! Resting until a file becomes readable or the time is over.
#![expect(unsafe_code, reason = "poll is a libc call")]

use std::{os::fd::RawFd, time::Duration};

/// Rests for `time`, less if one of `files` becomes readable; a signal, too, may end the rest.
pub fn rest(files: &[RawFd], time: Duration) {
    if files.is_empty() {
        std::thread::sleep(time);
        return;
    }
    let poll = |file: &RawFd| libc::pollfd { fd: *file, events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<libc::pollfd> = files.iter().map(poll).collect();
    let seconds = libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX);
    let time = libc::timespec { tv_sec: seconds, tv_nsec: i64::from(time.subsec_nanos()) };
    let count = libc::nfds_t::try_from(polled.len()).expect("as many files as were borrowed");
    // SAFETY: `polled` has `count` entries and `time` is a valid time; both outlive the call. That it fails, or ends early,
    // only makes the rest shorter.
    let _readable = unsafe { libc::ppoll(polled.as_mut_ptr(), count, &raw const time, std::ptr::null()) };
}
