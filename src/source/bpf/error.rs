//! Why lock events cannot be taken by programs in the kernel.

use crate::{
    bpf::error::BpfError,
    perf::{error::PerfError, events::missing},
    target::{memory::MemoryError, runtime::RuntimeError},
};

/// Why lock events cannot be taken by programs in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum BpfSourceError {
    /// The programs cannot run.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// The scheduler cannot be watched.
    #[error(transparent)]
    Perf(#[from] PerfError),
    /// The target's threads cannot be listed.
    #[error(transparent)]
    Threads(#[from] RuntimeError),
    /// The target's memory cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Programs can number threads as the kernel does, or as the target itself does, and we do neither.
    #[error(
        "both this process and the target live in pid namespaces of their own, where programs see other thread ids"
    )]
    Nested,
    /// The kernel does not say where in its description of a thread the thread's number lies.
    #[error("this kernel does not describe its own types (BTF)")]
    NoTypes,
    /// This process lives in a pid namespace of its own.
    #[error("in a pid namespace of its own, gilscope does not know the kernel's numbers of threads")]
    NumberedElsewhere,
    /// A counter cannot be opened on a CPU.
    #[error("{name} on CPU {cpu}: {}", match source.raw_os_error() {
        Some(libc::EINVAL) => "the processor cannot count all of the events at the same time".to_owned(),
        _ => missing(source),
    })]
    Counter {
        /// The event's name.
        name: String,
        /// The CPU.
        cpu: u32,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A probe has its argument where the programs do not look for it.
    #[error("a probe has its argument in an unusual register")]
    Register,
}
