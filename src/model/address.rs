//! Addresses of two spaces that must never be mixed: inside an ELF file, and inside a live process.

use std::fmt;

/// A byte position inside a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileOffset(u64);

/// A virtual address as an ELF file states it, before the loader adds its bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElfAddress(u64);

/// A virtual address inside the running target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LiveAddress(u64);

impl FileOffset {
    /// The byte at `offset` from the start of the file.
    pub const fn from_start(offset: u64) -> Self {
        Self(offset)
    }

    /// Bytes from the start of the file.
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl ElfAddress {
    /// The address `address` as written in the file's headers and symbol tables.
    pub const fn from_file(address: u64) -> Self {
        Self(address)
    }

    /// The number as written in the file.
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl LiveAddress {
    /// The address `address` of the target's address space.
    pub const fn in_target(address: u64) -> Self {
        Self(address)
    }

    /// The number the target itself would use.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The address `offset` bytes further, wrapping as the processor would.
    pub const fn plus(self, offset: u64) -> Self {
        Self(self.0.wrapping_add(offset))
    }

    /// The address `offset` bytes before, wrapping as the processor would.
    pub const fn minus(self, offset: u64) -> Self {
        Self(self.0.wrapping_sub(offset))
    }

    /// Whether this is the null pointer.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for LiveAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for ElfAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
