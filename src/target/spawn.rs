//! What a child does between fork and exec. Each step makes one async-signal-safe call and allocates nothing.
#![expect(unsafe_code, reason = "setsid and descriptor flags have no safe interface")]

use std::{io, os::fd::RawFd};

/// Leaves the parent's session: no signal meant for the parent or its terminal arrives any more.
pub fn begin_own_session() -> io::Result<()> {
    // SAFETY: setsid has no preconditions.
    done(unsafe { libc::setsid() })
}

/// Lets the program inherit `file`, a descriptor that this process owns, open and under its number.
pub fn pass_on(file: RawFd) -> io::Result<()> {
    // SAFETY: clears the flags of a descriptor; no memory is involved.
    done(unsafe { libc::fcntl(file, libc::F_SETFD, 0) })
}

fn done(outcome: libc::c_int) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
