//! Why a lock's words cannot be watched, and what to type about it.

use crate::{
    perf::error::PerfError,
    target::{memory::MemoryError, runtime::RuntimeError},
};

/// Why hardware watchpoints cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum WatchpointError {
    /// What writes to the words is read off the processor's instructions.
    #[error("watchpoints are understood on x86-64 alone")]
    OtherProcessor,
    /// The kernel would not watch them.
    #[error(transparent)]
    Perf(#[from] PerfError),
    /// The program has no lock yet, or not any more.
    #[error("the program has no lock that could be watched")]
    NoLock,
    /// Its locks could not be found.
    #[error("cannot find the program's locks")]
    Locks(#[from] RuntimeError),
    /// Its memory could not be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Which word of a condition variable says that a wait begins is known of glibc alone.
    #[error("the program's C library is not glibc, and where waits begin in its condition variables is not known")]
    OtherLibrary,
    /// The cost of a write could not be measured, since none was told of.
    #[error("a watchpoint on this process's own memory tells of no write")]
    Silent,
}

impl WatchpointError {
    /// Whether it is a matter of permission, rather than of the program or the machine.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Perf(PerfError::NotPermitted { .. } | PerfError::Absent { .. })
                | Self::Memory(MemoryError::Open { .. })
        )
    }

    /// What would permit it, where something can be done.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Perf(PerfError::DebugRegistersTaken { .. }) => {
                Some("remove the watchpoints of the debugger or profiler that has them, and try again".to_owned())
            }
            Self::Perf(why) => why.remedy().map(|command| format!("try: {command}")),
            Self::Memory(MemoryError::Open { .. }) => Some("become its user or root: sudo gilscope …".to_owned()),
            Self::OtherLibrary => Some("try: gilscope run, whose backend preload works with musl".to_owned()),
            _ => None,
        }
    }
}
