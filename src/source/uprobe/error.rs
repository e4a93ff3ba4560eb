//! Why lock events cannot be taken through uprobes, and what to type about it.

use std::{io, path::PathBuf};

use crate::{
    perf::{error::PerfError, stream::Probe},
    target::site::Site,
};

/// Why uprobes could not be armed.
#[derive(Debug, thiserror::Error)]
pub enum UprobeError {
    /// The kernel's tracing file system is mounted nowhere.
    #[error("tracefs is not mounted")]
    TracefsNotMounted,
    /// It may not be used by this user, or not at all (a locked-down kernel).
    #[error("{} may not be used by this user", path.display())]
    TracefsRefused {
        /// The file that was refused.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel was built without `CONFIG_UPROBE_EVENTS`.
    #[error("this kernel has no uprobe events: {} does not exist", path.display())]
    NoUprobeEvents {
        /// The file that is missing.
        path: PathBuf,
    },
    /// The file to be probed cannot be seen.
    #[error("cannot find {} to probe it", file.display())]
    SiteMissing {
        /// The file.
        file: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel did not accept the definitions.
    #[error("the kernel refuses the probes {definitions:?}")]
    DefinitionRefused {
        /// What was written, one definition a line.
        definitions: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel cannot put a probe there: the file system does not allow it, or the instruction does not.
    #[error("the kernel cannot probe {} at {offset:#x}", file.display())]
    NotProbeable {
        /// The file.
        file: PathBuf,
        /// The position in it.
        offset: u64,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process that would remove the probes if we were killed could not be started.
    #[error("cannot start the sweeper")]
    Sweeper {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The probes exist but may not be opened.
    #[error(transparent)]
    Perf(#[from] PerfError),
    /// Our own libc could not be found, or its probe was not hit, when measuring the cost of a hit.
    #[error("cannot measure the cost of a probe on this process")]
    Unmeasured,
}

impl UprobeError {
    /// The command that would enable uprobes, where there is one.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::TracefsNotMounted => Some("sudo mount -t tracefs tracefs /sys/kernel/tracing".to_owned()),
            Self::TracefsRefused { .. } => Some("sudo gilscope …".to_owned()),
            Self::Perf(why) => why.remedy(),
            _ => None,
        }
    }

    /// Names the place when the kernel refuses an event because of it.
    pub(crate) fn from_perf(why: PerfError, probes: &[Probe], sites: &[Site]) -> Self {
        let PerfError::Open { tracepoint: Some(tracepoint), source, .. } = why else { return Self::Perf(why) };
        let at = probes.iter().position(|probe| probe.tracepoint == tracepoint);
        let site = at.and_then(|at| sites.get(at)).expect("events are opened for defined sites alone");
        Self::NotProbeable { file: site.file.clone(), offset: site.offset.raw(), source }
    }
}
