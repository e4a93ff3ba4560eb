//! One stream out of many: events wait here until no source can still deliver an earlier one.
//!
//! Invariant: what is released is in order of time; an event that arrives behind the watermark is released at once and
//! counted as late, never dropped.

use crate::model::{event::Event, time::MonoNanos};

/// Holds events back until the common watermark has passed them.
#[derive(Debug, Default)]
pub struct Merger {
    pending: Vec<Event>,
    released_up_to: Option<MonoNanos>,
    late: u64,
}

impl Merger {
    /// Where sources deliver to, in any order.
    pub fn inbox(&mut self) -> &mut Vec<Event> {
        &mut self.pending
    }

    /// Hands over, in order of time, every event before `watermark`, the least of all sources' watermarks. Events of
    /// the same moment keep the order in which they were delivered.
    pub fn release(&mut self, watermark: MonoNanos, mut sink: impl FnMut(&Event)) {
        self.pending.sort_by_key(|event| event.at);
        let ready = self.pending.partition_point(|event| event.at < watermark);
        if let Some(before) = self.released_up_to {
            let late = self.pending[..ready].partition_point(|event| event.at < before);
            self.late += u64::try_from(late).unwrap_or(u64::MAX);
        }
        self.pending.drain(..ready).for_each(|event| sink(&event));
        self.released_up_to = self.released_up_to.max(Some(watermark));
    }

    /// Hands over everything that is left; for the end of a recording.
    pub fn release_all(&mut self, sink: impl FnMut(&Event)) {
        self.release(MonoNanos::from_monotonic(u64::MAX), sink);
    }

    /// How many events arrived after later ones had been released.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::Merger;
    use crate::model::{
        event::{Event, What},
        ids::Tid,
        time::MonoNanos,
    };

    fn event(at: u64, tid: i32) -> Event {
        Event { at: MonoNanos::from_monotonic(at), tid: Tid::from_raw(tid).unwrap(), what: What::SwitchedIn }
    }

    fn released(merger: &mut Merger, watermark: u64) -> Vec<(u64, i32)> {
        let mut seen = Vec::new();
        merger.release(MonoNanos::from_monotonic(watermark), |event| {
            seen.push((event.at.as_nanos(), event.tid.raw()));
        });
        seen
    }

    #[test]
    fn events_of_two_sources_come_out_in_order_of_time() {
        let mut merger = Merger::default();
        merger.inbox().extend([event(10, 1), event(30, 1), event(20, 2), event(30, 2)]);
        assert_eq!(released(&mut merger, 30), [(10, 1), (20, 2)]);
        merger.inbox().push(event(35, 1));
        assert_eq!(released(&mut merger, 40), [(30, 1), (30, 2), (35, 1)]);
        assert_eq!(merger.late(), 0);
    }

    #[test]
    fn an_event_behind_the_watermark_is_counted_not_dropped() {
        let mut merger = Merger::default();
        assert_eq!(released(&mut merger, 100), []);
        merger.inbox().extend([event(90, 1), event(100, 2)]);
        assert_eq!(released(&mut merger, 200), [(90, 1), (100, 2)]);
        assert_eq!(merger.late(), 1);
    }
}
