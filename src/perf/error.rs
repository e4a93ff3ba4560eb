//! Why the kernel would not let us watch.

use std::{fs, io, path::PathBuf};

use crate::{
    model::ids::{Pid, Tid},
    perf::filtered,
};

/// Why a stream of perf events could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// The kernel, or a security policy on top of it, refuses `perf_event_open`: `CAP_PERFMON`, ownership of the
    /// process or a lower `kernel.perf_event_paranoid` is missing.
    #[error("perf_event_open on thread {tid} is not permitted (kernel.perf_event_paranoid is {})", shown(*.paranoid))]
    NotPermitted {
        /// The thread that was to be watched.
        tid: Tid,
        /// The current value of `kernel.perf_event_paranoid`; `None` when it could not be read.
        paranoid: Option<i64>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no `perf_event_open` here: a kernel without it, or a filter that hides it.
    #[error("this kernel, or a system call filter, does not offer perf_event_open")]
    Absent {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process ended before it could be watched.
    #[error("process {pid} has ended")]
    ProcessGone {
        /// The process.
        pid: Pid,
    },
    /// The process's threads could not be listed.
    #[error("cannot list the threads of process {pid}")]
    Threads {
        /// The process.
        pid: Pid,
        /// The kernel's answer.
        source: io::Error,
    },
    /// One descriptor a thread, CPU and event is needed, and the limit is lower.
    #[error("{needed} open files are needed and {limit} are allowed")]
    TooManyFiles {
        /// How many would be open at the same time, those already open included.
        needed: u64,
        /// The limit after raising it as far as permitted.
        limit: u64,
    },
    /// No buffer could be mapped, not even the smallest.
    #[error("cannot map a buffer for CPU {cpu}")]
    Ring {
        /// The CPU.
        cpu: u32,
        /// The kernel's answer to the smallest size.
        source: io::Error,
    },
    /// All debug registers of the processor that a thread may use are taken, by a debugger or another profiler.
    #[error("the processor's debug registers are in use: thread {tid} has no free one on CPU {cpu}")]
    DebugRegistersTaken {
        /// The thread.
        tid: Tid,
        /// The CPU.
        cpu: u32,
    },
    /// The processor, or the machine that pretends to be one, cannot watch words.
    #[error("this machine has no hardware watchpoints")]
    NoWatchpoints {
        /// The kernel's answer.
        source: io::Error,
    },
    /// An event could not be opened for another reason.
    #[error("cannot open an event on thread {tid}, CPU {cpu}")]
    Open {
        /// The thread.
        tid: Tid,
        /// The CPU.
        cpu: u32,
        /// The tracepoint number, for a probe.
        tracepoint: Option<u64>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The list of CPUs could not be read.
    #[error("cannot read the online CPUs from {}", path.display())]
    Cpus {
        /// Where they were sought.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl PerfError {
    /// The command that would permit it, where there is one.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NotPermitted { paranoid: Some(3..), .. } => {
                Some("sudo sysctl kernel.perf_event_paranoid=2".to_owned())
            }
            // Another user's process, or a policy that only privilege overrides.
            Self::NotPermitted { .. } => Some("sudo gilscope …".to_owned()),
            Self::TooManyFiles { needed, .. } => Some(format!("ulimit -n {needed}")),
            _ => None,
        }
    }
}

/// The value of `kernel.perf_event_paranoid`; `None` when it cannot be read.
pub fn paranoid() -> Option<i64> {
    fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok()?.trim().parse().ok()
}

/// What an answer of the kernel to `perf_event_open` means.
pub(crate) fn refusal(source: io::Error, tid: Tid, cpu: u32, tracepoint: Option<u64>) -> PerfError {
    match source.raw_os_error() {
        // The kernel has not been asked at all.
        Some(libc::EPERM) if filtered::reaches_kernel().is_err() => PerfError::Absent { source },
        Some(libc::EACCES | libc::EPERM) => PerfError::NotPermitted { tid, paranoid: paranoid(), source },
        Some(libc::ENOSYS) => PerfError::Absent { source },
        _ => PerfError::Open { tid, cpu, tracepoint, source },
    }
}

/// What an answer of the kernel means when a word was to be watched.
pub(crate) fn watchpoint_refusal(source: io::Error, tid: Tid, cpu: u32) -> PerfError {
    match source.raw_os_error() {
        Some(libc::ENOSPC) => PerfError::DebugRegistersTaken { tid, cpu },
        Some(libc::ENODEV | libc::EOPNOTSUPP | libc::ENOENT) => PerfError::NoWatchpoints { source },
        _ => refusal(source, tid, cpu, None),
    }
}

fn shown(value: Option<i64>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| value.to_string())
}
