//! Identities: processes, threads and locks, each a type of its own so that they cannot be exchanged.

use std::fmt;

/// A process id as the observer's pid namespace shows it; always greater than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(i32);

/// A kernel thread id as the observer's pid namespace shows it; always greater than zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(i32);

/// One global lock of the target, numbered in order of discovery from 0.
///
/// CPython 3.12 and later may have several (one a sub-interpreter); earlier versions have exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockId(u32);

impl Pid {
    /// A pid from the kernel's number; `None` unless it is positive.
    pub fn from_raw(raw: i32) -> Option<Self> {
        (raw > 0).then_some(Self(raw))
    }

    /// The kernel's number.
    pub fn raw(self) -> i32 {
        self.0
    }

    /// The thread id of the process's first thread, which Linux numbers like the process.
    pub fn main_thread(self) -> Tid {
        Tid(self.0)
    }
}

impl Tid {
    /// A tid from the kernel's number; `None` unless it is positive.
    pub fn from_raw(raw: i32) -> Option<Self> {
        (raw > 0).then_some(Self(raw))
    }

    /// The kernel's number.
    pub fn raw(self) -> i32 {
        self.0
    }
}

impl LockId {
    /// The lock discovered as number `index`, counted from 0.
    pub const fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// The order of discovery, counted from 0.
    pub fn index(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
