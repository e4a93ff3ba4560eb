//! Where to put a probe, and what a hit of it means.

use std::path::PathBuf;

use crate::model::{address::FileOffset, event::LockStep};

/// One place in one file at which the kernel can report a hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// A path under which the observer can open the file: for a live target one below `/proc/P/map_files` or
    /// `/proc/P/root`, since the target may live in another mount namespace.
    pub file: PathBuf,
    /// The instruction's position in the file.
    pub offset: FileOffset,
    /// What a hit means.
    pub meaning: SiteMeaning,
    /// The register that holds the probe's one argument: a condition variable or a lock.
    pub argument: Register,
}

/// What a hit of a [`Site`] means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SiteMeaning {
    /// Entry of a libc function; the argument is the condition variable.
    Libc(CondFunction),
    /// A step itself: a USDT probe of the toy VM, whose argument is the lock's address, or a libc call by which PyPy takes it,
    /// whose argument tells whether it does.
    Step(LockStep),
}

/// The libc functions that are observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CondFunction {
    /// `pthread_cond_signal`.
    Signal,
    /// `pthread_cond_timedwait`.
    TimedWait,
    /// `pthread_cond_wait`.
    Wait,
    /// `pthread_cond_init`: whatever lay at that address before is gone.
    Init,
}

/// A libc function in which a thread sleeps until a semaphore is free, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SleepSite {
    /// As for a [`Site`].
    pub file: PathBuf,
    /// As for a [`Site`].
    pub offset: FileOffset,
    /// Which function.
    pub function: SleepFunction,
}

/// Whether such a function has a time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SleepFunction {
    /// It has none: `sem_wait`.
    Unlimited,
    /// It has: `sem_timedwait`, `sem_clockwait`.
    Limited,
}

/// A general register, numbered as the kernel's `perf_regs.h` does for the architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register(u8);

impl Register {
    /// The register that carries a function's first argument.
    #[cfg(target_arch = "x86_64")]
    pub const FIRST_ARGUMENT: Self = Self(5);
    /// The register that carries a function's first argument.
    #[cfg(target_arch = "aarch64")]
    pub const FIRST_ARGUMENT: Self = Self(0);

    /// The register with this number in `perf_regs.h`; `None` from 64 on, where the kernel's mask ends.
    pub fn from_perf_number(number: u8) -> Option<Self> {
        (number < 64).then_some(Self(number))
    }

    /// The number in `perf_regs.h`.
    pub fn perf_number(self) -> u8 {
        self.0
    }
}
