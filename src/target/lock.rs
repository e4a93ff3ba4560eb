//! Where a global lock sits in the target: its own address and those of its two condition variables.

use crate::{
    model::{address::LiveAddress, ids::Tid, time::Nanos},
    target::memory::{Memory, MemoryError},
};

/// The longest switch interval believed, in microseconds: programs set hours to switch never, and no pointer is this
/// small.
pub const LONGEST_INTERVAL: u64 = 1_000_000_000_000;

/// Byte offsets inside the lock's structure.
///
/// `struct _gil_runtime_state` is the same in every CPython from 3.7 to 3.15; free-threaded builds put one more
/// word in front. The toy VM copies the default layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockLayout {
    /// The switch interval in microseconds, 64 bits.
    pub interval: u64,
    /// The thread state that took the lock last, a pointer.
    pub last_holder: u64,
    /// 1 held, 0 free, -1 not created or destroyed; 32 bits.
    pub locked: u64,
    /// The condition that waiters sleep on; signalled at every release.
    pub cond: u64,
    /// The condition that a forced releaser sleeps on; signalled at every acquisition.
    pub switch_cond: u64,
}

impl LockLayout {
    /// Builds with a lock that is always in use, measured on 3.7 to 3.15.
    pub const DEFAULT: Self = Self { interval: 0, last_holder: 8, locked: 16, cond: 32, switch_cond: 120 };
    /// Free-threaded builds, measured on 3.13t.
    pub const FREE_THREADED: Self = Self { interval: 8, last_holder: 16, locked: 24, cond: 40, switch_cond: 128 };
}

/// One global lock of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockSeat {
    /// Start of the lock's structure.
    pub address: LiveAddress,
    /// Offsets inside it.
    pub layout: LockLayout,
    /// The interpreter that owns it (the first one, when several share it); `None` when not known.
    pub interpreter: Option<i64>,
    /// The name shown in reports: `GIL`, or `GIL of interpreter 2` when there are several.
    pub name: String,
}

/// What the lock's words say at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockWords {
    /// Whether somebody owns it.
    pub locked: bool,
    /// The thread state of the owner, or of the last one when the lock is free.
    pub last_holder: LiveAddress,
}

impl LockSeat {
    /// The condition variable that waiters sleep on.
    pub fn cond(&self) -> LiveAddress {
        self.address.plus(self.layout.cond)
    }

    /// The condition variable that is signalled at every acquisition.
    pub fn switch_cond(&self) -> LiveAddress {
        self.address.plus(self.layout.switch_cond)
    }

    /// A lock of the same shape whose condition variables are these two; `None` if they lie at another distance.
    pub fn of_pair(&self, cond: LiveAddress, switch_cond: LiveAddress) -> Option<Self> {
        let address = LiveAddress::in_target(cond.raw().checked_sub(self.layout.cond)?);
        let seat =
            Self { address, layout: self.layout, interpreter: None, name: "GIL of an ended interpreter".to_owned() };
        (seat.switch_cond() == switch_cond).then_some(seat)
    }

    /// How long a waiter waits before it asks the owner to give way; `None` for what no program can mean.
    pub fn switch_interval(&self, memory: &dyn Memory) -> Option<Nanos> {
        let micros = memory.read_u64(self.address.plus(self.layout.interval)).ok()?;
        (1..=LONGEST_INTERVAL).contains(&micros).then(|| Nanos::from_nanos(micros * 1_000))
    }

    /// Reads the lock's words.
    pub fn read(&self, memory: &dyn Memory) -> Result<LockWords, MemoryError> {
        Ok(LockWords {
            locked: memory.read_u32(self.address.plus(self.layout.locked))? == 1,
            last_holder: memory.read_pointer(self.address.plus(self.layout.last_holder))?,
        })
    }
}

/// A thread of the interpreter: its state structure in memory and the kernel thread that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterpreterThread {
    /// `PyThreadState *` or the toy VM's equivalent.
    pub state: LiveAddress,
    /// The kernel's thread id as the observer's pid namespace shows it.
    pub tid: Tid,
}
