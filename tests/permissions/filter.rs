//! A system call filter as containers have it: `perf_event_open` and `bpf` are refused, everything else passes.
#![expect(unsafe_code, reason = "filters are installed by prctl, between fork and exec")]

use std::{io, os::unix::process::CommandExt, process::Command};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER,
    SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, sock_filter, sock_fprog,
};

/// The program that `command` starts, and all that it starts, get `EPERM` from both calls.
pub fn refuse_perf_and_bpf(command: &mut Command) {
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
}

fn install() -> io::Result<()> {
    let call = |number: libc::c_long| u32::try_from(number).expect("numbers of system calls are small");
    let step =
        |code: u32, yes, k| sock_filter { code: u16::try_from(code).expect("codes are small"), jt: yes, jf: 0, k };
    let is = BPF_JMP | BPF_JEQ | BPF_K;
    let refusal = SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let mut program = [
        step(BPF_LD | BPF_W | BPF_ABS, 0, 0),
        step(is, 2, call(libc::SYS_perf_event_open)),
        step(is, 1, call(libc::SYS_bpf)),
        step(BPF_RET | BPF_K, 0, SECCOMP_RET_ALLOW),
        step(BPF_RET | BPF_K, 0, refusal),
    ];
    let whole = sock_fprog { len: 5, filter: program.as_mut_ptr() };
    // SAFETY: takes numbers only.
    let barred = unsafe { libc::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the kernel copies the program, which lives until the call returns.
    let installed = unsafe { libc::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &raw const whole, 0, 0) };
    if barred == 0 && installed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
