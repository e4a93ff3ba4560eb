//! What the programs read of counters, from records to events; and which threads' counts may be forgotten.
//!
//! The programs keep the sum of each thread until its number is used by another, and longer. Invariant: of a number that is
//! forgotten, both sides forget, and no thread has it then.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use crate::{
    model::{
        counts::Counters,
        event::{Event, What},
        ids::Tid,
        time::MonoNanos,
    },
    perf::events::CountedEvent,
    source::{
        bpf::{error::BpfSourceError, programs::Programs},
        measuring::{Meters, Reading, Readings},
    },
};

/// Ended threads that are remembered: until then what they have counted last may still be on its way.
const REMEMBERED: usize = 4096;

/// The counters of one recording.
#[derive(Debug)]
pub(super) struct Metering {
    events: &'static [CountedEvent],
    meters: Meters,
    ended: VecDeque<Tid>,
    /// Those of them whose number no other thread has got.
    gone: FxHashSet<Tid>,
    /// Why none are read, though they were wanted.
    refused: Option<String>,
    /// A CPU that has been offline.
    lost_cpu: Option<u32>,
}

impl Metering {
    /// Of the events that `programs` are to read; `refused` if they cannot.
    pub(super) fn of(events: &'static [CountedEvent], outcome: Result<(), BpfSourceError>) -> Self {
        let refused = outcome.err().map(|why| why.to_string());
        let (ended, gone) = (VecDeque::new(), FxHashSet::default());
        let meters = Meters::of(events.iter().map(CountedEvent::described).collect());
        Self { events, meters, ended, gone, refused, lost_cpu: None }
    }

    /// Appends what a record means.
    pub(super) fn on_record(&mut self, place: (MonoNanos, Tid), readings: &Readings, out: &mut Vec<Event>) {
        let mut readings = *readings;
        // The times are those of the processor's counters.
        for (_, reading) in self.events.iter().zip(&mut readings).filter(|(event, _)| event.is_of_the_kernel()) {
            *reading = reading.map(|reading| Reading { enabled: 0, running: 0, ..reading });
        }
        // A thread's sum is the same on all CPUs.
        self.meters.read(place, 0, &readings, out);
    }

    /// Threads come and go.
    pub(super) fn on_event(&mut self, event: &Event, programs: &Programs) {
        match event.what {
            What::Created => {
                self.gone.remove(&event.tid);
                self.meters.begin(event.tid);
            }
            What::Exited => {
                self.ended.push_back(event.tid);
                self.gone.insert(event.tid);
            }
            _ => {}
        }
        while self.ended.len() > REMEMBERED {
            let Some(tid) = self.ended.pop_front().filter(|tid| self.gone.remove(tid)) else { continue };
            if programs.forget_meter(tid).is_ok() {
                self.meters.forget(tid);
            }
        }
    }

    /// Lock events will be missed from now on.
    pub(super) fn on_gap(&mut self) {
        self.meters.on_gap();
    }

    /// The recording ends; the counters of this CPU have been lost on the way, if of any.
    pub(super) fn end(&mut self, lost_cpu: Option<u32>) {
        self.lost_cpu = lost_cpu;
    }

    /// What is counted, and known.
    pub(super) fn counters(&self) -> Counters {
        let is_known = self.refused.is_none() && self.lost_cpu.is_none();
        if is_known { self.meters.counters() } else { Counters::default() }
    }

    /// What a reader of the counts should know.
    pub(super) fn remarks(&self, programs: &Programs) -> Vec<String> {
        let refused =
            self.refused.as_ref().map(|why| format!("programs in the kernel cannot read the counters: {why}"));
        let unseen = programs.unseen().ok().filter(|unseen| refused.is_none() && *unseen > 0).map(|unseen| {
            format!(
                "{unseen} times a thread got a CPU without the kernel telling: what another process did there just before counts \
                 as the thread's"
            )
        });
        let lost = self.lost_cpu.map(|cpu| {
            format!("CPU {cpu} was offline during the recording, and its counters did not come back with it: no count of an event is known")
        });
        [refused.or(lost).or_else(|| self.meters.remark()), unseen].into_iter().flatten().collect()
    }
}
