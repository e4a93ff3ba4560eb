//! One stream of records about all threads of a process, or of a process and its descendants, in order of time.
//!
//! Events are opened on every (thread, CPU) pair with inheritance, and all those of a CPU write into that CPU's one ring.
//! Invariants: records come out in order of time up to the watermark; none is delivered twice; none belongs to a process
//! that was not asked for. A thread that vanishes while it is being opened is skipped.

mod groups;
mod telling;

use std::{fs, io, os::fd::RawFd, thread, time::Duration};

use perf_event::Counter;
use rustc_hash::FxHashMap;

use crate::{
    model::{
        address::LiveAddress,
        ids::{Pid, Tid},
        machine::MachineSample,
        time::{MonoNanos, Nanos},
    },
    perf::{
        clock,
        cpu::CpuRing,
        decoding::Records,
        error::PerfError,
        event_clock::EventClock,
        event_hits::{EventHit, EventHits},
        events::CountedEvent,
        family::{Family, Role, Wanted},
        limits::{RingSize, allow_more_files},
        lineage::RootId,
        measured::Measured,
        open::{CodeSampled, FaultKind, Inheritance, Manner, Subject, keeper},
        reading::GroupReading,
        record::{Body, EventId, RawRecord},
        stream::telling::{follow, has_migrated, is_birth, is_exec, pending, sample, sampled},
    },
};

/// A record's time is taken a little before it can be read; a CPU taken away by a hypervisor in between makes it longer.
const SLACK: Nanos = Nanos::from_millis(1);
/// How long after a thread has appeared in `/proc` the record of its birth is certainly in the ring, and is older than [`SLACK`].
const SETTLED: Duration = Duration::from_millis(2);
/// New threads found in that many successive listings; those after the last are watched by inheritance or not at all.
const LISTINGS: usize = 16;

/// A probe to be hit, by the number its owner gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Told back with every hit.
    pub number: usize,
    /// The tracepoint's number, from the `id` file in tracefs.
    pub tracepoint: u64,
    /// The user register to take along, numbered as in `perf_regs.h`.
    pub register: u8,
}

/// A word to be watched for writes, by the number its owner gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watchpoint {
    /// Told back with every write.
    pub number: usize,
    /// Where the word begins; a multiple of its length.
    pub address: LiveAddress,
    /// 1, 2, 4 or 8 bytes.
    pub length: u64,
}

/// Who is watched beside the threads of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kin {
    /// Nobody.
    Nobody,
    /// All processes that it begets, and theirs.
    Descendants,
}

/// A record about a watched process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub at: MonoNanos,
    /// In which process; for [`Body::Lost`] the first one.
    pub pid: Pid,
    /// In which thread; for [`Body::Lost`] the process's first, since a loss belongs to no thread.
    pub tid: Tid,
    /// What.
    pub body: Body,
    /// The number of the probe that was hit, or of the word that was written to.
    pub probe: Option<usize>,
    /// What was counted of the thread until then, if that is measured.
    pub reading: Option<Box<PlacedReading>>,
}

/// What a group of counters says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedReading {
    /// The number of the groups that were opened together.
    pub group: usize,
    /// Which of them it is: by the place of its CPU among all.
    pub cpu: usize,
    /// What it says.
    pub said: GroupReading,
}

impl PlacedReading {
    /// More CPUs than there are.
    const CPUS: usize = 1 << 16;

    /// A number for the group, of all that there have been.
    pub fn place(&self) -> usize {
        self.group * Self::CPUS + self.cpu
    }

    /// The number of the groups that a place belongs to.
    pub fn group_of(place: usize) -> usize {
        place / Self::CPUS
    }
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

#[derive(Debug)]
struct Pending {
    record: Record,
    /// Its CPU, by its place in [`PerfStream::cpus`].
    place: usize,
    /// `None` for a loss.
    from: Option<(usize, RootId)>,
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

    /// Watches for page faults. Where there is no room for that, all else is seen none the less.
    fn watch_faults(&mut self) {
        self.faults = self.watch_code(|code| faults(code, 1)).ok();
    }

    /// Watches for minor page faults so many at a time from now on, so that they cost less; `false` when it watches for none any
    /// more. For streams of one process.
    pub fn group_faults(&mut self, group: u32) -> bool {
        if let Some(code) = self.faults {
            self.drop_faults();
            self.faults = self.watch_family(faults(code, group)).is_ok().then_some(code);
            self.minor_group = group;
            self.number_like_faults();
        }
        self.faults.is_some()
    }

    /// Records of page faults that come under the number of the event that is sampled are of as many.
    fn number_like_faults(&mut self) {
        let group = self.minor_group;
        let samples = |family: usize| self.families[family].watches(|subject| matches!(subject, Subject::Event(_)));
        for role in self.roles.values_mut().filter(|role| samples(role.family)) {
            if let Some((FaultKind::Minor, times)) = &mut role.fault {
                *times = group;
            }
        }
    }

    /// Watches for page faults no more, so that they cost nothing.
    pub fn drop_faults(&mut self) {
        self.faults = None;
        self.drop_subjects(|subject| matches!(subject, Subject::Faults(..)));
    }

    /// In whose code page faults are seen; `None`: they are not.
    pub fn faults(&self) -> Option<CodeSampled> {
        self.faults
    }

    /// Watches the same threads for hits of more probes.
    pub fn add_probes(&mut self, probes: &[Probe]) -> Result<(), PerfError> {
        if probes.is_empty() {
            return Ok(());
        }
        self.watch_locks(probes.iter().map(subject).collect())
    }

    /// Watches for no hits of probes any more, so that they cost nothing; those until now will be delivered.
    pub fn remove_probes(&mut self) {
        let is_probe = |subject| matches!(subject, Subject::Probe { .. });
        let open = self.families.iter().filter(|family| family.is_open());
        // Without them it only takes longer.
        let keepers = open.flat_map(|family| family.those(is_probe)).filter_map(|(subject, _)| keeper(subject).ok());
        let keepers: Vec<Counter> = keepers.collect();
        // Room first, as at the end.
        self.read_rings();
        self.drop_subjects(is_probe);
        self.keepers = keepers;
        self.read_rings();
    }

    /// Watches the same threads for writes to words of their memory. A processor can watch four at a time, of all that anybody
    /// wants watched; when these are too many, nothing has changed.
    pub fn add_watchpoints(&mut self, words: &[Watchpoint]) -> Result<(), PerfError> {
        let subjects = words.iter().map(|Watchpoint { number, address, length }| {
            (Subject::Watchpoint { address: *address, length: *length }, Some(*number))
        });
        self.watch_locks(subjects.collect())
    }

    /// Watches no more words; writes that have been told of already still come.
    pub fn drop_watchpoints(&mut self) {
        self.drop_subjects(|subject| matches!(subject, Subject::Watchpoint { .. }));
    }

    /// What is counted in the groups of such subjects is counted still.
    fn drop_subjects(&mut self, of: impl Fn(Subject) -> bool) {
        let cpus = self.cpus.len();
        for family in self.families.iter_mut().filter(|family| family.watches(&of)) {
            let lost = match family.group() {
                Some(_) => family.leave(&of, cpus),
                None => family.close(cpus).lost,
            };
            self.lost.iter_mut().zip(lost).for_each(|(all, lost)| *all += lost);
        }
    }

    /// Looks at what the threads' processors do, once in `period` of each thread's CPU time; see
    /// [`PerfStream::take_samples`].
    pub fn sample(&mut self, period: Nanos) -> Result<(), PerfError> {
        self.watch_code(|code| vec![(Subject::MachineState { period, code }, None)]).map(drop)
    }

    /// Samples an event of all threads; see [`PerfStream::take_hits`]. For streams of one process.
    pub fn sample_event(&mut self, clock: EventClock) -> Result<(), PerfError> {
        self.hits.begin(clock);
        self.watch_family(vec![(Subject::Event(clock), None)])?;
        self.number_like_faults();
        Ok(())
    }

    /// Samples no event any more.
    pub fn drop_event(&mut self) {
        self.count_event();
        self.drop_subjects(|subject| matches!(subject, Subject::Event(_)));
        // What it has told already stands for what it did then.
        self.read_rings();
    }

    /// Samples of the event since the last call, as soon as they have been read: without waiting for the watermark.
    pub fn take_hits(&mut self) -> Vec<EventHit> {
        self.hits.take()
    }

    /// What the event has counted by the end of the stream, sampled or not; `None` when that is not known.
    pub fn counted(&self) -> Option<u64> {
        self.hits.counted().filter(|_| self.families.is_empty())
    }

    /// Asking interrupts whatever CPU is at it, so it is done when the events end.
    fn count_event(&mut self) {
        let is_event = |subject| matches!(subject, Subject::Event(_));
        let events = self.families.iter_mut().filter(|family| family.watches(is_event));
        self.hits.close(events.map(Family::count).sum());
    }

    /// Watches a thread in the kernel's code as well, which needs a privilege or a system that is lenient, or in its own alone;
    /// says which.
    fn watch_code(&mut self, subjects: impl Fn(CodeSampled) -> Vec<Wanted>) -> Result<CodeSampled, PerfError> {
        let mut watch = |code| self.watch_family(subjects(code)).map(|()| code);
        watch(CodeSampled::ProgramAndKernel).or_else(|_| watch(CodeSampled::Program))
    }

    /// Files that become readable when a sample has been taken.
    pub fn alarms(&self) -> Vec<RawFd> {
        self.cpus.iter().map(CpuRing::alarm).collect()
    }

    /// What has been sampled since the last call and in which process, as soon as it has been read: in no order, and without
    /// waiting for the watermark.
    pub fn take_samples(&mut self) -> Vec<(Pid, MachineSample)> {
        std::mem::take(&mut self.samples)
    }

    /// Appends to `out` all records up to the returned watermark, in order of time. `now` is the time just before the call.
    pub fn drain(&mut self, now: MonoNanos, out: &mut Vec<Record>) -> MonoNanos {
        self.read_rings();
        self.release(now.earlier_by(SLACK));
        out.append(&mut self.ready);
        self.watermark
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

    fn watch_family(&mut self, subjects: Vec<Wanted>) -> Result<(), PerfError> {
        self.with_room(|stream| stream.try_watching(Family::alone(subjects.clone()))).map(drop)
    }

    /// Page faults make room for whatever else is to be watched.
    fn with_room<T>(&mut self, watch: impl Fn(&mut Self) -> Result<T, PerfError>) -> Result<T, PerfError> {
        match watch(self) {
            Err(PerfError::TooManyFiles { .. }) if self.faults.is_some() => {
                self.drop_faults();
                watch(self)
            }
            outcome => outcome,
        }
    }

    /// Returns where the family stands among others.
    fn try_watching(&mut self, family: Family) -> Result<usize, PerfError> {
        let family = self.place_for(family);
        let opened = self.open_all(family);
        opened.map(|()| family).inspect_err(|_| drop(self.families[family].close(self.cpus.len())))
    }

    fn open_all(&mut self, family: usize) -> Result<(), PerfError> {
        for listing in 0..LISTINGS {
            let listed = self.listed()?;
            if listing > 0 {
                thread::sleep(SETTLED);
                let now = clock::now();
                self.read_rings();
                self.release(now.earlier_by(SLACK));
            }
            let lineage = &self.families[family].lineage;
            let new: Vec<Tid> = listed.into_iter().filter(|tid| !lineage.covers(*tid)).collect();
            if new.is_empty() && listing > 0 {
                break;
            }
            self.open_threads(family, &new)?;
        }
        if self.families[family].is_empty() {
            return Err(PerfError::ProcessGone { pid: self.pid });
        }
        Ok(())
    }

    /// Puts the family where one was that is closed and of which no record is left, or else behind all others.
    fn place_for(&mut self, new: Family) -> usize {
        let watermark = self.watermark;
        let is_over = |family: &Family| family.closed.is_some_and(|closed| closed < watermark);
        let Some(place) = self.families.iter().position(is_over) else {
            self.families.push(new);
            return self.families.len() - 1;
        };
        self.roles.retain(|_, role| role.family != place);
        self.families[place] = new;
        place
    }

    /// Descendants that have ended meanwhile are left out.
    fn listed(&self) -> Result<Vec<Tid>, PerfError> {
        let mut listed = threads_of(self.pid)?;
        listed.extend(self.others.iter().filter_map(|other| threads_of(*other).ok()).flatten());
        Ok(listed)
    }

    fn open_threads(&mut self, family: usize, tids: &[Tid]) -> Result<(), PerfError> {
        allow_more_files(tids.len() * self.cpus.len() * self.families[family].size())?;
        for tid in tids {
            let opening = (&self.cpus[..], self.manner);
            match self.families[family].open_thread(*tid, opening, family, &mut self.roles) {
                Err(PerfError::Open { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn read_rings(&mut self) {
        for (place, cpu) in self.cpus.iter_mut().enumerate() {
            self.bytes.clear();
            cpu.ring.take(&mut self.bytes);
            for record in Records::new(&self.bytes, |event| self.roles.get(&event).map(|role| role.layout)) {
                let Ok(raw) = record else {
                    self.malformed += 1;
                    continue;
                };
                if let Body::Lost { count } = raw.body {
                    cpu.lost += count;
                }
                let before = std::mem::replace(&mut cpu.last, raw.at);
                if let Body::Sampled(_) = raw.body {
                    self.samples.extend(sample(raw, (self.pid, self.kin), (&self.roles, &self.families)));
                    continue;
                }
                if let Body::Sampling { .. } = raw.body {
                    self.sampled.push(raw);
                    continue;
                }
                let since = before.max(self.watermark);
                self.pending.extend(pending(raw, place, since, (self.pid, self.kin), &self.roles));
            }
        }
    }

    /// Losses after which no record came to tell of them: their date is that of the ring's last record.
    fn report_silent_losses(&mut self, lost: &[u64]) {
        for (place, (cpu, lost)) in self.cpus.iter().zip(lost).enumerate() {
            let count = lost.saturating_sub(cpu.lost);
            if count > 0 {
                let (at, tid) = (cpu.last.max(self.watermark), self.pid.main_thread());
                let record = Record { at, pid: self.pid, tid, body: Body::Lost { count }, probe: None, reading: None };
                self.pending.push(Pending { record, place, from: None });
            }
        }
    }

    /// Samples of the event count if they are of our threads; others may turn out to be until the watermark has passed them.
    fn sort_samples(&mut self) {
        for raw in std::mem::take(&mut self.sampled) {
            match (sampled(&raw, self.pid, (&self.roles, &self.families)), &raw.body) {
                (Some(tid), Body::Sampling { weight }) => self.hits.add((raw.at, tid), *weight),
                _ if raw.at >= self.watermark => self.sampled.push(raw),
                _ => {}
            }
        }
    }

    /// Makes ready what is pending and earlier than `before`.
    fn release(&mut self, before: MonoNanos) {
        // What has ended by then is known now, what has begun will be.
        self.sort_samples();
        self.make_ready(before);
        self.sort_samples();
    }

    fn make_ready(&mut self, before: MonoNanos) {
        self.watermark = self.watermark.max(before);
        self.pending.sort_by_key(|pending| pending.record.at);
        let count = self.pending.partition_point(|pending| pending.record.at < self.watermark);
        for Pending { mut record, place, from } in self.pending.drain(..count) {
            let believed = from.is_none_or(|(family, root)| self.families[family].lineage.believes(root, record.tid));
            if is_exec(&record) && !believed {
                self.families.iter_mut().for_each(|family| family.lineage.on_renumbered());
            } else if !believed {
                continue;
            }
            follow(&mut self.families, &record);
            record.reading.take_if(|reading| !self.measured.has_begun(reading.group, record.at));
            if record.body == Body::CountersEnded {
                // Of all others everything was told when they lost the CPU.
                let Some(tid) = self.running[place] else { continue };
                record.tid = tid;
            } else if from.is_some() {
                let goes_on = !matches!(record.body, Body::SwitchedOut(_) | Body::Exited);
                self.running[place] = goes_on.then_some(record.tid);
            }
            // To whoever reads this, such a thread was there when watching began.
            if record.at >= self.complete || !is_birth(&record) {
                let migrated = has_migrated(&mut self.places, &record, place);
                self.ready.extend(migrated.then(|| Record {
                    body: Body::Migrated,
                    probe: None,
                    reading: None,
                    ..record.clone()
                }));
                self.ready.push(record);
            }
        }
    }
}

fn faults(code: CodeSampled, group: u32) -> Vec<Wanted> {
    // A major one takes so long that being told of it does not matter.
    [(FaultKind::Minor, group), (FaultKind::Major, 1)]
        .map(|(kind, group)| (Subject::Faults(kind, code, group), None))
        .to_vec()
}

fn subject(probe: &Probe) -> Wanted {
    let Probe { number, tracepoint, register } = *probe;
    (Subject::Probe { tracepoint, register }, Some(number))
}

/// The threads of `pid` at this moment.
pub fn threads_of(pid: Pid) -> Result<Vec<Tid>, PerfError> {
    let listed = fs::read_dir(format!("/proc/{pid}/task")).and_then(|entries| {
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let tids = names.map(|name| name.map(|name| name.to_str().and_then(|text| text.parse().ok())));
        tids.collect::<io::Result<Vec<Option<i32>>>>()
    });
    let listed = listed.map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => PerfError::ProcessGone { pid },
        _ => PerfError::Threads { pid, source },
    })?;
    Ok(listed.into_iter().flatten().filter_map(Tid::from_raw).collect())
}
