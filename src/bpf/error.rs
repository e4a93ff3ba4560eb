//! Why programs cannot run in the kernel.

use std::{io, path::PathBuf};

/// Why programs cannot run in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum BpfError {
    /// The embedded object is none, or not for this processor.
    #[error("there are no programs for this processor")]
    NoObject,
    /// It cannot be read as an object of BPF programs.
    #[error("the programs cannot be read: {0}")]
    Object(#[from] object::Error),
    /// It lacks something.
    #[error("the programs cannot be read: {0} is missing or malformed")]
    Malformed(String),
    /// The kernel is too old.
    #[error("programs on the probes of one process need Linux 6.10, and this is {0}")]
    OldKernel(String),
    /// The pid namespace of this process cannot be looked at.
    #[error("the pid namespace of this process cannot be looked at")]
    Home(#[source] io::Error),
    /// A map could not be created.
    #[error("the kernel refuses the map {name}")]
    Map {
        /// Its name in the object.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A map could not be changed or read.
    #[error("the kernel refuses an access to the map {name}")]
    Access {
        /// Its name in the object.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A program could not be loaded.
    #[error("the kernel refuses the program {name}")]
    Program {
        /// Its name in the object.
        name: String,
        /// What the verifier said.
        log: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file with places to probe could not be opened.
    #[error("cannot open {} to probe it", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A program could not be linked to its places.
    #[error("the kernel cannot link a program to {}", file.display())]
    Link {
        /// The file.
        file: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The sampling clock of a CPU could not be opened or linked.
    #[error("there is no sampling clock on CPU {cpu}")]
    Clock {
        /// The CPU.
        cpu: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A program could not run at a place that the kernel itself has marked.
    #[error("the kernel cannot run the program {name}")]
    Tracepoint {
        /// Its name in the object.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The ring could not be mapped.
    #[error("cannot map the programs' ring")]
    Ring(#[source] io::Error),
}

impl BpfError {
    /// Whether the kernel will not let this process, though it could.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Map { source, .. }
            | Self::Access { source, .. }
            | Self::Program { source, .. }
            | Self::Link { source, .. }
            | Self::Tracepoint { source, .. }
            | Self::Clock { source, .. } => {
                source.kind() == io::ErrorKind::PermissionDenied || source.raw_os_error() == Some(libc::ENOSYS)
            }
            _ => false,
        }
    }

    /// What the verifier said about a program, if it was asked.
    pub fn verifier_log(&self) -> Option<&str> {
        match self {
            Self::Program { log, .. } if !log.is_empty() => Some(log),
            _ => None,
        }
    }
}
