//! The shared memory as gilscope sees it: created, mapped, and its used parts given back.
//!
//! The target can write anything here at any time. All words are atomic and every index is checked, so the worst it
//! can do is to send us wrong numbers.

#![expect(unsafe_code, reason = "the mapping is used as the structure that both sides agree on")]

use std::{
    fs::File,
    io,
    sync::atomic::{AtomicU32, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};

use crate::source::preload::layout::{
    CHUNKS, COUNTING, Chunk, FILTER_ENTRIES, Header, MAGIC, PASSING, RECORDING, RING_BYTES, Ring, SLOTS, Slot, Stack,
    VERSION, filter_index,
};

/// Lost races after which an index is not given back: only a hostile target makes us lose that often.
const ATTEMPTS: u32 = 1000;

/// A mapping of the shared memory.
#[derive(Debug)]
pub struct SharedRing {
    map: MmapRaw,
}

impl SharedRing {
    /// Maps `file`, which must have [`RING_BYTES`] bytes and be sealed, and writes an enabled header for a pool of at
    /// most `chunks` chunks.
    pub fn create(file: &File, clock: u32, chunks: u32) -> io::Result<Self> {
        let map = MmapOptions::new().len(RING_BYTES).map_raw(file)?;
        let ring = Self { map };
        let header = ring.header();
        let limit = |count: usize| u32::try_from(count).expect("the layout's counts are small");
        header.free_chunks.limit.store(chunks.min(limit(CHUNKS)), Ordering::Relaxed);
        header.free_slots.limit.store(limit(SLOTS), Ordering::Relaxed);
        header.clock.store(clock, Ordering::Relaxed);
        header.mode.store(RECORDING, Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Relaxed);
        Ok(ring)
    }

    /// Maps the ring that begins at `start` in `file`, whose process has written its header itself.
    pub fn map(file: &File, start: u64) -> io::Result<Self> {
        Ok(Self { map: MmapOptions::new().offset(start).len(RING_BYTES).map_raw(file)? })
    }

    /// Has the probe pass every call on at once from now on.
    pub fn disable(&self) {
        self.header().mode.store(PASSING, Ordering::Relaxed);
    }

    /// Has the probe count calls on known locks from now on, rather than record them.
    pub fn count(&self) {
        self.header().mode.store(COUNTING, Ordering::Relaxed);
    }

    /// Has it record them again.
    pub fn record(&self) {
        self.header().mode.store(RECORDING, Ordering::Relaxed);
    }

    /// What concerns all threads.
    pub fn header(&self) -> &Header {
        &self.ring().header
    }

    /// The slots that have ever been used.
    pub fn used_slots(&self) -> &[Slot] {
        let slots = &self.ring().slots;
        let used = self.header().free_slots.fresh.load(Ordering::Acquire);
        slots.get(..widen(used)).unwrap_or(slots)
    }

    /// The chunk that a link names: its number plus one; `None` for no chunk and for an impossible one.
    pub fn chunk(&self, link: u32) -> Option<&Chunk> {
        self.ring().chunks.get(widen(link.checked_sub(1)?))
    }

    /// Gives a chunk back that no thread uses any more.
    pub fn free_chunk(&self, link: u32) {
        give(&self.header().free_chunks, link, self.chunk(link).map(|chunk| &chunk.next));
    }

    /// Empties a slot whose thread has ended and gives it back.
    pub fn free_slot(&self, index: usize) {
        let Some(slot) = self.ring().slots.get(index) else { return };
        slot.first.store(0, Ordering::Relaxed);
        slot.lost.store(0, Ordering::Relaxed);
        slot.busy.store(0, Ordering::Relaxed);
        slot.tid.store(0, Ordering::Relaxed);
        let link = u32::try_from(index + 1).expect("there are few slots");
        give(&self.header().free_slots, link, Some(&slot.next));
    }

    /// Keeps the probe from recording calls on the condition variable at `cond`.
    pub fn filter_out(&self, cond: u64) {
        if let Some(entry) = self.header().filter.get(filter_index(cond)) {
            entry.store(cond, Ordering::Relaxed);
        }
    }

    /// Has calls on every condition variable recorded again.
    pub fn clear_filter(&self) {
        for entry in self.header().filter.iter().take(FILTER_ENTRIES) {
            entry.store(0, Ordering::Relaxed);
        }
    }

    fn ring(&self) -> &Ring {
        let start = self.map.as_mut_ptr().cast::<Ring>();
        // SAFETY: the mapping has the size of `Ring`, starts on a page, lives as long as `self`, and its file cannot
        // shrink. Every field is an atomic integer, for which any bytes and any foreign writes are sound.
        unsafe { &*start }
    }
}

/// Whoever stops reading must not leave the target writing.
impl Drop for SharedRing {
    fn drop(&mut self) {
        self.disable();
    }
}

fn give(stack: &Stack, link: u32, next: Option<&AtomicU32>) {
    let Some(next) = next else { return };
    for _ in 0..ATTEMPTS {
        let head = stack.head.load(Ordering::Relaxed);
        let [top, changes] = halves(head);
        next.store(top, Ordering::Relaxed);
        let changed = (u64::from(changes.wrapping_add(1)) << 32) | u64::from(link);
        // Release: whoever takes the index sees its link and its emptied state.
        if stack.head.compare_exchange(head, changed, Ordering::Release, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

pub(super) fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

fn widen(index: u32) -> usize {
    usize::try_from(index).expect("usize has at least 32 bits here")
}
