//! Where a global lock sits in the target: its own address and those of its two condition variables.

use crate::{
    model::{address::LiveAddress, event::LockStep, ids::Tid, time::Nanos},
    target::memory::{Memory, MemoryError},
};

/// The longest switch interval believed, in microseconds: programs set hours to switch never, and no pointer is this
/// small.
pub const LONGEST_INTERVAL: u64 = 1_000_000_000_000;

/// Size of `pthread_cond_t` with glibc and musl.
const COND_SIZE: u64 = COND_LENGTH as u64;
const COND_LENGTH: usize = 48;
/// A lock of a free-threaded build, up to the end of its second condition.
const LONGEST_LOCK: usize = 128 + COND_LENGTH;
/// More threads than a process can have.
const MOST_WAITERS: u64 = 1 << 22;
/// Size of the mutex that follows each condition variable in the lock.
const MUTEX_SIZE: u64 = 40;

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
    /// How the words are to be read.
    #[serde(skip)]
    pub shape: LockShape,
}

/// How a lock's words are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockShape {
    /// As CPython's: a flag, the thread state that took the lock last, and two condition variables.
    #[default]
    Structure,
    /// As PyPy's: one word at the start, 0 or the holder's thread descriptor. `switch_cond` is the mutex that waiters queue at,
    /// `cond` the condition that the first of them sleeps on, all offsets wrap.
    Word {
        /// The mutex that belongs to the condition.
        mutex: u64,
        /// A 64-bit count of the threads that wait; `None` when it was not found.
        waiters: Option<u64>,
    },
}

impl LockLayout {
    /// Builds with a lock that is always in use, measured on 3.7 to 3.15.
    pub const DEFAULT: Self =
        Self { interval: 0, last_holder: 8, locked: 16, cond: 32, switch_cond: 120, shape: LockShape::Structure };
    /// Free-threaded builds, measured on 3.13t.
    pub const FREE_THREADED: Self =
        Self { interval: 8, last_holder: 16, locked: 24, cond: 40, switch_cond: 128, shape: LockShape::Structure };
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
    /// The thread state of the owner, or of the last one when the lock is free; of PyPy's owner its thread descriptor.
    pub last_holder: LiveAddress,
}

/// A whole lock as it was at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockReading {
    /// Its words.
    pub words: LockWords,
    /// Its two condition variables; nothing where the lock has none.
    pub conds: [[u8; COND_LENGTH]; 2],
    /// How many threads wait, where the lock itself says so.
    pub waiters: Option<u64>,
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

    /// Whether a call of libc with this argument is a step with a lock that is one word: it queues at its mutex, has got on, or
    /// has given way by its condition.
    pub fn is_queued_for_by(&self, step: LockStep, argument: LiveAddress) -> bool {
        let of = match step {
            LockStep::Want | LockStep::Acquired => self.switch_cond(),
            LockStep::Yielded => self.cond(),
            LockStep::Released => return false,
        };
        self.layout.shape != LockShape::Structure && argument == of
    }

    /// A lock of the same shape whose condition variables are these two; `None` if they lie at another distance.
    pub fn of_pair(&self, cond: LiveAddress, switch_cond: LiveAddress) -> Option<Self> {
        let address = LiveAddress::in_target(cond.raw().checked_sub(self.layout.cond)?);
        let seat =
            Self { address, layout: self.layout, interpreter: None, name: "GIL of an ended interpreter".to_owned() };
        (seat.switch_cond() == switch_cond).then_some(seat)
    }

    /// Whether a thread that sleeps on the futex `word` waits for this lock.
    pub fn is_waited_for_at(&self, word: LiveAddress) -> bool {
        if let LockShape::Word { mutex, .. } = self.layout.shape {
            let mutexes = [self.switch_cond(), self.address.plus(mutex)];
            return lies_in(word, self.cond(), COND_SIZE)
                || mutexes.into_iter().any(|mutex| lies_in(word, mutex, MUTEX_SIZE));
        }
        [self.cond(), self.switch_cond()].into_iter().any(|cond| lies_in(word, cond, COND_SIZE))
    }

    /// Whether the futex `word` is one of the mutexes that follow the two conditions.
    pub fn has_mutex_at(&self, word: LiveAddress) -> bool {
        if self.layout.shape != LockShape::Structure {
            return false;
        }
        let after = [self.cond(), self.switch_cond()].map(|cond| cond.plus(COND_SIZE));
        after.into_iter().any(|mutex| lies_in(word, mutex, MUTEX_SIZE))
    }

    /// How long a waiter waits before it asks the owner to give way; `None` for what no program can mean, and where waiters
    /// do not ask.
    pub fn switch_interval(&self, memory: &dyn Memory) -> Option<Nanos> {
        if self.layout.shape != LockShape::Structure {
            return None;
        }
        let micros = memory.read_u64(self.address.plus(self.layout.interval)).ok()?;
        (1..=LONGEST_INTERVAL).contains(&micros).then(|| Nanos::from_nanos(micros * 1_000))
    }

    /// Reads all of the lock at once.
    pub fn read_whole(&self, memory: &dyn Memory) -> Result<LockReading, MemoryError> {
        if let LockShape::Word { waiters, .. } = self.layout.shape {
            let words = self.read(memory)?;
            let waiters = waiters.and_then(|offset| memory.read_u64(self.address.plus(offset)).ok());
            // It is negative until the lock has been made.
            let waiters = waiters.filter(|count| *count < MOST_WAITERS);
            return Ok(LockReading { words, conds: [[0; COND_LENGTH]; 2], waiters });
        }
        let mut bytes = [0; LONGEST_LOCK];
        memory.read(self.address, &mut bytes)?;
        let at = |offset: u64| usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let word = |offset| at(offset).first_chunk().copied().map_or(0, u64::from_le_bytes);
        let half = |offset| at(offset).first_chunk().copied().map_or(0, u32::from_le_bytes);
        let cond = |offset| at(offset).first_chunk().copied().unwrap_or([0; COND_LENGTH]);
        let last_holder = LiveAddress::in_target(word(self.layout.last_holder));
        let words = LockWords { locked: half(self.layout.locked) == 1, last_holder };
        Ok(LockReading { words, conds: [self.layout.cond, self.layout.switch_cond].map(cond), waiters: None })
    }

    /// Reads the lock's words.
    pub fn read(&self, memory: &dyn Memory) -> Result<LockWords, MemoryError> {
        if self.layout.shape != LockShape::Structure {
            let holder = memory.read_pointer(self.address)?;
            return Ok(LockWords { locked: !holder.is_null(), last_holder: holder });
        }
        Ok(LockWords {
            locked: memory.read_u32(self.address.plus(self.layout.locked))? == 1,
            last_holder: memory.read_pointer(self.address.plus(self.layout.last_holder))?,
        })
    }
}

fn lies_in(address: LiveAddress, start: LiveAddress, length: u64) -> bool {
    address.minus(start.raw()).raw() < length
}

/// A thread of the interpreter: its state structure in memory and the kernel thread that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterpreterThread {
    /// `PyThreadState *` or the toy VM's equivalent.
    pub state: LiveAddress,
    /// The kernel's thread id as the observer's pid namespace shows it.
    pub tid: Tid,
}
