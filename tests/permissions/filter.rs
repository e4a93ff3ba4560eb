//! A system call filter as containers have it: `perf_event_open` and `bpf` are refused, everything else passes.
#![expect(unsafe_code, reason = "filters are installed by prctl, between fork and exec")]

use std::{io, os::unix::process::CommandExt, process::Command};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JUMP, BPF_K, BPF_LD, BPF_RET, BPF_STMT, BPF_W, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP,
    SECCOMP_MODE_FILTER, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, sock_filter, sock_fprog,
};

/// The program that `command` starts, and all that it starts, get `EPERM` from both calls.
pub fn refuse_perf_and_bpf(command: &mut Command) {
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
}

fn install() -> io::Result<()> {
    let call = |number: libc::c_long| u32::try_from(number).expect("numbers of system calls are small");
    // SAFETY: these four only build values.
    let (load, perf, bpf, allow, refuse) = unsafe {
        (
            BPF_STMT((BPF_LD | BPF_W | BPF_ABS) as u16, 0),
            BPF_JUMP((BPF_JMP | BPF_JEQ | BPF_K) as u16, call(libc::SYS_perf_event_open), 2, 0),
            BPF_JUMP((BPF_JMP | BPF_JEQ | BPF_K) as u16, call(libc::SYS_bpf), 1, 0),
            BPF_STMT((BPF_RET | BPF_K) as u16, SECCOMP_RET_ALLOW),
            BPF_STMT((BPF_RET | BPF_K) as u16, SECCOMP_RET_ERRNO | libc::EPERM as u32),
        )
    };
    let mut program: [sock_filter; 5] = [load, perf, bpf, allow, refuse];
    let whole = sock_fprog { len: 5, filter: program.as_mut_ptr() };
    // SAFETY: takes numbers only.
    let barred = unsafe { libc::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the kernel copies the program, which lives until the call returns.
    let installed = unsafe { libc::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &raw const whole, 0, 0) };
    if barred == 0 && installed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
