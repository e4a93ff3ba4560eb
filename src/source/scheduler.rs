//! What the scheduler does with the target's threads: on and off the CPU, births, deaths, names, waiting for a CPU.
//!
//! Needs no privilege for processes of one's own. [`ThreadWatch`] turns records into events and serves every source that
//! has the records in its own stream; [`SchedulerSource`] is the source that has nothing else. Invariant: nothing is
//! reported about threads of other processes.

use std::{fmt, fs, os::fd::RawFd};

use rustc_hash::FxHashMap;

use crate::{
    model::{
        counts::{Counter, Counters},
        event::{Event, LostEvents, OffCpu, SampleCause, StackSample, What},
        ids::{Pid, Tid},
        machine::MachineSample,
        stack::StackId,
        time::{MonoNanos, Nanos},
    },
    perf::{
        clock,
        error::PerfError,
        event_clock::EventClock,
        fault_cost::record_cost,
        limits::RingSize,
        open::{CodeSampled, FaultKind},
        record::{Body, Naming},
        stream::{PerfStream, Record, Watchpoint, threads_of},
    },
    source::{
        Grouping, Source, Tally,
        kin::{Life, SharedKin},
        run_delay::RunDelays,
        sampling::{EventRefused, OnEvent, OutsideSampling},
    },
};

/// How far the target has come when we begin to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// It is running.
    Running,
    /// It was forked but has not yet executed its program: its present name is not its own.
    BeforeExec,
}

/// What a full ring may have swallowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RingContent {
    /// Scheduling alone.
    Scheduling,
    /// Scheduling and lock events.
    SchedulingAndLocks,
}

/// Where records come from.
#[derive(Debug)]
enum Feed {
    Own(Box<PerfStream>),
    /// The part of one life of a process.
    Shared(SharedKin, Pid, Life),
}

impl Feed {
    fn shared(kin: SharedKin, pid: Pid) -> Self {
        let life = kin.borrow().life(pid);
        Self::Shared(kin, pid, life)
    }
}

/// The scheduler as the only source of events.
pub struct SchedulerSource {
    feed: Feed,
    threads: ThreadWatch,
    records: Vec<Record>,
    /// What a shared feed tells of the time before has not been asked for.
    since: MonoNanos,
    on_sample: Option<OnSample>,
    sampling: Option<OutsideSampling>,
}

/// Told of records beside what they mean for the scheduling.
pub(in crate::source) type OnRecord<'a> = &'a mut dyn FnMut(&Record, &mut Vec<Event>);

/// Scheduling from a source that can sample running threads as well.
pub trait Scheduling: Source {
    /// Samples threads that run, once in `period` of each one's CPU time.
    fn sample(&mut self, period: Nanos, on_sample: OnSample) -> Result<(), PerfError>;
}

/// Turns what a running thread's processor did a moment ago into a stack; `None` when that cannot be believed.
pub type OnSample = Box<dyn FnMut(&MachineSample) -> Option<StackId>>;

impl SchedulerSource {
    /// Watches every thread of `pid`, and those it will create.
    pub fn open(pid: Pid, scope: Scope) -> Result<Self, PerfError> {
        Self::with_content(pid, scope, RingContent::Scheduling)
    }

    /// The same for a source that adds lock events to the stream.
    pub(in crate::source) fn with_content(pid: Pid, scope: Scope, content: RingContent) -> Result<Self, PerfError> {
        let stream = PerfStream::open(pid, &[], RingSize::Ordinary)?;
        let threads = ThreadWatch::begin(pid, scope, content)?;
        Ok(Self::new(Feed::Own(Box::new(stream)), threads, MonoNanos::from_monotonic(0)))
    }

    /// Watches every thread of `pid`, which `kin` sees among others, from now on.
    pub fn of_kin(kin: SharedKin, pid: Pid, scope: Scope) -> Result<Self, PerfError> {
        let since = clock::now();
        let threads = ThreadWatch::begin(pid, scope, RingContent::Scheduling)?;
        Ok(Self::new(Feed::shared(kin, pid), threads, since))
    }

    /// The same for a life of a process whose beginning `kin` has seen, and which may be over by now.
    pub fn of_life(kin: SharedKin, pid: Pid, life: Life) -> Self {
        let threads = ThreadWatch::expecting(pid, RingContent::Scheduling);
        Self::new(Feed::Shared(kin, pid, life), threads, MonoNanos::from_monotonic(0))
    }

    fn new(feed: Feed, threads: ThreadWatch, since: MonoNanos) -> Self {
        Self { feed, threads, records: Vec::new(), since, on_sample: None, sampling: None }
    }

    /// Watches the same threads for writes to words of their memory, which no shared feed does.
    pub(in crate::source) fn add_watchpoints(&mut self, words: &[Watchpoint]) -> Result<(), PerfError> {
        match &mut self.feed {
            Feed::Own(stream) => stream.add_watchpoints(words),
            Feed::Shared(..) => Ok(()),
        }
    }

    /// Watches no more words.
    pub(in crate::source) fn drop_watchpoints(&mut self) {
        if let Feed::Own(stream) = &mut self.feed {
            stream.drop_watchpoints();
        }
    }

    /// As [`Source::drain`]; `on_record` is told of every record but those of switches, after what it means for
    /// the scheduling.
    pub(in crate::source) fn drain_with(
        &mut self,
        now: MonoNanos,
        on_record: OnRecord<'_>,
        out: &mut Vec<Event>,
    ) -> MonoNanos {
        let watermark = match &mut self.feed {
            Feed::Own(stream) => stream.drain(now, &mut self.records),
            Feed::Shared(kin, _, life) => {
                let mut kin = kin.borrow_mut();
                let watermark = kin.read(now);
                kin.take(*life, &mut self.records);
                watermark
            }
        };
        self.deliver_samples(out);
        self.deliver(on_record, out);
        watermark
    }

    /// As [`Source::finish`], in the same way. A shared stream goes on for the others: whoever owns it stops it.
    pub(in crate::source) fn finish_with(&mut self, on_record: OnRecord<'_>, out: &mut Vec<Event>) {
        match &mut self.feed {
            Feed::Own(stream) => stream.stop(&mut self.records),
            Feed::Shared(kin, _, life) => {
                let mut kin = kin.borrow_mut();
                kin.take(*life, &mut self.records);
                kin.forget(*life);
            }
        }
        self.deliver_hits(out);
        self.deliver(on_record, out);
    }

    /// When the process last executed a new program since watching began.
    pub fn executed(&self) -> Option<MonoNanos> {
        self.threads.executed()
    }

    /// In whose code page faults are seen; `None`: they are not.
    fn faults(&self) -> Option<CodeSampled> {
        match &self.feed {
            Feed::Own(stream) => stream.faults(),
            Feed::Shared(kin, ..) => kin.borrow().faults(),
        }
    }

    /// Before all else: what goes with a sample is to be read at once.
    fn deliver_samples(&mut self, out: &mut Vec<Event>) {
        let samples: Vec<MachineSample> = match &mut self.feed {
            Feed::Own(stream) => stream.take_samples().into_iter().map(|(_, sample)| sample).collect(),
            Feed::Shared(kin, pid, _) => kin.borrow_mut().take_samples(*pid),
        };
        self.deliver_hits(out);
        let Some(on_sample) = &mut self.on_sample else { return };
        for sample in samples {
            let (at, tid) = (sample.at, sample.tid);
            let what = StackSample { until: clock::now(), stack: on_sample(&sample), cause: SampleCause::Tick };
            out.push(Event { at, tid, what: What::Stack(what) });
        }
    }

    fn deliver_hits(&mut self, out: &mut Vec<Event>) {
        if let (Feed::Own(stream), Some(sampling)) = (&mut self.feed, &mut self.sampling) {
            sampling.deliver(stream, out);
        }
    }

    fn deliver(&mut self, on_record: OnRecord<'_>, out: &mut Vec<Event>) {
        let since = self.since;
        for record in self.records.drain(..).filter(|record| record.at >= since) {
            match record.body {
                Body::SwitchedIn | Body::SwitchedOut(_) | Body::Migrated | Body::Faulted(..) => {
                    self.threads.on_record(record, out);
                }
                _ => {
                    self.threads.on_record(record.clone(), out);
                    on_record(&record, out);
                }
            }
        }
        self.threads.read_delays(out);
    }
}

impl Scheduling for SchedulerSource {
    fn sample(&mut self, period: Nanos, on_sample: OnSample) -> Result<(), PerfError> {
        match &mut self.feed {
            Feed::Own(stream) => stream.sample(period)?,
            Feed::Shared(kin, ..) => kin.borrow_mut().sample(period)?,
        }
        self.on_sample = Some(on_sample);
        Ok(())
    }
}

impl Source for SchedulerSource {
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos {
        self.drain_with(now, &mut |_, _| {}, out)
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        self.finish_with(&mut |_, _| {}, out);
    }

    fn alarms(&self) -> Vec<RawFd> {
        match &self.feed {
            Feed::Own(stream) if self.on_sample.is_some() || self.sampling.is_some() => stream.alarms(),
            Feed::Shared(kin, ..) if self.on_sample.is_some() => kin.borrow().alarms(),
            Feed::Own(_) | Feed::Shared(..) => Vec::new(),
        }
    }

    fn tally(&self) -> Tally {
        let unmatched = match &self.feed {
            Feed::Own(stream) => stream.malformed(),
            Feed::Shared(kin, ..) => kin.borrow().malformed(),
        };
        let cost_of_event = self.sampling.as_ref().map_or(Nanos::ZERO, OutsideSampling::cost);
        Tally { unmatched, cost_of_faults: self.threads.cost_of_faults(), cost_of_event, ..Tally::default() }
    }

    fn sample_event(&mut self, clock: EventClock, on_event: OnEvent) -> Result<(), EventRefused> {
        let Feed::Own(stream) = &mut self.feed else { return Err(EventRefused::Shared) };
        self.sampling = Some(OutsideSampling::begin(stream, clock, on_event)?);
        Ok(())
    }

    fn slow_event(&mut self, times: u32) {
        if let (Feed::Own(stream), Some(sampling)) = (&mut self.feed, &mut self.sampling) {
            sampling.slow(stream, times);
        }
    }

    fn counted_event(&self) -> Option<u64> {
        match &self.feed {
            Feed::Own(stream) => self.sampling.as_ref().and_then(|_| stream.counted()),
            Feed::Shared(..) => None,
        }
    }

    /// Those of a shared stream are everybody's, and it does not know by itself who is there to be watched anew.
    fn group_faults(&mut self, group: u32) -> Grouping {
        match &mut self.feed {
            Feed::Own(stream) => grouping(stream, group),
            Feed::Shared(kin, ..) => {
                kin.borrow_mut().drop_faults();
                Grouping::Dropped
            }
        }
    }

    fn count(&mut self, wanted: Counters) {
        if !sees_faults(wanted) {
            match &mut self.feed {
                Feed::Own(stream) => stream.drop_faults(),
                Feed::Shared(kin, ..) => kin.borrow_mut().drop_faults(),
            }
        }
    }

    fn counters(&self) -> Counters {
        counters(self.faults())
    }

    fn remarks(&self) -> Vec<String> {
        remark(self.faults()).into_iter().chain(self.sampling.as_ref().map(OutsideSampling::remark)).collect()
    }
}

/// Has a stream tell of page faults so many at a time.
pub(in crate::source) fn grouping(stream: &mut PerfStream, group: u32) -> Grouping {
    match (stream.faults().is_some(), stream.group_faults(group)) {
        (false, _) => Grouping::None,
        (true, true) => Grouping::Grouped,
        (true, false) => Grouping::Dropped,
    }
}

/// Whether page faults are to be seen for these counters.
pub(in crate::source) fn sees_faults(wanted: Counters) -> bool {
    wanted.has(Counter::MinorFaults) || wanted.has(Counter::MajorFaults)
}

/// What the records of a stream count that sees page faults in this code.
pub(in crate::source) fn counters(faults: Option<CodeSampled>) -> Counters {
    let faults = faults.map_or(Counters::default(), |_| Counters::these(&[Counter::MinorFaults, Counter::MajorFaults]));
    faults.with(Counters::these(&[Counter::TaskClock, Counter::ContextSwitches, Counter::Migrations]))
}

/// What is missing of the counts.
pub(in crate::source) fn remark(faults: Option<CodeSampled>) -> Option<String> {
    match faults {
        Some(CodeSampled::ProgramAndKernel) | None => None,
        Some(CodeSampled::Program) => Some(
            "page faults are counted where the program's own code makes them, not in system calls: for all of them it takes \
             CAP_PERFMON, or kernel.perf_event_paranoid at 1 or less"
                .to_owned(),
        ),
    }
}

impl fmt::Debug for SchedulerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerSource")
            .field("feed", &self.feed)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// The threads of one process, as far as the records have told.
#[derive(Debug)]
pub struct ThreadWatch {
    pid: Pid,
    content: RingContent,
    threads: FxHashMap<Tid, Thread>,
    delays: RunDelays,
    /// Known from the start, to be delivered first.
    first: Vec<Event>,
    executed: Option<MonoNanos>,
    /// Records of page faults so far.
    fault_records: u64,
}

#[derive(Debug, Default)]
struct Thread {
    name: Option<Box<str>>,
    sleep: Sleep,
}

/// Whether a thread's next switch-in ends a wait for a CPU that began with a wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Sleep {
    /// It slept, or has never run.
    #[default]
    Asleep,
    /// It runs, or could.
    Awake,
}

impl ThreadWatch {
    /// The threads that exist now; call it when the events are already open, so that none is missed.
    pub fn begin(pid: Pid, scope: Scope, content: RingContent) -> Result<Self, PerfError> {
        let mut watch = Self::expecting(pid, content);
        for tid in threads_of(pid)? {
            let thread = watch.threads.entry(tid).or_default();
            if scope == Scope::Running {
                let at = clock::now();
                thread.name = name_of(pid, tid);
                watch.first.extend(thread.name.clone().map(|name| Event { at, tid, what: What::Named(name) }));
            }
            watch.delays.request(tid);
        }
        watch.delays.read(&mut watch.first);
        Ok(watch)
    }

    /// No thread: the records will tell of the birth of each.
    pub fn expecting(pid: Pid, content: RingContent) -> Self {
        let (threads, delays) = (FxHashMap::default(), RunDelays::new(pid));
        Self { pid, content, threads, delays, first: Vec::new(), executed: None, fault_records: 0 }
    }

    /// When the process last executed a new program.
    pub fn executed(&self) -> Option<MonoNanos> {
        self.executed
    }

    /// What records of page faults have taken of the threads' time, if a record takes as long as one of ours.
    pub fn cost_of_faults(&self) -> Nanos {
        let records = self.fault_records;
        if records == 0 { Nanos::ZERO } else { Nanos::from_nanos(record_cost().as_nanos().saturating_mul(records)) }
    }

    /// Turns a record about scheduling, or a loss, into events; hits of probes mean nothing here.
    pub fn on_record(&mut self, record: Record, out: &mut Vec<Event>) {
        out.append(&mut self.first);
        let Record { at, tid, body, .. } = record;
        match body {
            Body::SwitchedIn => self.on_switched_in(at, tid, out),
            Body::SwitchedOut(why) => self.on_switched_out(at, tid, why, out),
            Body::Named { pid, tid, name, cause } if pid == self.pid => {
                if cause == Naming::Exec {
                    self.on_executed(at, tid, out);
                }
                self.thread(at, tid, out).name = Some(name.clone());
                out.push(Event { at, tid, what: What::Named(name) });
            }
            Body::Forked { child_pid, child } if child_pid == self.pid => self.on_created(at, tid, child, out),
            Body::Exited => self.on_exited(at, tid, out),
            Body::Lost { count } => self.on_lost(at, count, out),
            Body::Migrated => out.push(Event { at, tid, what: What::Happened(Counter::Migrations, 1) }),
            Body::Faulted(kind, times) => {
                self.fault_records += 1;
                let counter = match kind {
                    FaultKind::Minor => Counter::MinorFaults,
                    FaultKind::Major => Counter::MajorFaults,
                };
                out.push(Event { at, tid, what: What::Happened(counter, times) });
            }
            Body::Named { .. }
            | Body::Forked { .. }
            | Body::Hit { .. }
            | Body::Wrote(_)
            | Body::Sampled(_)
            | Body::Sampling { .. }
            | Body::Counted => {}
        }
    }

    /// Delivers what was known from the start, and reads how long those threads that have since been woken waited for a CPU.
    pub fn read_delays(&mut self, out: &mut Vec<Event>) {
        out.append(&mut self.first);
        self.delays.read(out);
    }

    /// The number of the process's first thread comes back after its end when another thread executes a program: it changes
    /// its number a little before the record of that. Of others unknown the birth was lost.
    fn thread(&mut self, at: MonoNanos, tid: Tid, out: &mut Vec<Event>) -> &mut Thread {
        self.threads.entry(tid).or_insert_with(|| {
            if tid == self.pid.main_thread() {
                out.push(Event { at, tid, what: What::Created });
            }
            Thread::default()
        })
    }

    fn on_switched_in(&mut self, at: MonoNanos, tid: Tid, out: &mut Vec<Event>) {
        let thread = self.thread(at, tid, out);
        if std::mem::replace(&mut thread.sleep, Sleep::Awake) == Sleep::Asleep {
            self.delays.request(tid);
        }
        out.push(Event { at, tid, what: What::SwitchedIn });
    }

    fn on_switched_out(&mut self, at: MonoNanos, tid: Tid, why: OffCpu, out: &mut Vec<Event>) {
        let thread = self.thread(at, tid, out);
        thread.sleep = if why == OffCpu::Blocked { Sleep::Asleep } else { Sleep::Awake };
        out.push(Event { at, tid, what: What::SwitchedOut(why) });
    }

    /// A new thread has its creator's name and has waited for nothing yet.
    fn on_created(&mut self, at: MonoNanos, parent: Tid, tid: Tid, out: &mut Vec<Event>) {
        self.delays.forget(tid);
        let name = self.threads.get(&parent).and_then(|parent| parent.name.clone());
        self.threads.insert(tid, Thread { name: name.clone(), sleep: Sleep::Asleep });
        out.push(Event { at, tid, what: What::Created });
        out.extend(name.map(|name| Event { at, tid, what: What::Named(name) }));
        out.push(Event { at, tid, what: What::RunDelay(Nanos::ZERO) });
    }

    fn on_exited(&mut self, at: MonoNanos, tid: Tid, out: &mut Vec<Event>) {
        self.threads.remove(&tid);
        self.delays.forget(tid);
        out.push(Event { at, tid, what: What::Exited });
    }

    /// Only the thread that executed the program is left, and goes on under the number of the process's first.
    fn on_executed(&mut self, at: MonoNanos, tid: Tid, out: &mut Vec<Event>) {
        self.executed = Some(at);
        let others: Vec<Tid> = self.threads.keys().copied().filter(|other| *other != tid).collect();
        for other in others {
            self.on_exited(at, other, out);
        }
        out.push(Event { at, tid: self.pid.main_thread(), what: What::Executed });
    }

    /// Nobody can tell whose records were lost, so every thread may have lost some; the number is stated once.
    fn on_lost(&mut self, at: MonoNanos, count: u64, out: &mut Vec<Event>) {
        let mut counts = std::iter::once(count).chain(std::iter::repeat(0));
        let mut next = || LostEvents { count: counts.next().unwrap_or(0) };
        for tid in self.threads.keys().copied() {
            if self.content == RingContent::SchedulingAndLocks {
                out.push(Event { at, tid, what: What::LostLock(next()) });
            }
            out.push(Event { at, tid, what: What::LostSwitch(next()) });
        }
    }
}

/// The name of a thread as `/proc` shows it; `None` when it has ended.
fn name_of(pid: Pid, tid: Tid) -> Option<Box<str>> {
    let name = fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into())
}

#[cfg(test)]
mod tests {
    use super::{RingContent, Scope, ThreadWatch};
    use crate::{
        model::{
            event::{Event, LostEvents, OffCpu, What},
            ids::{Pid, Tid},
            time::{MonoNanos, Nanos},
        },
        perf::{
            record::{Body, Naming},
            stream::Record,
        },
    };

    fn pid() -> Pid {
        Pid::from_raw(std::process::id().cast_signed()).unwrap()
    }

    fn tid(raw: i32) -> Tid {
        Tid::from_raw(raw).unwrap()
    }

    fn watch(content: RingContent) -> ThreadWatch {
        let mut watch = ThreadWatch::begin(pid(), Scope::BeforeExec, content).unwrap();
        watch.threads.clear();
        watch.first.clear();
        watch
    }

    fn play(watch: &mut ThreadWatch, records: Vec<(u64, i32, Body)>) -> Vec<Event> {
        let mut out = Vec::new();
        for (at, raw, body) in records {
            let at = MonoNanos::from_monotonic(at);
            watch.on_record(Record { at, pid: pid(), tid: tid(raw), body, probe: None }, &mut out);
        }
        out
    }

    fn event(at: u64, raw: i32, what: What) -> Event {
        Event { at: MonoNanos::from_monotonic(at), tid: tid(raw), what }
    }

    #[test]
    fn a_new_thread_has_its_creators_name_and_no_delay() {
        let name: Box<str> = "creator".into();
        let named = Body::Named { pid: pid(), tid: tid(1), name: name.clone(), cause: Naming::Rename };
        let forked = Body::Forked { child_pid: pid(), child: tid(2) };
        let out = play(&mut watch(RingContent::Scheduling), vec![(5, 1, named), (6, 1, forked), (9, 2, Body::Exited)]);
        let expected = [
            event(5, 1, What::Named(name.clone())),
            event(6, 2, What::Created),
            event(6, 2, What::Named(name)),
            event(6, 2, What::RunDelay(Nanos::ZERO)),
            event(9, 2, What::Exited),
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn child_processes_are_not_threads() {
        let other = Pid::from_raw(i32::MAX).unwrap();
        let forked = Body::Forked { child_pid: other, child: tid(i32::MAX) };
        let named = Body::Named { pid: other, tid: tid(i32::MAX), name: "sh".into(), cause: Naming::Exec };
        let mut watch = watch(RingContent::Scheduling);
        assert_eq!(play(&mut watch, vec![(1, 1, forked), (2, 1, named)]), []);
        assert_eq!(watch.executed(), None);
    }

    /// ```text
    /// first thread   ────── exited        ┌── named ──▶  (the other one, renumbered)
    /// another thread ──────────── exec ───┘
    /// ```
    #[test]
    fn exec_in_another_thread_ends_its_number_and_revives_the_first() {
        let (first, other) = (pid().raw(), i32::MAX);
        let named = Body::Named { pid: pid(), tid: pid().main_thread(), name: "sh".into(), cause: Naming::Exec };
        let records = vec![(1, other, Body::SwitchedIn), (2, first, Body::Exited), (3, first, named)];
        let out = play(&mut watch(RingContent::Scheduling), records);
        let expected = [
            event(1, other, What::SwitchedIn),
            event(2, first, What::Exited),
            event(3, other, What::Exited),
            event(3, first, What::Executed),
            event(3, first, What::Created),
            event(3, first, What::Named("sh".into())),
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn only_a_sleep_asks_for_the_delay() {
        let mut watch = watch(RingContent::Scheduling);
        let main = pid().raw();
        let out = |why| Body::SwitchedOut(why);
        let delays = |watch: &mut ThreadWatch| {
            let mut out = Vec::new();
            watch.read_delays(&mut out);
            out.len()
        };
        play(&mut watch, vec![(1, main, out(OffCpu::Blocked)), (2, main, Body::SwitchedIn)]);
        assert_eq!(delays(&mut watch), 1);
        play(&mut watch, vec![(3, main, out(OffCpu::Preempted)), (4, main, Body::SwitchedIn)]);
        assert_eq!(delays(&mut watch), 0);
    }

    #[test]
    fn a_loss_concerns_every_thread_and_is_counted_once() {
        let mut watch = watch(RingContent::SchedulingAndLocks);
        let records = vec![(1, 1, Body::SwitchedIn), (2, 2, Body::SwitchedIn), (3, 1, Body::Lost { count: 40 })];
        let out = play(&mut watch, records);
        let lost: Vec<_> = out.iter().filter(|event| event.at.as_nanos() == 3).collect();
        assert_eq!(lost.len(), 4);
        let counted = lost.iter().filter(|event| event.what == What::LostLock(LostEvents { count: 40 })).count();
        let silent =
            lost.iter().filter(|event| matches!(event.what, What::LostSwitch(LostEvents { count: 0 }))).count();
        assert_eq!((counted, silent), (1, 2));
    }
}
