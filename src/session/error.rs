//! Why there is no profile.

use std::io;

use crate::{
    model::profile::Backend,
    perf::error::PerfError,
    source::{bpf::error::BpfSourceError, poll::PollError, preload::PreloadError, uprobe::error::UprobeError},
    target::{discover::DiscoverError, launch::LaunchError, libc::LibcError, memory::MemoryError},
};

/// Why a recording could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The program could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// It never became an interpreter that can be observed.
    #[error("the program ran no interpreter that could be observed")]
    NoInterpreter {
        /// By which source it was watched.
        backend: Backend,
    },
    /// The process is no target.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// The in-target probe could not be prepared.
    #[error("cannot prepare the probe")]
    Preload(#[from] PreloadError),
    /// Uprobes could not be armed.
    #[error("cannot arm uprobes")]
    Uprobe(#[from] UprobeError),
    /// Programs that run already could not be told about the target.
    #[error("cannot tell the programs in the kernel about the target")]
    Programs(#[source] BpfSourceError),
    /// The target could not be looked at.
    #[error("cannot look at the target")]
    Poll(#[from] PollError),
    /// The scheduler could not be watched.
    #[error("cannot watch the scheduler")]
    Scheduler(#[from] PerfError),
    /// No place for probes was found.
    #[error("cannot find where to put probes")]
    Sites(#[from] LibcError),
    /// The target's memory could not be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The in-target probe must be there from the start.
    #[error("the preload source cannot be brought into a process that is already running")]
    PreloadNeedsLaunch,
    /// The end of the program could not be awaited.
    #[error("cannot wait for the program")]
    Wait(#[source] io::Error),
}

impl SessionError {
    /// Whether it is a matter of permission, rather than of what was asked for.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Discover(DiscoverError::NotPermitted { .. })
            | Self::Memory(MemoryError::Open { .. })
            | Self::Poll(PollError::Memory(MemoryError::Open { .. }))
            | Self::Scheduler(PerfError::NotPermitted { .. } | PerfError::Absent { .. })
            | Self::Uprobe(
                UprobeError::TracefsNotMounted
                | UprobeError::TracefsRefused { .. }
                | UprobeError::NoUprobeEvents { .. }
                | UprobeError::Perf(PerfError::NotPermitted { .. } | PerfError::Absent { .. }),
            ) => true,
            Self::Launch(LaunchError::Exec { source, .. }) => source.kind() == io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// What to do about it, where something can be done.
    pub fn hints(&self) -> Vec<String> {
        let without = "without privileges: gilscope run SCRIPT, with the backend preload, which needs none";
        match self {
            Self::Uprobe(UprobeError::Perf(error @ PerfError::TooManyFiles { .. })) => {
                let per_thread = "one is open for each thread, CPU and event";
                let remedy = error.remedy().map(|command| format!("try: {command}"));
                [Some(per_thread.to_owned()), remedy].into_iter().flatten().collect()
            }
            Self::Uprobe(error) => {
                let needs =
                    "uprobes need root, or CAP_BPF and CAP_PERFMON (Linux 6.10), or CAP_PERFMON with access to tracefs";
                let remedy = error.remedy().map(|command| format!("try: {command}"));
                [Some(needs.to_owned()), remedy, Some(without.to_owned())].into_iter().flatten().collect()
            }
            Self::Discover(DiscoverError::NotPermitted { .. })
            | Self::Memory(MemoryError::Open { .. })
            | Self::Poll(PollError::Memory(MemoryError::Open { .. })) => {
                vec!["become its user or root: sudo gilscope attach …".to_owned(), without.to_owned()]
            }
            Self::NoInterpreter { backend } => {
                let needs = "gilscope needs a dynamically linked CPython 3.8 or later; --python names one for scripts";
                let follow =
                    "this backend watches the program itself and none that it starts; --backend preload finds those";
                let brief = "a program that ends within milliseconds may be over before it can be looked at";
                let hints = [Some(needs), (*backend != Backend::Preload).then_some(follow), Some(brief)];
                hints.into_iter().flatten().map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }
}
