//! What the scheduler does with the target's threads: on and off the CPU, births, deaths, names, waiting for a CPU.
//!
//! Needs no privilege for processes of one's own. Sources that take lock events from the same stream stand on this one, and
//! are told of the records that are theirs. Invariant: nothing is reported about threads of other processes.

mod feed;
mod measures;

use std::{fmt, os::fd::RawFd};

use crate::{
    model::{
        counts::{Counter, Counters},
        event::{Event, SampleCause, StackSample, What},
        ids::Pid,
        machine::MachineSample,
        stack::StackId,
        time::{MonoNanos, Nanos},
    },
    perf::{
        clock,
        error::PerfError,
        event_clock::EventClock,
        events::CountedEvent,
        limits::RingSize,
        measured::Measuring,
        record::Body,
        stream::{PerfStream, Probe, Record, Watchpoint},
    },
    source::{
        Grouping, Source, Tally,
        kin::{Life, SharedKin},
        metering::{Metering, Presence},
        sampling::{EventRefused, OnEvent, OutsideSampling},
        scheduler::feed::Feed,
        thread_watch::{RingContent, ThreadWatch},
    },
};

pub use crate::source::thread_watch::Scope;

/// The scheduler as the only source of events.
pub struct SchedulerSource {
    feed: Feed,
    threads: ThreadWatch,
    records: Vec<Record>,
    /// What a shared feed tells of the time before has not been asked for.
    since: MonoNanos,
    on_sample: Option<OnSample>,
    metering: Option<Metering>,
    /// It is told that nothing is measured any more.
    has_told_end: bool,
    /// What went wrong with that.
    trouble: Option<String>,
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
        let stream = PerfStream::open(pid, RingSize::Ordinary)?;
        Ok(Self::of_stream(stream, ThreadWatch::begin(pid, scope, RingContent::Scheduling)?))
    }

    /// The same for a source that takes lock events from the stream, those of `probes` from the start on. Each comes with what
    /// `events` have counted of its thread, if that can be.
    pub(in crate::source) fn with_locks(
        pid: Pid,
        scope: Scope,
        probes: &[Probe],
        events: &'static [CountedEvent],
        size: RingSize,
    ) -> Result<Self, PerfError> {
        let stream = PerfStream::open_with_probes(pid, probes, events, size)?;
        let metering = (!events.is_empty()).then(|| Metering::of(events));
        let source = Self::of_stream(stream, ThreadWatch::begin(pid, scope, RingContent::SchedulingAndLocks)?);
        Ok(Self { metering, ..source })
    }

    fn of_stream(stream: PerfStream, threads: ThreadWatch) -> Self {
        Self::new(Feed::Own(Box::new(stream)), threads, MonoNanos::from_monotonic(0))
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
        Self {
            feed,
            threads,
            records: Vec::new(),
            since,
            on_sample: None,
            metering: None,
            has_told_end: false,
            trouble: None,
            sampling: None,
        }
    }

    /// Watches the same threads for hits of more probes, which no shared feed does.
    pub(in crate::source) fn add_probes(&mut self, probes: &[Probe]) -> Result<(), PerfError> {
        match &mut self.feed {
            Feed::Own(stream) => stream.add_probes(probes),
            Feed::Shared(..) => Ok(()),
        }
    }

    /// Watches for no hits any more.
    pub(in crate::source) fn remove_probes(&mut self) {
        if let Feed::Own(stream) = &mut self.feed {
            stream.remove_probes();
        }
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
        let watermark = self.feed.drain(now, &mut self.records);
        self.deliver_samples(out);
        if self.deliver(on_record, out) == Presence::Off {
            self.measure_no_more(out);
        }
        self.tell_end_of_measures(out);
        if let Some(metering) = &mut self.metering {
            metering.on_watermark(watermark);
        }
        watermark
    }

    /// As [`Source::finish`], in the same way.
    pub(in crate::source) fn finish_with(&mut self, on_record: OnRecord<'_>, out: &mut Vec<Event>) {
        self.feed.finish(&mut self.records);
        self.deliver_hits(out);
        // If groups were off, that is told of whoever it concerns; there are none left that could be given up.
        self.deliver(on_record, out);
    }

    /// When the process last executed a new program since watching began.
    pub fn executed(&self) -> Option<MonoNanos> {
        self.threads.executed()
    }

    /// Before all else: what goes with a sample is to be read at once.
    fn deliver_samples(&mut self, out: &mut Vec<Event>) {
        let samples = self.feed.take_samples();
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

    fn deliver(&mut self, on_record: OnRecord<'_>, out: &mut Vec<Event>) -> Presence {
        let (since, mut presence) = (self.since, Presence::On);
        for record in self.records.drain(..).filter(|record| record.at >= since) {
            let measured = self.metering.as_mut().map(|metering| metering.on_record(&record, out));
            if measured == Some(Presence::Off) {
                presence = Presence::Off;
            }
            if record.probe.is_none() {
                self.threads.on_record(&record, out);
            }
            if !is_scheduling(&record.body) {
                on_record(&record, out);
            }
        }
        if presence == Presence::Off {
            self.metering.iter().for_each(|metering| metering.doubt_runners(out));
        }
        self.threads.read_delays(out);
        presence
    }
}

impl Scheduling for SchedulerSource {
    fn sample(&mut self, period: Nanos, on_sample: OnSample) -> Result<(), PerfError> {
        self.feed.sample(period)?;
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
        let cost_of_event = self.sampling.as_ref().map_or(Nanos::ZERO, OutsideSampling::cost);
        let unmatched = self.feed.malformed();
        Tally { unmatched, cost_of_faults: self.threads.cost_of_faults(), cost_of_event, ..Tally::default() }
    }

    fn sample_event(&mut self, clock: EventClock, on_event: OnEvent) -> Result<(), EventRefused> {
        let Feed::Own(stream) = &mut self.feed else { return Err(EventRefused::Shared) };
        // The kernel would give samples of both the number of one of them.
        if clock.is_of_switches() && matches!(stream.measuring(), Measuring::These(_)) {
            return Err(EventRefused::BesideCounters);
        }
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
            Feed::Own(stream) => {
                self.sampling.as_ref().filter(|sampling| sampling.goes_on()).and_then(|_| stream.counted())
            }
            Feed::Shared(..) => None,
        }
    }

    fn group_faults(&mut self, group: u32) -> Grouping {
        self.feed.group_faults(group)
    }

    fn count(&mut self, wanted: Counters) {
        if !sees_faults(wanted) {
            self.feed.drop_faults();
        }
    }

    fn counters(&self) -> Counters {
        self.feed.counters().with(self.measured())
    }

    fn remarks(&self) -> Vec<String> {
        let sampling = self.sampling.as_ref().map(OutsideSampling::remark);
        self.feed.remark().into_iter().chain(self.remarks_on_measures()).chain(sampling).collect()
    }
}

fn is_scheduling(body: &Body) -> bool {
    matches!(body, Body::SwitchedIn | Body::SwitchedOut(_) | Body::Migrated | Body::Faulted(..))
}

/// Whether page faults are to be seen for these counters.
fn sees_faults(wanted: Counters) -> bool {
    wanted.has(Counter::MinorFaults) || wanted.has(Counter::MajorFaults)
}

impl fmt::Debug for SchedulerSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerSource")
            .field("feed", &self.feed)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}
