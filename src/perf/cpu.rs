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
        open::{Manner, Membership, Subject, read_group, redirect, ring_owner, watch},
        reading::GroupReading,
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
pub(crate) struct OpenEvent {
    counter: Counter,
    standing: Standing,
}

/// How an open event stands to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Alone,
    /// The first of a group that was opened in this manner.
    First(Manner),
    Member,
}

/// The group that an event to be opened belongs to.
#[derive(Debug)]
pub(crate) enum Group<'a> {
    /// None.
    None,
    /// It is the first.
    New,
    /// That of this one.
    Of(&'a mut OpenEvent),
}

impl CpuRing {
    /// A ring for every CPU that is online. `pid` is whom they are meant for.
    pub(crate) fn open_all(pid: Pid, size: RingSize) -> Result<Vec<Self>, PerfError> {
        let numbers = online_cpus()?;
        let pages = size.pages(numbers.len());
        allow_more_files(numbers.len())?;
        let mut cpus = Vec::with_capacity(numbers.len());
        for cpu in numbers {
            let owner = match ring_owner(cpu) {
                Ok(owner) => OpenEvent { counter: owner, standing: Standing::Alone },
                // The CPU went offline after it was listed.
                Err(gone) if gone.raw_os_error() == Some(libc::ENODEV) => continue,
                Err(source) => return Err(refusal(source, pid.main_thread(), cpu, None)),
            };
            let ring = Ring::map(&owner.counter, pages).map_err(|source| PerfError::Ring { cpu, source })?;
            cpus.push(Self { cpu, owner, ring, last: MonoNanos::from_monotonic(0), lost: 0 });
        }
        Ok(cpus)
    }

    /// Opens an event that reports `subject` of `tid` on this CPU into this ring.
    pub(crate) fn watch(
        &self,
        subject: Subject,
        tid: Tid,
        manner: Manner,
        group: Group<'_>,
    ) -> Result<OpenEvent, PerfError> {
        let cpu = self.cpu;
        let tracepoint = if let Subject::Probe { tracepoint, .. } = subject { Some(tracepoint) } else { None };
        let (membership, standing) = match group {
            Group::None => (Membership::Alone, Standing::Alone),
            Group::New => (Membership::First, Standing::First(manner)),
            Group::Of(first) => (Membership::Of(&mut first.counter), Standing::Member),
        };
        let counter = watch(subject, (tid, cpu), manner, membership).map_err(|source| match subject {
            Subject::Watchpoint { .. } => watchpoint_refusal(source, tid, cpu),
            _ => refusal(source, tid, cpu, tracepoint),
        })?;
        if subject.tells() {
            let redirected = redirect(&counter, &self.owner.counter);
            redirected.map_err(|source| PerfError::Open { tid, cpu, tracepoint, source })?;
        }
        let mut event = OpenEvent { counter, standing };
        // Before, its records would have had no ring; a group begins when it is complete.
        if standing == Standing::Alone {
            event.begin();
        }
        Ok(event)
    }

    /// The file that becomes readable when an event wants to be looked at.
    pub(crate) fn alarm(&self) -> RawFd {
        self.owner.counter.as_raw_fd()
    }

    /// Bytes of records that the ring holds.
    pub(crate) fn capacity(&self) -> usize {
        self.ring.capacity()
    }
}

impl OpenEvent {
    /// The number that its records carry.
    pub(crate) fn id(&self) -> EventId {
        EventId::from_kernel(self.counter.id())
    }

    /// What it has counted so far, of the thread itself and of all that inherited it.
    pub(crate) fn count(&mut self) -> Option<u64> {
        self.counter.read().ok()
    }

    /// It begins, and so does the group whose first event it is.
    pub(crate) fn begin(&mut self) {
        // This fails only for a descriptor that is no event.
        let _begun = self.counter.enable();
    }

    /// Whether it is the first event of a group.
    pub(crate) fn leads(&self) -> bool {
        matches!(self.standing, Standing::First(_))
    }

    /// What the group says whose first event it is.
    pub(crate) fn read_group(&self) -> Option<GroupReading> {
        match self.standing {
            Standing::First(manner) => read_group(&self.counter, manner).ok(),
            Standing::Alone | Standing::Member => None,
        }
    }

    /// No more records, from the thread itself and from all that inherited the event; the first event of a group ends all of it.
    pub(crate) fn stop(&mut self) {
        // These fail only for a descriptor that is no event.
        let _stopped = match self.standing {
            Standing::Alone => self.counter.disable(),
            Standing::First(_) => self.counter.disable_group(),
            // The first has ended it.
            Standing::Member => Ok(()),
        };
    }

    /// How many records found no room since it was opened, zero where the kernel does not count them; and what its group says.
    pub(crate) fn account(&mut self) -> (u64, Option<GroupReading>) {
        match self.standing {
            Standing::Alone => (self.counter.read_full().ok().and_then(|counts| counts.lost()).unwrap_or(0), None),
            Standing::First(_) => {
                let said = self.read_group();
                (said.map_or(0, |said| said.lost), said)
            }
            Standing::Member => (0, None),
        }
    }

    /// No more records from this member of a group that goes on.
    pub(crate) fn leave(&mut self) {
        let _stopped = self.counter.disable();
    }
}

impl fmt::Debug for OpenEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenEvent").field(&self.id()).finish()
    }
}
