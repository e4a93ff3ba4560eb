//! What is counted of the threads with lock events: when it ends and is told to have, and what is to be known of it.
//!
//! Invariant: that nothing is counted any more is told once, and of every thread.

use crate::{
    model::{
        counts::Counters,
        event::{Event, LostEvents, What},
    },
    perf::{clock, measured::Measuring},
    source::{
        metering::Metering,
        scheduler::{SchedulerSource, feed::Feed},
    },
};

impl SchedulerSource {
    /// Lock events that stand in one group with counters are off whenever those are: better no counters than lock events missing.
    pub(super) fn measure_no_more(&mut self, out: &mut Vec<Event>) {
        let Feed::Own(stream) = &mut self.feed else { return };
        if !matches!(stream.measuring(), Measuring::These(_)) {
            return;
        }
        let at = clock::now();
        let reopened = stream.stop_measuring(
            "others took the processor's counters, and lock events that are read with them would have been missed",
        );
        self.trouble = reopened.err().map(|why| format!("no lock events from there on: {why}"));
        out.extend(self.threads.tids().map(|tid| {
            let missing = LostEvents { count: 0 };
            Event { at, tid, what: What::LostLock(missing) }
        }));
    }

    /// Once: from here on nothing is counted of any thread.
    pub(super) fn tell_end_of_measures(&mut self, out: &mut Vec<Event>) {
        let (Feed::Own(stream), Some(metering)) = (&self.feed, &mut self.metering) else { return };
        if self.has_told_end || !matches!(stream.measuring(), Measuring::Ended(_)) {
            return;
        }
        self.has_told_end = true;
        metering.end_all();
        let (at, counters) = (clock::now(), metering.counters());
        out.extend(self.threads.tids().map(|tid| Event { at, tid, what: What::Unmeasured(counters) }));
    }

    /// Why nothing is measured that was to be, and what is to be known of what is.
    pub(super) fn remarks_on_measures(&self) -> Vec<String> {
        let Feed::Own(stream) = &self.feed else { return Vec::new() };
        let why = match stream.measuring() {
            Measuring::Never(why) => Some(format!("no events are counted: {why}")),
            Measuring::Ended(why) => Some(format!("events are counted no more: {why}")),
            Measuring::Nothing | Measuring::These(_) => None,
        };
        why.into_iter().chain(self.trouble.clone()).chain(self.metering.as_ref().and_then(Metering::remark)).collect()
    }

    /// What is counted beside what every recording can have.
    pub(super) fn measured(&self) -> Counters {
        match (&self.feed, &self.metering) {
            (Feed::Own(stream), Some(metering)) if !matches!(stream.measuring(), Measuring::Never(_)) => {
                metering.counters()
            }
            _ => Counters::default(),
        }
    }
}
