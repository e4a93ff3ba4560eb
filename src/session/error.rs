//! Why there is no profile.

use std::io;

use crate::{
    bpf::error::BpfError,
    model::{ids::Pid, profile::Backend},
    perf::error::PerfError,
    session::{hints, ladder::Fallen, options::BackendChoice},
    source::{
        bpf::error::BpfSourceError, poll::PollError, preload::PreloadError, uprobe::error::UprobeError,
        watchpoint::error::WatchpointError,
    },
    target::{
        discover::DiscoverError,
        launch::LaunchError,
        libc::LibcError,
        loader::Unreachable,
        memory::MemoryError,
        proc_mount::{ProcMountError, is_root_of_user_namespace},
        runtime::{foreign::Foreign, identify::IdentifyError},
    },
};

/// Why a recording could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// `/proc` does not show this process's own pid namespace.
    #[error(transparent)]
    Proc(#[from] ProcMountError),
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
    /// The lock's words could not be watched.
    #[error("cannot watch the lock's words")]
    Watchpoint(#[from] WatchpointError),
    /// Programs could not be put into the kernel, or told about the target.
    #[error("cannot run BPF programs at uprobes")]
    Programs(#[source] BpfSourceError),
    /// The target could not be looked at.
    #[error("cannot look at the target")]
    Poll(#[from] PollError),
    /// The program will not load the in-target probe.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The rung cannot see the lock of such a program.
    #[error("PyPy takes and gives back its lock without a call: only looks (--backend poll) see who holds it")]
    Unsuited,
    /// The program has not loaded it.
    #[error(
        "the program's interpreter has not loaded the probe: its dynamic loader ignores LD_PRELOAD, or it has none"
    )]
    ProbeNotLoaded,
    /// Events that must come have not come.
    #[error("it can be armed, but no event arrives")]
    Silent,
    /// The program on which rungs are tried could not be made.
    #[error("cannot make a program to try on")]
    Patient(#[source] io::Error),
    /// Nothing works.
    #[error("{}", nothing_works(*choice, *pid, fallen))]
    NoRung {
        /// What was asked for.
        choice: BackendChoice,
        /// The process; `None` for a program that was not started.
        pid: Option<Pid>,
        /// What was tried.
        fallen: Vec<Fallen>,
    },
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
            | Self::Programs(BpfSourceError::Perf(PerfError::NotPermitted { .. } | PerfError::Absent { .. }))
            | Self::Uprobe(
                UprobeError::TracefsNotMounted
                | UprobeError::TracefsRefused { .. }
                | UprobeError::NoUprobeEvents { .. }
                | UprobeError::Perf(PerfError::NotPermitted { .. } | PerfError::Absent { .. }),
            ) => true,
            Self::Watchpoint(error) => error.is_refusal(),
            Self::Launch(LaunchError::Exec { source, .. }) => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Programs(BpfSourceError::Bpf(why)) => why.is_refusal(),
            // With that permission one of them would have worked.
            Self::NoRung { fallen, .. } => fallen.iter().any(|fallen| fallen.why.is_refusal()),
            _ => false,
        }
    }

    /// Whether it is a matter of where gilscope runs and with which rights, rather than of the program.
    pub(super) fn is_of_the_place(&self) -> bool {
        let kernel = matches!(self, Self::Programs(BpfSourceError::Bpf(BpfError::OldKernel(_))));
        kernel || self.is_refusal()
    }

    /// What to do about it, where something can be done.
    pub fn hints(&self) -> Vec<String> {
        let partial_root = self.is_refusal() && is_root_of_user_namespace();
        let mut hints = self.own_hints();
        if partial_root {
            // More rights of the kind it has already would not help.
            hints.retain(|hint| !hint.contains("sudo"));
            let why = "you are root of a user namespace only, whose capabilities do not count for the kernel's probes";
            hints.insert(0, why.to_owned());
            hints.push("or from outside the container, as root of the host: gilscope attach PID".to_owned());
        }
        hints
    }

    fn own_hints(&self) -> Vec<String> {
        match self {
            Self::NoRung { pid, fallen, .. } => hints::nothing_works(*pid, fallen),
            Self::Discover(DiscoverError::NotPermitted { pid, .. }) => hints::not_permitted(*pid),
            Self::Discover(DiscoverError::Foreign { what, .. }) => {
                what.advice().into_iter().map(str::to_owned).collect()
            }
            Self::Unsuited => vec!["leave --backend out, or say --backend poll".to_owned()],
            Self::Discover(DiscoverError::Unreadable { why, .. }) if matches!(**why, IdentifyError::PyPy(_)) => {
                Foreign::PyPy.advice().into_iter().map(str::to_owned).collect()
            }
            Self::NoInterpreter { backend } => hints::no_interpreter(*backend),
            Self::Proc(_) => {
                let mount = "mount -t proc proc /proc, in a mount namespace of its own; unshare: --mount-proc; nsenter: -m beside -p";
                vec![format!("try: {mount}")]
            }
            _ => Vec::new(),
        }
    }
}

/// One sentence: what was asked for, and why each rung did not bear.
fn nothing_works(choice: BackendChoice, pid: Option<Pid>, fallen: &[Fallen]) -> String {
    let whom = pid.map_or_else(|| "this program".to_owned(), |pid| format!("process {pid}"));
    let whys: Vec<String> = match fallen {
        [only] if choice.name() == only.rung.name() => vec![only.reason()],
        several => several.iter().map(Fallen::words).collect(),
    };
    match choice {
        BackendChoice::Auto => format!("no backend can observe {whom} here: {}", whys.join("; ")),
        only => format!("the backend {} cannot observe {whom} here: {}", only.name(), whys.join("; ")),
    }
}
