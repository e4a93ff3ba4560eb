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
pub const VERSION: u32 = 7;
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
/// How many other processes of the program can be recorded at the same time.
pub const POOL: usize = 128;
/// Size of the pool: a directory, and room for so many processes. Pages that were never used cost nothing.
#[allow(dead_code, reason = "not every side uses it")]
pub const POOL_BYTES: usize = size_of::<Directory>() + POOL * RING_BYTES;

/// [`Header::origin`]: the process was forked from one that had the interpreter already.
#[allow(dead_code, reason = "not every side uses it")]
pub const ORIGIN_FORK: u32 = 1;
/// [`Header::origin`]: the process executed the interpreter.
#[allow(dead_code, reason = "not every side uses it")]
pub const ORIGIN_EXEC: u32 = 2;

/// [`Header::clock`]: times are raw time stamp counter values.
pub const CLOCK_TSC: u32 = 1;
/// [`Header::clock`]: times are nanoseconds of `CLOCK_MONOTONIC`.
pub const CLOCK_MONOTONIC: u32 = 2;

/// [`Header::mode`]: every call is passed on at once.
pub const PASSING: u32 = 0;
/// [`Header::mode`]: calls are recorded.
pub const RECORDING: u32 = 1;
/// [`Header::mode`]: those on known locks are counted.
pub const COUNTING: u32 = 2;

/// How many bits of a record's word tell its kind; the operand lies above them.
pub const KIND_BITS: u32 = 4;
/// Kind of a record: entry of `pthread_cond_signal`.
pub const KIND_SIGNAL: u64 = 0;
/// Kind of a record: entry of `pthread_cond_timedwait`.
pub const KIND_TIMED_WAIT: u64 = 1;
/// Kind of a record: entry of `pthread_cond_wait`.
pub const KIND_WAIT: u64 = 2;
/// Kind of a record: records are missing between the one before and the one after; the operand is their number.
pub const KIND_LOST: u64 = 3;
/// Kind of a record: a stack that belongs to the call before it. The time is the stack's fingerprint, the operand one
/// of `STACK_OF_...` plus one of [`STACK_CUT`], [`STACK_CHANGING`] or nothing plus one of [`STACK_KNOWN`], [`STACK_FAILED`] or
/// nothing plus, in the lowest eight bits, a number of frames, which follow in the same chunk, innermost first: as time
/// the code, as word the instruction.
pub const KIND_STACK: u64 = 4;
/// Kind of a record that means nothing, at the end of a chunk whose rest was too short.
pub const KIND_FILLER: u64 = 5;

/// Kind of a record: entry of `pthread_cond_init`.
pub const KIND_INIT: u64 = 6;

/// Kind of a record: a thread of a free-threaded interpreter goes to sleep or goes on. The operand is the address that it is
/// parked at shifted by [`PARK_BITS`], plus one of `PARK_...`.
pub const KIND_PARK: u64 = 7;
/// How many bits of a park's operand tell what it is.
pub const PARK_BITS: u32 = 3;
/// In the operand of a park: asleep until a mutex is free.
pub const PARK_MUTEX: u64 = 0;
/// In the operand of a park: asleep because its own state says that it is suspended.
pub const PARK_SUSPENDED: u64 = 1;
/// In the operand of a park: asleep for something else.
pub const PARK_EVENT: u64 = 2;
/// In the operand of a park: the same up to a time limit.
pub const PARK_TIMED_EVENT: u64 = 3;
/// In the operand of a park: awake again, woken by another thread; no address.
pub const PARK_WOKEN: u64 = 4;
/// In the operand of a park: awake again for another reason; no address.
pub const PARK_GAVE_UP: u64 = 5;

/// In the operand of a stack: the thread's own as it began to wait.
pub const STACK_OF_WAITER: u64 = 0;
/// In the operand of a stack: the thread's own as it released the lock.
pub const STACK_OF_RELEASER: u64 = 1 << 8;
/// In the operand of a stack: that of the owner of the lock which the thread waits for.
pub const STACK_OF_HOLDER: u64 = 2 << 8;
/// In the operand of a stack: the thread's own as it was parked.
pub const STACK_OF_PARKED: u64 = 3 << 8;
/// In the operand of a stack: outer frames are missing.
pub const STACK_CUT: u64 = 1 << 10;
/// In the operand of a stack: no frames follow; the last stack of this thread with the same [`memory_index`] has the
/// same fingerprint.
pub const STACK_KNOWN: u64 = 1 << 11;
/// In the operand of a stack: it could not be read, or changed meanwhile.
pub const STACK_FAILED: u64 = 1 << 12;

/// In the operand of a stack: inner frames are missing, which changed while they were read.
pub const STACK_CHANGING: u64 = 1 << 13;

/// Kind of a record: what the thread's counters say at the call after it. The operand is a number of counters plus, shifted by
/// eight bits, a number of records, which follow in the same chunk. Each counter has one of those: as time the value, as word for how
/// long it was to count shifted by [`TIMES_BITS`], plus one of `TIMES_...`.
pub const KIND_READINGS: u64 = 8;
/// How many bits of a counter's word tell what it means.
pub const TIMES_BITS: u32 = 2;
/// In a counter's word: it says nothing.
pub const TIMES_UNKNOWN: u64 = 0;
/// In a counter's word: it has counted all the time.
pub const TIMES_SAME: u64 = 1;
/// In a counter's word: another record follows, whose time tells for how long it has counted.
pub const TIMES_SHARED: u64 = 2;

/// How many events can be measured.
pub const MEASURED: usize = 8;

/// The most frames of a stack.
pub const FRAMES: usize = 128;
/// How many stacks of each thread both sides remember.
pub const REMEMBERED: usize = 8;
/// The bits of a frame's code word that hold the address; those above tell which copy of the bytecode it runs.
pub const CODE_BITS: u32 = 48;
/// How many locks can be told to the probe.
pub const LOCKS: usize = 15;

/// [`Walk::runtime`]: frames are linked, innermost first, as CPython's are.
pub const RUNTIME_LINKED: u32 = 1;
/// [`Walk::runtime`]: frames are an array, outermost first, as the toy VM's are.
pub const RUNTIME_ARRAY: u32 = 2;
/// An offset in [`Walk`] that the runtime does not have.
pub const ABSENT: u32 = u32::MAX;

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
    /// One of [`PASSING`], [`RECORDING`] and [`COUNTING`].
    pub mode: AtomicU32,
    /// The one process that records here, as it numbers itself; 0 before.
    pub claimed: AtomicI32,
    /// Not zero once that process has measured its costs and may record.
    pub ready: AtomicU32,
    /// How many events are measured; chosen by gilscope before the program starts.
    pub measured: AtomicU32,
    /// Clock ticks that [`COST_EMISSIONS`] emissions took when the probe started.
    pub cost: AtomicU64,
    /// The same while calls are counted.
    pub counting_cost: AtomicU64,
    /// Chunks that are free.
    pub free_chunks: Stack,
    /// Slots that are free.
    pub free_slots: Stack,
    /// Events that were lost because their thread could get no slot.
    pub lost_without_slot: AtomicU64,
    /// Calls that were lost and, since no lock was known, are not in a lock's counts either. Those lost later are.
    pub uncounted: AtomicU64,
    /// Clock ticks that threads have spent with stacks, and with opening what counts their events, so far.
    pub spent: AtomicU64,
    /// Where other processes of the program find room; zero unless they are to be recorded, too.
    pub family: Family,
    /// The process that this one was forked from, or whose child it is; for those in the pool.
    pub parent: AtomicI32,
    /// One of `ORIGIN_...`; for processes in the pool.
    pub origin: AtomicU32,
    /// When the process took its room, on the clock of the records; for those in the pool.
    pub begun: AtomicU64,
    /// The events that are measured.
    pub events: [WantedEvent; MEASURED],
    /// How stacks are read.
    pub walk: Walk,
    /// The locks that are known, each at the same place for good; those with no address are not known.
    pub locks: [Lock; LOCKS],
    /// Condition variables that belong to no lock, each at [`filter_index`]; their calls are not recorded.
    pub filter: [AtomicU64; FILTER_ENTRIES],
}

/// How a process of the program reaches the pool and, for those that it starts, the probe.
#[repr(C)]
#[derive(Debug)]
pub struct Family {
    /// gilscope's process; 0 when other processes are not recorded.
    pub observer: AtomicI32,
    /// The number under which it has the pool open.
    pub pool_file: AtomicI32,
    /// The number under which it has the probe open.
    pub probe_file: AtomicI32,
    /// Tells this recording from others.
    pub nonce: AtomicU64,
}

/// An event that each thread is to count for itself, in words of `struct perf_event_attr`.
#[repr(C)]
#[derive(Debug)]
pub struct WantedEvent {
    /// Whose event it is.
    pub kind: AtomicU32,
    /// The flags of what is not to be counted.
    pub exclusions: AtomicU32,
    /// Which of theirs.
    pub config: AtomicU64,
    /// More about it.
    pub config1: AtomicU64,
    /// More about it.
    pub config2: AtomicU64,
}

/// What the pool begins with.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Directory {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// As in the header.
    pub clock: AtomicU32,
    /// Not zero while processes may take room.
    pub open: AtomicU32,
    /// How many processes found no room.
    pub refused: AtomicU32,
    /// As in the header of the first process.
    pub family: Family,
    /// As in the header of the first process.
    pub measured: AtomicU32,
    /// As in the header of the first process.
    pub events: [WantedEvent; MEASURED],
    /// For each room the process that took it, as it numbers itself; 0 while it is free, and then all of it is zero.
    pub claims: [AtomicI32; POOL],
}

/// How a thread's frames are reached, written by gilscope before the first lock is. Offsets in bytes, or [`ABSENT`].
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Walk {
    /// One of `RUNTIME_...`, or 0: stacks are not to be read.
    pub runtime: AtomicU32,
    /// In a thread's state: the word that tells whose it is, its `pthread_self()` or its number.
    pub owner: AtomicU32,
    /// In a thread's state: pointer to the structure that has `top`; absent when the state has it.
    pub indirect: AtomicU32,
    /// Pointer to the innermost frame, or to the array of frames.
    pub top: AtomicU32,
    /// In a thread's state: how many frames the array has.
    pub depth: AtomicU32,
    /// Bytes of a frame that matter, from its start.
    pub frame_size: AtomicU32,
    /// In a frame: pointer to its caller's frame.
    pub previous: AtomicU32,
    /// In a frame: its code.
    pub code: AtomicU32,
    /// How many bytes `code` has, 4 or 8.
    pub code_size: AtomicU32,
    /// In a frame: where it is.
    pub instruction: AtomicU32,
    /// How many bytes `instruction` has, 4 or 8.
    pub instruction_size: AtomicU32,
    /// In a frame: the byte that tells what kind of frame it is.
    pub kind: AtomicU32,
    /// The kinds, as bits, whose frames are passed over.
    pub passed_over: AtomicU64,
    /// In a frame: which copy of the bytecode it runs, 32 bits.
    pub bytecode_copy: AtomicU32,
    /// In a frame: the byte that tells whether it executes.
    pub executing: AtomicU32,
    /// That byte's value while it does.
    pub executing_value: AtomicU32,
    /// Clock ticks between two stacks of one kind, at least: they are read with the lock's mutex in hand.
    pub spacing: AtomicU64,
    /// Clock ticks after which a hold without waiters is worth a stack.
    pub long_hold: AtomicU64,
}

/// One lock of the runtime.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Lock {
    /// The condition variable that is signalled at a release; 0 while the entry is empty. Written last.
    pub cond: AtomicU64,
    /// The condition variable that is signalled at an acquisition.
    pub switch_cond: AtomicU64,
    /// Where the state of the thread that took the lock last is noted, a pointer.
    pub last_holder: AtomicU64,
    /// Where 1 stands while the lock is owned, 32 bits.
    pub locked: AtomicU64,
    /// When a waiter read the owner's stack last.
    pub read_at: AtomicU64,
    /// When an owner noted its own last.
    pub noted_at: AtomicU64,
    /// How many threads wait; kept by the probe.
    pub waiters: AtomicU32,
    /// Waits that began while calls were counted or at a call that was lost, modulo 2^32.
    pub waits: AtomicU32,
    /// Acquisitions while calls were counted, and those that were lost.
    pub acquisitions: AtomicU64,
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
    /// The operand (of a call: the condition variable's address) shifted by [`KIND_BITS`], plus the kind.
    pub word: AtomicU64,
}

const _: () = assert!(size_of::<Ring>() == RING_BYTES);
const _: () = assert!(
    size_of::<Directory>() == 4096
        && size_of::<Header>() == 4096
        && size_of::<Slot>() == 64
        && size_of::<Chunk>() == 4096
);

/// The place of a stack with this fingerprint among those remembered.
#[inline]
pub const fn memory_index(fingerprint: u64) -> usize {
    // The top bits are the best mixed ones.
    (fingerprint >> 61) as usize
}

/// The place of `cond` in the filter.
#[inline]
pub const fn filter_index(cond: u64) -> usize {
    // The top eight bits of a multiplicative hash: neighbouring condition variables go to different entries.
    (cond.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
}
