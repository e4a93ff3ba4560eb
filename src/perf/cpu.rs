//! One CPU's ring, and the events that write into it.

use std::{
    fmt,
    os::fd::{AsRawFd, RawFd},
};

use perf_event::Counter;

use crate::{
    model::{
        ids::{Pid, Tid},
        time::MonoNanos,
    },
    perf::{
        error::{PerfError, refusal, watchpoint_refusal},
        limits::{RingSize, allow_more_files, online_cpus},
        open::{Manner, Subject, redirect, ring_owner, watch},
        record::EventId,
        ring::Ring,
    },
};

/// A CPU and the ring of all events bound to it.
#[derive(Debug)]
pub(crate) struct CpuRing {
    cpu: u32,
    owner: OpenEvent,
    pub(crate) ring: Ring,
    /// Time of the last record read.
    pub(crate) last: MonoNanos,
    /// Losses that records have told of.
    pub(crate) lost: u64,
}

/// An event that is open until dropped.
pub(crate) struct OpenEvent(Counter);

impl CpuRing {
    /// A ring for every CPU that is online. `pid` is whom they are meant for.
    pub(crate) fn open_all(pid: Pid, size: RingSize) -> Result<Vec<Self>, PerfError> {
        let numbers = online_cpus()?;
        let pages = size.pages(numbers.len());
        allow_more_files(numbers.len())?;
        let mut cpus = Vec::with_capacity(numbers.len());
        for cpu in numbers {
            let owner = match ring_owner(cpu) {
                Ok(owner) => owner,
                // The CPU went offline after it was listed.
                Err(gone) if gone.raw_os_error() == Some(libc::ENODEV) => continue,
                Err(source) => return Err(refusal(source, pid.main_thread(), cpu, None)),
            };
            let ring = Ring::map(&owner, pages).map_err(|source| PerfError::Ring { cpu, source })?;
            cpus.push(Self { cpu, owner: OpenEvent(owner), ring, last: MonoNanos::from_monotonic(0), lost: 0 });
        }
        Ok(cpus)
    }

    /// Opens an event that reports `subject` of `tid` on this CPU into this ring.
    pub(crate) fn watch(&self, subject: Subject, tid: Tid, manner: Manner) -> Result<OpenEvent, PerfError> {
        let cpu = self.cpu;
        let tracepoint = match subject {
            Subject::Scheduling
            | Subject::Watchpoint { .. }
            | Subject::MachineState { .. }
            | Subject::Faults(..)
            | Subject::Event(_) => None,
            Subject::Probe { tracepoint, .. } => Some(tracepoint),
        };
        let event = watch(subject, tid, cpu, manner).map_err(|source| match subject {
            Subject::Watchpoint { .. } => watchpoint_refusal(source, tid, cpu),
            _ => refusal(source, tid, cpu, tracepoint),
        })?;
        let redirected = redirect(&event, &self.owner.0);
        redirected.map_err(|source| PerfError::Open { tid, cpu, tracepoint, source })?;
        Ok(OpenEvent(event))
    }

    /// The file that becomes readable when an event wants to be looked at.
    pub(crate) fn alarm(&self) -> RawFd {
        self.owner.0.as_raw_fd()
    }

    /// Bytes of records that the ring holds.
    pub(crate) fn capacity(&self) -> usize {
        self.ring.capacity()
    }
}

impl OpenEvent {
    /// The number that its records carry.
    pub(crate) fn id(&self) -> EventId {
        EventId::from_kernel(self.0.id())
    }

    /// What it has counted so far, of the thread itself and of all that inherited it.
    pub(crate) fn count(&mut self) -> Option<u64> {
        self.0.read().ok()
    }

    /// No more records, from the thread itself and from all that inherited the event. Returns how many found no room
    /// since the event was opened; zero where the kernel does not count them.
    pub(crate) fn stop(&mut self) -> u64 {
        // Both fail only for a descriptor that is no event.
        let _stopped = self.0.disable();
        self.0.read_full().ok().and_then(|counts| counts.lost()).unwrap_or(0)
    }
}

impl fmt::Debug for OpenEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenEvent").field(&self.id()).finish()
    }
}
