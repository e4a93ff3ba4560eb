//! Reading the target's memory without stopping it: the trait that readers take, and the live implementation.
//!
//! Reads go through `/proc/P/mem`, which needs the right to trace the process but never attaches to it.

use std::{fs::File, io, os::unix::fs::FileExt};

use crate::model::{address::LiveAddress, ids::Pid};

/// Something that can be read at the target's addresses. Tests implement it over plain byte arrays.
pub trait Memory {
    /// Fills `into` from `at`; an error when any byte of the range cannot be read.
    fn read(&self, at: LiveAddress, into: &mut [u8]) -> Result<(), MemoryError>;

    /// The little-endian 64-bit word at `at`.
    fn read_u64(&self, at: LiveAddress) -> Result<u64, MemoryError> {
        let mut word = [0; 8];
        self.read(at, &mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    /// The little-endian 32-bit word at `at`.
    fn read_u32(&self, at: LiveAddress) -> Result<u32, MemoryError> {
        let mut word = [0; 4];
        self.read(at, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    /// The pointer at `at`.
    fn read_pointer(&self, at: LiveAddress) -> Result<LiveAddress, MemoryError> {
        self.read_u64(at).map(LiveAddress::in_target)
    }
}

/// Why memory of the target could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The process's memory could not be opened.
    #[error("cannot open the memory of process {pid}")]
    Open {
        /// The process.
        pid: Pid,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Some byte of the range is not readable.
    #[error("cannot read {length} bytes at {at}")]
    Read {
        /// Start of the range.
        at: LiveAddress,
        /// Its length in bytes.
        length: usize,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// The memory of a live process.
#[derive(Debug)]
pub struct ProcessMemory {
    file: File,
}

impl ProcessMemory {
    /// Opens the memory of `pid` for reading.
    pub fn open(pid: Pid) -> Result<Self, MemoryError> {
        let file = File::open(format!("/proc/{pid}/mem")).map_err(|source| MemoryError::Open { pid, source })?;
        Ok(Self { file })
    }
}

impl Memory for ProcessMemory {
    fn read(&self, at: LiveAddress, into: &mut [u8]) -> Result<(), MemoryError> {
        self.file.read_exact_at(into, at.raw()).map_err(|source| MemoryError::Read { at, length: into.len(), source })
    }
}
