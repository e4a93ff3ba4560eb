//! How much this process gets of the CPUs.
#![expect(unsafe_code, reason = "setpriority has no safe wrapper among the dependencies")]

/// The calling thread runs only when nobody else wants the CPU much; that it cannot be arranged is no harm.
pub fn give_way() {
    const LEAST: libc::c_int = 19;
    // SAFETY: sets a number of the calling thread; on Linux, 0 with PRIO_PROCESS means the thread, not the process.
    let _refused_or_done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LEAST) };
}
