//! The page that the kernel keeps for one event of one thread, and how it is read without a call to the kernel.
//!
//! The protocol is that of `linux/perf_event.h`; both sides compile this one file. The two instructions it takes are the
//! caller's, so that pages that no kernel has made can be read as well. Invariant: the processor's counter is asked for only
//! while the page says, in this very reading, that it may be and which one it is; else the instruction would end the process.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, compiler_fence};

/// [`Page::capabilities`]: the processor's counter may be read.
pub const USER_COUNTER: u64 = 1 << 2;
/// [`Page::capabilities`]: what time it is can be worked out from the time stamp counter.
pub const USER_TIME: u64 = 1 << 3;
/// [`Page::capabilities`]: but only a part of that counter is to be used; no x86 kernel says so.
const SHORT_TIME: u64 = 1 << 5;

/// Readings that were disturbed, after which none is made: each takes a switch of threads or an interrupt, so that a few in a
/// row are rare already.
const ATTEMPTS: u32 = 64;

/// The part of it that matters, `struct perf_event_mmap_page`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Page {
    version: AtomicU32,
    compatible_version: AtomicU32,
    /// Changes with everything else.
    pub lock: AtomicU32,
    /// Which of the processor's counters counts the event now, plus one; 0 while none does.
    pub index: AtomicU32,
    /// What is to be added to that counter; without one, all that was counted.
    pub offset: AtomicU64,
    /// For how long the event was to count, up to the last change.
    pub time_enabled: AtomicU64,
    /// For how long it did, up to the last change.
    pub time_running: AtomicU64,
    /// What may be used of it.
    pub capabilities: AtomicU64,
    /// Bits of the processor's counter.
    pub width: AtomicU16,
    /// Time since the last change: the time stamp counter times `multiplier`, shifted so far to the right, plus `time_offset`.
    pub shift: AtomicU16,
    /// See `shift`.
    pub multiplier: AtomicU32,
    /// See `shift`.
    pub time_offset: AtomicU64,
}

/// What an event has counted of its thread so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// How much.
    pub value: u64,
    /// For how long it was to count, in nanoseconds.
    pub enabled: u64,
    /// For how long of that it did.
    pub running: u64,
}

impl Page {
    /// What the event says now, to the thread that it counts. `counter` reads the processor's counter of this number, `clock` the
    /// time stamp counter. `None` when the page forbids it or does not come to rest.
    #[inline(always)]
    pub fn read(&self, counter: impl Fn(u32) -> u64, clock: impl Fn() -> u64) -> Option<Counted> {
        for _ in 0..ATTEMPTS {
            let lock = self.lock.load(Ordering::Relaxed);
            // Only this thread's own processor changes the page, so the compiler alone could mix the order up.
            compiler_fence(Ordering::SeqCst);
            let counted = self.read_once(&counter, &clock);
            compiler_fence(Ordering::SeqCst);
            if self.lock.load(Ordering::Relaxed) == lock {
                return counted;
            }
        }
        None
    }

    #[inline(always)]
    fn read_once(&self, counter: impl Fn(u32) -> u64, clock: impl Fn() -> u64) -> Option<Counted> {
        let [mut enabled, mut running] =
            [&self.time_enabled, &self.time_running].map(|time| time.load(Ordering::Relaxed));
        let index = self.index.load(Ordering::Relaxed);
        let mut value = self.offset.load(Ordering::Relaxed);
        // Times that are the same have always been the same: no other event has taken turns with this one, or the first one does now.
        if enabled != running || index == 0 {
            let since = self.since_change(clock);
            enabled = enabled.wrapping_add(since);
            running = running.wrapping_add(if index == 0 { 0 } else { since });
        }
        if self.capabilities.load(Ordering::Relaxed) & USER_COUNTER == 0 {
            return None;
        }
        if let Some(number) = index.checked_sub(1) {
            value = value.wrapping_add(sign_extended(counter(number), self.width.load(Ordering::Relaxed))?);
        }
        Some(Counted { value, enabled, running })
    }

    /// Nanoseconds since the last change; 0 where they cannot be known.
    fn since_change(&self, clock: impl Fn() -> u64) -> u64 {
        let shift = u32::from(self.shift.load(Ordering::Relaxed));
        if self.capabilities.load(Ordering::Relaxed) & (USER_TIME | SHORT_TIME) != USER_TIME || shift >= u64::BITS {
            return 0;
        }
        let multiplier = u64::from(self.multiplier.load(Ordering::Relaxed));
        let cycles = clock();
        // In two parts, so that no product overflows.
        let (whole, rest) = (cycles >> shift, cycles & ((1 << shift) - 1));
        let scaled = whole.wrapping_mul(multiplier).wrapping_add(rest.wrapping_mul(multiplier) >> shift);
        self.time_offset.load(Ordering::Relaxed).wrapping_add(scaled)
    }
}

/// A counter of `width` bits as a signed number; `None` when there is none of that width.
fn sign_extended(raw: u64, width: u16) -> Option<u64> {
    let unused = u64::BITS.checked_sub(u32::from(width)).filter(|unused| *unused < u64::BITS)?;
    Some((raw << unused).cast_signed().wrapping_shr(unused).cast_unsigned())
}
