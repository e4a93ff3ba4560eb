//! Whether `perf_event_open` reaches the kernel at all.
#![expect(unsafe_code, reason = "perf_event_open is called with flags that do not exist")]

use std::{io, ptr};

/// An error if something before the kernel's own code answers: a system call filter, or a kernel without the call.
///
/// The kernel looks at the flags before it asks for any right, and refuses unknown ones with `EINVAL`.
pub fn reaches_kernel() -> io::Result<()> {
    const NO_SUCH_FLAGS: libc::c_ulong = libc::c_ulong::MAX;
    // SAFETY: nothing is read through the null pointer before the flags are refused, and the kernel checks it anyway.
    unsafe {
        libc::syscall(libc::SYS_perf_event_open, ptr::null::<u8>(), 0, -1, -1, NO_SUCH_FLAGS);
    }
    let answer = io::Error::last_os_error();
    if answer.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(answer) }
}
