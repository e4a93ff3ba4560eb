//! Whether a program can read its own counters without a call to the kernel: found out by doing so here.
//!
//! The page's reader is the one of the in-target probe. Where it would end the process, or say nothing, this process learns
//! it first.

#![expect(
    unsafe_code,
    reason = "the page is memory shared with the kernel, and two instructions have no safe interface"
)]

#[path = "../../probes/preload/page.rs"]
mod page;
#[cfg(test)]
mod tests;

use std::{
    io,
    os::fd::AsRawFd,
    path::Path,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use memmap2::{MmapOptions, MmapRaw};
use perf_event::Counter;
use thiserror::Error;

use crate::perf::events::{CountedEvent, missing};

use self::page::{Page, USER_COUNTER};

/// Why counters cannot be read in this way here.
#[derive(Debug, Error)]
pub enum UserReadsError {
    /// There is no such instruction, or the probe does not know it.
    #[error("programs read counters by themselves on x86-64 alone")]
    Processor,
    /// A thread that is moved while it reads may ask for a counter that its new core does not have, which would end the program.
    #[error(
        "the processor's cores are of different kinds, so that no program can safely read their counters by itself"
    )]
    Cores,
    /// No counter of a processor counts it.
    #[error("{event} is counted by the kernel, which a program has to ask for it")]
    Kernel {
        /// The event.
        event: String,
    },
    /// It cannot be counted.
    #[error("{event} cannot be counted: {}", missing(source))]
    Open {
        /// The event.
        event: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It can, but the kernel lets no program read it.
    #[error("programs may not read {event} by themselves (/sys/bus/event_source/devices/*/rdpmc)")]
    Forbidden {
        /// The event.
        event: String,
    },
    /// It did not get a counter.
    #[error("{event} got none of the processor's counters: others have them all")]
    Taken {
        /// The event.
        event: String,
    },
}

/// For so long each event may wait for a counter of the processor: some turns of those who share them.
const PATIENCE: Duration = Duration::from_millis(60);
/// Where the units of a processor with two kinds of cores are.
const HYBRID: &str = "/sys/bus/event_source/devices/cpu_core";

/// Whether a thread here can read all of `events` of itself by itself, safely.
pub fn user_reads_work(events: &[CountedEvent]) -> Result<(), UserReadsError> {
    if !cfg!(target_arch = "x86_64") {
        return Err(UserReadsError::Processor);
    }
    if let Some(event) = events.iter().find(|event| event.is_of_the_kernel()) {
        return Err(UserReadsError::Kernel { event: event.name.clone() });
    }
    if Path::new(HYBRID).exists() {
        return Err(UserReadsError::Cores);
    }
    // All at once, since they are to be counted at once.
    let opened = events.iter().map(OwnEvent::open).collect::<Result<Vec<_>, _>>()?;
    opened.iter().try_for_each(OwnEvent::try_to_read)
}

/// An event of this thread.
struct OwnEvent<'event> {
    event: &'event CountedEvent,
    _counter: Counter,
    map: MmapRaw,
}

impl<'event> OwnEvent<'event> {
    fn open(event: &'event CountedEvent) -> Result<Self, UserReadsError> {
        let refused = |source| UserReadsError::Open { event: event.name.clone(), source };
        let counter = event.builder().observe_self().any_cpu().enabled(true).build().map_err(refused)?;
        let map = MmapOptions::new().len(size_of::<Page>()).map_raw_read_only(counter.as_raw_fd()).map_err(refused)?;
        Ok(Self { event, _counter: counter, map })
    }

    fn try_to_read(&self) -> Result<(), UserReadsError> {
        let event = self.event.name.clone();
        if self.page().capabilities.load(Ordering::Relaxed) & USER_COUNTER == 0 {
            return Err(UserReadsError::Forbidden { event });
        }
        let begun = Instant::now();
        while self.page().index.load(Ordering::Relaxed) == 0 {
            if begun.elapsed() > PATIENCE {
                return Err(UserReadsError::Taken { event });
            }
        }
        self.page().read(counter, time_stamp).map(drop).ok_or(UserReadsError::Taken { event })
    }

    fn page(&self) -> &Page {
        // SAFETY: the mapping is as large as a page of memory, lives as long as `self`, and every field is an atomic integer, for
        // which any bytes and any writes of the kernel are sound.
        unsafe { &*self.map.as_ptr().cast::<Page>() }
    }
}

#[cfg(target_arch = "x86_64")]
fn counter(number: u32) -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: the page has just said that this process may read the counter of this number.
    unsafe { std::arch::asm!("rdpmc", in("ecx") number, out("rax") low, out("rdx") high, options(nostack)) };
    (high << 32) | low
}

#[cfg(target_arch = "x86_64")]
fn time_stamp() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Not reached.
#[cfg(not(target_arch = "x86_64"))]
fn counter(_number: u32) -> u64 {
    0
}

/// Not reached.
#[cfg(not(target_arch = "x86_64"))]
fn time_stamp() -> u64 {
    0
}
