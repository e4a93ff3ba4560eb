//! Samples in a stream: what processors do, and an event of all threads.
//!
//! Unlike other records they are passed on as soon as they have been read. Invariant: a sample of the event counts only once it is
//! known to be of one of our threads.

use std::os::fd::RawFd;

use crate::{
    model::{ids::Pid, machine::MachineSample, time::Nanos},
    perf::{
        cpu::CpuRing,
        error::PerfError,
        event_clock::EventClock,
        event_hits::EventHit,
        family::Family,
        open::Subject,
        record::Body,
        stream::{PerfStream, telling::sampled},
    },
};

impl PerfStream {
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
    pub(super) fn count_event(&mut self) {
        let is_event = |subject| matches!(subject, Subject::Event(_));
        let events = self.families.iter_mut().filter(|family| family.watches(is_event));
        self.hits.close(events.map(Family::count).sum());
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

    /// Samples of the event count if they are of our threads; others may turn out to be until the watermark has passed them.
    pub(super) fn sort_samples(&mut self) {
        for raw in std::mem::take(&mut self.sampled) {
            match (sampled(&raw, self.pid, (&self.roles, &self.families)), &raw.body) {
                (Some(tid), Body::Sampling { weight }) => self.hits.add((raw.at, tid), *weight),
                _ if raw.at >= self.watermark => self.sampled.push(raw),
                _ => {}
            }
        }
    }
}
