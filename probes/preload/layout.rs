//! The shared memory between the probe and gilscope: its exact shape, and nothing that acts on it.
//!
//! Both sides compile this one file. Every word is atomic, because another process may change it at any moment and a
//! target may scribble over all of it; indices are stored plus one, so that zeroed memory means "none" everywhere.

use core::{
    mem::size_of,
    sync::atomic::{AtomicI32, AtomicU32, AtomicU64},
};

/// First word of the memory.
pub const MAGIC: u64 = u64::from_le_bytes(*b"gilscope");
/// Number of this layout; the probe stays passive when it finds another.
pub const VERSION: u32 = 1;
/// Size of the whole, sealed into the memory file. Pages that were never used cost nothing.
pub const RING_BYTES: usize = 32 << 20;
/// How many threads can have events at the same time.
pub const SLOTS: usize = 4096;
/// How many chunks of records there are.
pub const CHUNKS: usize = (RING_BYTES - size_of::<Header>() - SLOTS * size_of::<Slot>()) / size_of::<Chunk>();
/// Records in a chunk.
pub const RECORDS: usize = 255;
/// Entries of the filter.
pub const FILTER_ENTRIES: usize = 256;

/// [`Header::clock`]: times are raw time stamp counter values.
pub const CLOCK_TSC: u32 = 1;
/// [`Header::clock`]: times are nanoseconds of `CLOCK_MONOTONIC`.
pub const CLOCK_MONOTONIC: u32 = 2;

/// Kind of a record: entry of `pthread_cond_signal`.
pub const KIND_SIGNAL: u64 = 0;
/// Kind of a record: entry of `pthread_cond_timedwait`.
pub const KIND_TIMED_WAIT: u64 = 1;
/// Kind of a record: entry of `pthread_cond_wait`.
pub const KIND_WAIT: u64 = 2;
/// Kind of a record, and the last of two bits: records are missing between the one before and the one after; the operand is their number.
pub const KIND_LOST: u64 = 3;
/// The emissions that [`Header::cost`] sums.
pub const COST_EMISSIONS: u32 = 200;

/// The whole shared memory.
#[repr(C)]
#[derive(Debug)]
pub struct Ring {
    /// What concerns all threads.
    pub header: Header,
    /// One entry a thread.
    pub slots: [Slot; SLOTS],
    /// The pool of records.
    pub chunks: [Chunk; CHUNKS],
}

/// What concerns all threads.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// [`CLOCK_TSC`] or [`CLOCK_MONOTONIC`]; chosen by gilscope.
    pub clock: AtomicU32,
    /// Not zero while gilscope records.
    pub enabled: AtomicU32,
    /// The one process that records here, as it numbers itself; 0 before.
    pub claimed: AtomicI32,
    /// Not zero once that process has measured its costs and may record.
    pub ready: AtomicU32,
    /// Clock ticks that [`COST_EMISSIONS`] emissions took when the probe started.
    pub cost: AtomicU64,
    /// Chunks that are free.
    pub free_chunks: Stack,
    /// Slots that are free.
    pub free_slots: Stack,
    /// Events that were lost because their thread could get no slot.
    pub lost_without_slot: AtomicU64,
    /// Condition variables that belong to no lock, each at [`filter_index`]; their calls are not recorded.
    pub filter: [AtomicU64; FILTER_ENTRIES],
}

/// A set of free indices: those given back, and those never used.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Stack {
    /// Low half: the top index plus one, 0 when empty. High half: a count of changes, against ABA.
    pub head: AtomicU64,
    /// Indices from here on were never used.
    pub fresh: AtomicU32,
    /// One past the last index that may be used.
    pub limit: AtomicU32,
}

/// What one thread shares.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Slot {
    /// The thread as it numbers itself; 0 while nobody uses the slot.
    pub tid: AtomicI32,
    /// Not zero from before a record's time is read until the record is committed.
    pub busy: AtomicU32,
    /// The first chunk, plus one.
    pub first: AtomicU32,
    /// While the slot is free: the next free one, plus one.
    pub next: AtomicU32,
    /// Events lost so far.
    pub lost: AtomicU64,
}

/// One page of records.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Chunk {
    /// In use: the thread's next chunk, plus one. Free: the next free one, plus one.
    pub next: AtomicU32,
    /// How many records are complete.
    pub committed: AtomicU32,
    reserved: AtomicU64,
    /// The records.
    pub records: [Record; RECORDS],
}

/// One call.
#[repr(C)]
#[derive(Debug)]
pub struct Record {
    /// When, on the clock that the header names.
    pub time: AtomicU64,
    /// The operand (the condition variable's address) times four, plus the kind.
    pub word: AtomicU64,
}

const _: () = assert!(size_of::<Ring>() == RING_BYTES);
const _: () = assert!(size_of::<Header>() == 4096 && size_of::<Slot>() == 64 && size_of::<Chunk>() == 4096);

/// The place of `cond` in the filter.
#[inline]
pub const fn filter_index(cond: u64) -> usize {
    // The top eight bits of a multiplicative hash: neighbouring condition variables go to different entries.
    (cond.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}
