//! What each thread keeps for itself: its slot, its position, and what it could not record.
//!
//! Initial-exec thread-local storage, reached without calling anything; the loader zeroes it for every new thread.
//! Only the thread and its own signal handlers touch it; the atomics are there for the handlers.

use core::{
    arch::{asm, global_asm},
    ptr::from_ref,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use crate::layout::{REMEMBERED, Slot};

/// The thread's state in the interpreter is not known.
pub const UNKNOWN: u64 = 1;

/// One thread's own state.
#[repr(C)]
pub struct Local {
    slot: AtomicPtr<Slot>,
    /// Address of the next record; a multiple of the chunk size when there is no room: 0 before the first chunk.
    pub cursor: AtomicUsize,
    /// Lost events that no mark in the records stands for yet.
    pub pending: AtomicU32,
    /// Not zero while the thread is getting its slot.
    pub claiming: AtomicU32,
    /// When it acquired a lock last, on the clock of the records.
    pub acquired: AtomicU64,
    /// Its state in the interpreter as of its last release; 0 before the first, [`UNKNOWN`] if that may have been missed.
    pub state: AtomicU64,
    /// The lock it waits for: its place plus one.
    pub waits: AtomicU32,
    /// Not zero once it has noted its stack for that wait.
    pub told: AtomicU32,
    /// When it noted its stack for a wait last, on the clock of the records.
    pub told_at: AtomicU64,
    /// Fingerprints of stacks that the reader knows.
    pub stacks: [AtomicU64; REMEMBERED],
}

const _: () = assert!(size_of::<Local>() == 120);

global_asm!(
    ".pushsection .tbss,\"awT\",@nobits",
    ".p2align 3",
    ".globl gilscope_local",
    ".hidden gilscope_local",
    ".type gilscope_local, @object",
    ".size gilscope_local, 120",
    "gilscope_local:",
    ".zero 120",
    ".popsection",
);

impl Local {
    /// The calling thread's own.
    #[inline(always)]
    pub fn of_this_thread() -> &'static Self {
        let address: *const Self;
        // SAFETY: the ABI's initial-exec sequence: the thread pointer plus the offset that the loader stored.
        unsafe {
            asm!(
                "mov {0}, qword ptr fs:[0]",
                "add {0}, qword ptr [rip + gilscope_local@GOTTPOFF]",
                out(reg) address,
                options(pure, readonly, nostack),
            );
        }
        // SAFETY: lives as long as the thread, which is the only one to use the reference.
        unsafe { &*address }
    }

    /// `pthread_self()` of the calling thread, in every libc of this processor.
    pub fn thread_pointer() -> u64 {
        let address: u64;
        // SAFETY: the ABI keeps the thread pointer there.
        unsafe {
            asm!("mov {0}, qword ptr fs:[0]", out(reg) address, options(pure, readonly, nostack));
        }
        address
    }

    /// The thread's slot, once it has one.
    #[inline(always)]
    pub fn slot(&self) -> Option<&'static Slot> {
        // SAFETY: null, or a slot of the mapping, which is never unmapped.
        unsafe { self.slot.load(Ordering::Relaxed).as_ref() }
    }

    /// Makes it that of a thread that has never recorded.
    #[cfg(family)]
    pub fn reset(&self) {
        self.slot.store(core::ptr::null_mut(), Ordering::Relaxed);
        self.cursor.store(0, Ordering::Relaxed);
        for word in [&self.pending, &self.claiming, &self.waits, &self.told] {
            word.store(0, Ordering::Relaxed);
        }
        for word in [&self.acquired, &self.state, &self.told_at].into_iter().chain(&self.stacks) {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Keeps the slot that was claimed for this thread.
    pub fn set_slot(&self, slot: &'static Slot) {
        self.slot.store(from_ref(slot).cast_mut(), Ordering::Relaxed);
    }
}
