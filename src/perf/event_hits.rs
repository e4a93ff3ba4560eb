//! Samples of the event that a stream samples, until whoever wants them comes by.

use crate::{
    model::{ids::Tid, time::MonoNanos},
    perf::event_clock::EventClock,
};

/// A sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHit {
    /// When.
    pub at: MonoNanos,
    /// In which thread.
    pub tid: Tid,
    /// What the event has counted of the thread since its sample before.
    pub weight: u64,
}

/// What the event has told.
#[derive(Debug)]
pub(in crate::perf) struct EventHits {
    clock: Option<EventClock>,
    hits: Vec<EventHit>,
    /// What events that are closed have counted; `None`: one of them could not be asked.
    counted: Option<u64>,
}

impl Default for EventHits {
    fn default() -> Self {
        Self { clock: None, hits: Vec::new(), counted: Some(0) }
    }
}

impl EventHits {
    /// From now on samples are this event's.
    pub(in crate::perf) fn begin(&mut self, clock: EventClock) {
        self.clock = Some(clock);
    }

    /// A sample that says that it stands for `told`.
    pub(in crate::perf) fn add(&mut self, (at, tid): (MonoNanos, Tid), told: u64) {
        let weight = self.clock.and_then(EventClock::weight).unwrap_or(told);
        self.hits.push(EventHit { at, tid, weight });
    }

    /// Those since the last call, in order of time.
    pub(in crate::perf) fn take(&mut self) -> Vec<EventHit> {
        let mut hits = std::mem::take(&mut self.hits);
        hits.sort_by_key(|hit| hit.at);
        hits
    }

    /// Events are closed that have counted so much; `None`: they could not be asked.
    pub(in crate::perf) fn close(&mut self, counted: Option<u64>) {
        self.counted = self.counted.zip(counted).map(|(before, more)| before + more);
    }

    /// What all that are closed have counted.
    pub(in crate::perf) fn counted(&self) -> Option<u64> {
        self.counted
    }
}
