//! The ring that programs write records into and we read: any CPU writes, we alone read.
//!
//! Invariant: a record is read only when its writer has finished it, and its space is given back only after it has been
//! read; a writer that finds no space drops its record.
#![expect(unsafe_code, reason = "the ring is memory shared with the kernel")]

use std::{
    fmt,
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};

use crate::bpf::{error::BpfError, map::Map};

/// Before each record: its length with two flags, and a number of the kernel's own.
const HEADER: u64 = 8;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// What a reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reading {
    /// Everything that had been begun when the reading began has been read.
    Complete,
    /// A writer has not finished its record; what follows that one waits.
    Stuck,
}

/// A mapped ring.
pub struct Ring {
    /// Our position; the one page that we may write.
    consumer: MmapRaw,
    /// The writers' position, one page, and then the data, mapped twice in a row so that no record is broken.
    producer: MmapRaw,
    page: usize,
    size: u64,
}

impl Ring {
    /// Maps the ring `map`.
    pub fn map(map: &Map) -> Result<Self, BpfError> {
        let size = u64::from(map.definition().entries);
        let page = page_size();
        let descriptor = map.as_fd().as_raw_fd();
        let consumer = MmapOptions::new().len(page).map_raw(descriptor).map_err(BpfError::Ring)?;
        let twice = 2 * usize::try_from(size).expect("a ring fits the address space");
        let mut behind = MmapOptions::new();
        behind.offset(page as u64).len(page + twice);
        let producer = behind.map_raw_read_only(descriptor).map_err(BpfError::Ring)?;
        Ok(Self { consumer, producer, page, size })
    }

    /// Hands every finished record to `with`, in the order in which they were begun.
    pub fn read(&mut self, mut with: impl FnMut(&[u8])) -> Reading {
        // ATOMICS: pairs with the kernel's store-release of the position after it has written a record's header.
        let end = self.produced().load(Ordering::Acquire);
        // ATOMICS: only we write this word, so any ordering reads our own last value.
        let mut at = self.consumed().load(Ordering::Relaxed);
        while at < end {
            // ATOMICS: pairs with the exchange that clears the busy flag: the record is whole once it is seen cleared.
            let length = self.header(at).load(Ordering::Acquire);
            if length & BUSY != 0 {
                return Reading::Stuck;
            }
            let bytes = u64::from(length & !DISCARDED);
            if bytes > self.size - HEADER {
                // No writer makes such a record; nothing behind it can be found.
                at = end;
            } else {
                if length & DISCARDED == 0 {
                    with(self.record(at, bytes));
                }
                at += (bytes + HEADER).next_multiple_of(8);
            }
            // ATOMICS: pairs with the kernel's load-acquire of our position before it writes over the space.
            self.consumed().store(at, Ordering::Release);
        }
        Reading::Complete
    }

    fn record(&self, at: u64, length: u64) -> &[u8] {
        let start = usize::try_from(at % self.size + HEADER).expect("a place in the map fits a word");
        let length = usize::try_from(length).expect("a record fits the ring");
        // SAFETY: the data begin one page into the map and are mapped twice: start is within the first copy or a header
        // behind its end, and the record is shorter than a copy.
        let first = unsafe { self.producer.as_ptr().add(self.page + start) };
        // SAFETY: as above; the kernel does not write a finished record until we give its space back.
        unsafe { std::slice::from_raw_parts(first, length) }
    }

    fn header(&self, at: u64) -> &AtomicU32 {
        let start = usize::try_from(at % self.size).expect("a place in the map fits a word");
        // SAFETY: the place is in the data, which begin one page into the map.
        let header = unsafe { self.producer.as_mut_ptr().add(self.page + start) };
        // SAFETY: positions are multiples of eight, the word lives as long as the borrow, and it is only loaded.
        unsafe { AtomicU32::from_ptr(header.cast()) }
    }

    fn produced(&self) -> &AtomicU64 {
        // SAFETY: the map begins with this word, which lives as long as the borrow and is only loaded.
        unsafe { AtomicU64::from_ptr(self.producer.as_mut_ptr().cast()) }
    }

    fn consumed(&self) -> &AtomicU64 {
        // SAFETY: the map begins with this word, which lives as long as the borrow and is accessed atomically by everybody.
        unsafe { AtomicU64::from_ptr(self.consumer.as_mut_ptr().cast()) }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("size", &self.size).finish_non_exhaustive()
    }
}

fn page_size() -> usize {
    // SAFETY: sysconf takes a number and has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("the page size is positive")
}
