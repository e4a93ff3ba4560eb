//! The buffer that the kernel writes records into and we read.
//!
//! Invariant: `data_tail` moves only after the bytes before it have been copied out, so the kernel never overwrites what
//! is being read; when we are slow it drops new records and says so (`PERF_RECORD_LOST`).
#![expect(unsafe_code, reason = "the buffer is memory shared with the kernel")]

use std::{
    fmt, io,
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};
use perf_event::Counter;
use perf_event_open_sys::bindings::perf_event_mmap_page;

use crate::perf::limits::page_size;

/// A mapped ring buffer.
pub struct Ring {
    map: MmapRaw,
    /// Bytes of data; they follow the control page.
    size: usize,
}

impl Ring {
    /// Maps the ring of `event`, with `pages` pages of data (a power of two) or the largest smaller number that the
    /// kernel grants.
    pub fn map(event: &Counter, pages: usize) -> io::Result<Self> {
        let mut pages = pages;
        loop {
            let size = pages * page_size();
            match MmapOptions::new().len(page_size() + size).map_raw(event) {
                Ok(map) => return Ok(Self { map, size }),
                Err(_) if pages > 1 => pages /= 2,
                Err(source) => return Err(source),
            }
        }
    }

    /// Bytes of data that the ring can hold.
    pub fn capacity(&self) -> usize {
        self.size
    }

    /// Appends everything the kernel has written since the last call to `into`, and gives the space back.
    pub fn take(&mut self, into: &mut Vec<u8>) {
        // ATOMICS: pairs with the kernel's store-release of data_head in perf_output_put_handle: the records before it
        // are visible after it.
        let head = self.head().load(Ordering::Acquire);
        // ATOMICS: only we write data_tail, so any ordering reads our own last value.
        let tail = self.tail().load(Ordering::Relaxed);
        let filled = usize::try_from(head.wrapping_sub(tail)).unwrap_or(usize::MAX);
        // More than fits means that somebody else wrote the control page; nothing in the ring can be trusted then.
        if filled <= self.size {
            self.copy(tail, filled, into);
        }
        // ATOMICS: pairs with the kernel's load of data_tail before it reserves space: our copying is finished before
        // the space can be written again.
        self.tail().store(head, Ordering::Release);
    }

    fn copy(&self, tail: u64, filled: usize, into: &mut Vec<u8>) {
        let mask = self.size as u64 - 1;
        let start = usize::try_from(tail & mask).expect("an offset within the map fits a word");
        let before_wrap = filled.min(self.size - start);
        into.extend_from_slice(self.data(start, before_wrap));
        into.extend_from_slice(self.data(0, filled - before_wrap));
    }

    fn data(&self, start: usize, length: usize) -> &[u8] {
        assert!(start <= self.size && length <= self.size - start, "a range within the ring");
        // SAFETY: the map is one control page followed by `size` bytes, and start <= size.
        let first = unsafe { self.map.as_ptr().add(page_size() + start) };
        // SAFETY: the range lies in the map, which lives as long as the borrow. The kernel does not write between
        // data_tail and data_head, and callers ask for nothing else.
        unsafe { std::slice::from_raw_parts(first, length) }
    }

    fn head(&self) -> &AtomicU64 {
        // SAFETY: the map starts with a control page; taking a field's address reads nothing.
        let head = unsafe { &raw mut (*self.control()).data_head };
        // SAFETY: aligned, in the map for as long as the borrow, and accessed atomically by everybody.
        unsafe { AtomicU64::from_ptr(head) }
    }

    fn tail(&self) -> &AtomicU64 {
        // SAFETY: the map starts with a control page; taking a field's address reads nothing.
        let tail = unsafe { &raw mut (*self.control()).data_tail };
        // SAFETY: aligned, in the map for as long as the borrow, and accessed atomically by everybody.
        unsafe { AtomicU64::from_ptr(tail) }
    }

    fn control(&self) -> *mut perf_event_mmap_page {
        self.map.as_mut_ptr().cast()
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("size", &self.size).finish_non_exhaustive()
    }
}
