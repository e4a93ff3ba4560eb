//! A running PyPy: its one lock, and which thread holds it.
//!
//! The lock is a word, 0 or the thread descriptor (`pthread_self()`) of its holder, and libc's descriptor has the kernel's
//! thread id. Nothing is believed unconfirmed: what machine code says is the lock must name nothing but living threads of the
//! process, again and again, or the process is refused.

pub mod code;

use std::collections::HashMap;

use crate::{
    model::{
        address::{ElfAddress, LiveAddress},
        ids::Tid,
    },
    target::{
        elf::{ElfError, Symbol},
        image::Image,
        libc::pthread_tid_offset,
        lock::{LockLayout, LockSeat, LockShape},
        memory::{Memory, MemoryError},
        runtime::{
            identify::Looked,
            pypy::code::{LockAddresses, lock_addresses},
            threads::inner_ids,
        },
    },
};

/// What every PyPy library exports for its executable.
const SYMBOL: &str = "pypy_main_startup";
/// Readings that must all fit; they take 0.1 ms.
const READINGS: usize = 200;
/// A reading that does not fit is repeated so often: its thread may have been born, or have ended, just now.
const TRIES: usize = 3;
/// Before its version in PyPy's own data.
const BEFORE_VERSION: &[u8] = b"[PyPy ";
/// As in `7.3.11-beta0`, with some room.
const LONGEST_VERSION: usize = 16;

/// One PyPy in one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PyPy {
    /// Such as `7.3.11`; `None` when the build does not say.
    pub version: Option<String>,
    /// Its lock.
    pub lock: LockSeat,
    /// Offset of the kernel's thread id in libc's thread descriptor.
    pthread_tid: u64,
}

/// Why a PyPy cannot be observed.
#[derive(Debug, thiserror::Error)]
pub enum PyPyError {
    /// Its machine code does not say where its lock is.
    #[error("{path} is a PyPy whose machine code does not show where it keeps its lock")]
    NoLock {
        /// The library.
        path: String,
    },
    /// What should be the lock names something that is no thread of the process.
    #[error("what should be PyPy's lock, at {at}, holds {value}, which is no thread of the process")]
    Unconfirmed {
        /// The word.
        at: LiveAddress,
        /// What it says.
        value: LiveAddress,
    },
    /// The C library does not say where its thread descriptors have the kernel's ids.
    #[error("PyPy's lock names its holder in terms of the C library, which does not tell its threads' ids")]
    NoThreadIds,
    /// The library is damaged.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// Its memory cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// The PyPy in `image`; `None` when there is none.
pub fn identify(looked: Looked<'_>, image: &Image) -> Result<Option<PyPy>, PyPyError> {
    // A damaged file among the many that a process maps is no reason to give up on the others.
    if image.elf.symbol(SYMBOL).unwrap_or_default().is_none() {
        return Ok(None);
    }
    let unclear = || PyPyError::NoLock { path: image.shown_path.clone() };
    let start = image.elf.section_address(".text")?.ok_or_else(unclear)?;
    let text = image.elf.whole_section(".text")?.ok_or_else(unclear)?;
    let addresses = lock_addresses(&text, start.raw()).ok_or_else(unclear)?;
    drop(text);
    let pthread_tid = pthread_tid_offset(looked.pid, looked.map, looked.memory).ok_or(PyPyError::NoThreadIds)?;
    let pypy = PyPy { version: None, lock: seat(addresses, image), pthread_tid };
    pypy.confirm(looked)?;
    Ok(Some(PyPy { version: version(image)?, ..pypy }))
}

fn seat(addresses: LockAddresses, image: &Image) -> LockSeat {
    let live = |address| image.live(Symbol { address: ElfAddress::from_file(address), size: 0 });
    let offset = |address: u64| address.wrapping_sub(addresses.word);
    let shape = LockShape::Word { mutex: offset(addresses.mutex), waiters: addresses.waiters.map(offset) };
    let layout = LockLayout {
        interval: 0,
        last_holder: 0,
        locked: 0,
        cond: offset(addresses.cond),
        switch_cond: offset(addresses.queue),
        shape,
    };
    LockSeat { address: live(addresses.word), layout, interpreter: None, name: "GIL".to_owned() }
}

/// The version that the build tells programs (`sys.version`).
fn version(image: &Image) -> Result<Option<String>, ElfError> {
    for section in [".rodata", ".data"] {
        let bytes = image.elf.whole_section(section)?.unwrap_or_default();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == BEFORE_VERSION[0]
                && let Some(version) = bytes[at..].strip_prefix(BEFORE_VERSION).and_then(version_at)
            {
                return Ok(Some(version));
            }
            at += 1;
        }
    }
    Ok(None)
}

fn version_at(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().take(LONGEST_VERSION).position(|byte| *byte == b' ')?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let is_version = text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '+'));
    is_version.then(|| text.to_owned())
}

impl PyPy {
    /// The kernel's id of the thread with this descriptor, in the target's own pid namespace; nothing says that there is one.
    pub fn inner_tid(&self, memory: &dyn Memory, descriptor: LiveAddress) -> Option<Tid> {
        let raw = memory.read_u32(descriptor.plus(self.pthread_tid)).ok()?;
        Tid::from_raw(raw.cast_signed())
    }

    /// An error unless the word has named nobody but threads of the process.
    fn confirm(&self, looked: Looked<'_>) -> Result<(), PyPyError> {
        let mut threads = inner_ids(looked.pid);
        for _ in 0..READINGS {
            let mut value = self.lock.read(looked.memory)?.last_holder;
            for _ in 1..TRIES {
                if self.names_nobody_else(looked.memory, value, &threads) {
                    break;
                }
                threads = inner_ids(looked.pid);
                value = self.lock.read(looked.memory)?.last_holder;
            }
            if !self.names_nobody_else(looked.memory, value, &threads) {
                return Err(PyPyError::Unconfirmed { at: self.lock.address, value });
            }
        }
        Ok(())
    }

    fn names_nobody_else(&self, memory: &dyn Memory, value: LiveAddress, threads: &HashMap<i32, Tid>) -> bool {
        value.is_null() || self.inner_tid(memory, value).is_some_and(|tid| threads.contains_key(&tid.raw()))
    }
}

#[cfg(test)]
mod tests {
    use super::version_at;

    #[test]
    fn a_version_is_a_word_of_its_own() {
        assert_eq!(version_at(b"7.3.11 with GCC").as_deref(), Some("7.3.11"));
        assert_eq!(version_at(b"7.3.12-beta0 with").as_deref(), Some("7.3.12-beta0"));
        for other in [&b"%s with GCC"[..], b"7.3.11", b"", b" 7.3", b"7.\xff1 ", b"12345678901234567890 "] {
            assert_eq!(version_at(other), None);
        }
    }
}
