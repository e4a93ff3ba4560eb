//! One stream of records about all threads of a process, or of a process and its descendants, in order of time.
//!
//! Owns what the stream keeps, its beginning and its end; each thing that it does has a file of its own. Events are opened on every
//! (thread, CPU) pair with inheritance, and all those of a CPU write into that CPU's one ring. Invariant: after `stop` every record has
//! been passed on, and nothing is open.

mod faults;
mod groups;
mod locks;
mod order;
mod record;
mod sampling;
mod telling;
mod watching;

use perf_event::Counter;
use rustc_hash::FxHashMap;

use crate::{
    model::{
        ids::{Pid, Tid},
        machine::MachineSample,
        time::MonoNanos,
    },
    perf::{
        clock,
        cpu::CpuRing,
        error::PerfError,
        event_hits::EventHits,
        events::CountedEvent,
        family::{Family, Role},
        limits::RingSize,
        measured::Measured,
        open::{CodeSampled, Inheritance, Manner, Subject},
        record::{EventId, RawRecord},
        stream::{locks::subject, order::Pending, telling::is_birth},
    },
};

pub use self::{
    locks::{Probe, Watchpoint},
    record::{PlacedReading, Record},
    watching::threads_of,
};

/// Who is watched beside the threads of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kin {
    /// Nobody.
    Nobody,
    /// All processes that it begets, and theirs.
    Descendants,
}

/// The records of all threads of one process.
#[derive(Debug)]
pub struct PerfStream {
    pid: Pid,
    /// Others whose threads exist already, and are to be watched as well.
    others: Vec<Pid>,
    kin: Kin,
    manner: Manner,
    cpus: Vec<CpuRing>,
    families: Vec<Family>,
    roles: FxHashMap<EventId, Role>,
    /// Read, but newer than the watermark.
    pending: Vec<Pending>,
    /// Passed on by a settling between two drains.
    ready: Vec<Record>,
    watermark: MonoNanos,
    /// From here on all is watched that was to be watched from the start. A thread born before was not seen whole.
    complete: MonoNanos,
    bytes: Vec<u8>,
    samples: Vec<(Pid, MachineSample)>,
    hits: EventHits,
    /// Samples of the event whose threads are not known yet: the records of their birth are newer than the watermark.
    sampled: Vec<RawRecord>,
    /// The CPU that each thread had last, by its place in `cpus`.
    places: FxHashMap<Tid, usize>,
    /// The thread that each CPU runs, as far as records have told.
    running: Vec<Option<Tid>>,
    /// Whose page faults are told; `None`: nobody's.
    faults: Option<CodeSampled>,
    /// How many minor ones are told of at a time.
    minor_group: u32,
    measured: Measured,
    /// By CPU, what events that are closed have lost.
    lost: Vec<u64>,
    /// While probes are removed.
    keepers: Vec<Counter>,
    malformed: u64,
}

impl PerfStream {
    /// Watches every thread of `pid`, and those they will create, for scheduling.
    pub fn open(pid: Pid, size: RingSize) -> Result<Self, PerfError> {
        Self::open_for((pid, Vec::new(), Kin::Nobody), size)
    }

    /// The same, and for hits of `probes` from the start on; each of them tells what `events` have counted of the thread.
    pub fn open_with_probes(
        pid: Pid,
        probes: &[Probe],
        events: &'static [CountedEvent],
        size: RingSize,
    ) -> Result<Self, PerfError> {
        let mut stream = Self::open(pid, size)?;
        stream.measure(events);
        // What is to be counted is counted from now on, even if there are no probes yet.
        if !events.is_empty() || !probes.is_empty() {
            stream.watch_locks(probes.iter().map(subject).collect())?;
            stream.complete = clock::now();
            stream.ready.retain(|record| !is_birth(record));
        }
        Ok(stream)
    }

    /// Watches every thread of `pid` and of `others`, those they will create, and all their child processes, for scheduling.
    pub fn open_family(pid: Pid, others: Vec<Pid>, size: RingSize) -> Result<Self, PerfError> {
        Self::open_for((pid, others, Kin::Descendants), size)
    }

    fn open_for((pid, others, kin): (Pid, Vec<Pid>, Kin), size: RingSize) -> Result<Self, PerfError> {
        let manner = match kin {
            Kin::Nobody => Manner::best(),
            Kin::Descendants => Manner { inheritance: Inheritance::Everybody, ..Manner::best() },
        };
        let mut stream = Self {
            pid,
            others,
            kin,
            manner,
            cpus: CpuRing::open_all(pid, size)?,
            families: Vec::new(),
            roles: FxHashMap::default(),
            pending: Vec::new(),
            ready: Vec::new(),
            watermark: MonoNanos::from_monotonic(0),
            complete: MonoNanos::from_monotonic(0),
            bytes: Vec::new(),
            samples: Vec::new(),
            hits: EventHits::default(),
            sampled: Vec::new(),
            places: FxHashMap::default(),
            running: Vec::new(),
            faults: None,
            minor_group: 1,
            measured: Measured::default(),
            lost: Vec::new(),
            keepers: Vec::new(),
            malformed: 0,
        };
        stream.lost.resize(stream.cpus.len(), 0);
        stream.running.resize(stream.cpus.len(), None);
        // Apart from the probes, which may come and go.
        stream.watch_family(vec![(Subject::Scheduling, None)])?;
        stream.watch_faults();
        Ok(stream)
    }

    /// Stops all events and appends every record left to `out`.
    pub fn stop(&mut self, out: &mut Vec<Record>) {
        // Room first: a record of a loss is written only when a later record finds room.
        self.read_rings();
        self.close_groups();
        self.count_event();
        self.drop_subjects(|_| true);
        let lost = std::mem::take(&mut self.lost);
        self.read_rings();
        self.report_silent_losses(&lost);
        self.release(MonoNanos::from_monotonic(u64::MAX));
        out.append(&mut self.ready);
        self.families.clear();
        self.keepers.clear();
        self.roles.clear();
    }

    /// Records that could not be decoded; zero unless the kernel's format is not what we think.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Bytes of records that each ring holds.
    pub fn ring_capacities(&self) -> impl Iterator<Item = usize> + '_ {
        self.cpus.iter().map(CpuRing::capacity)
    }
}
