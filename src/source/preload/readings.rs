//! What counters say of the target's threads, as the probe reads them at their calls: asked for, taken out of records, and made
//! into what was counted in between.
//!
//! Invariant: what is told lies right before the call at which it was read, at the same time; a record that makes no sense tells
//! nothing.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use crate::{
    model::{
        counts::{Counters, Measured, Slot},
        event::Event,
        ids::Tid,
        time::MonoNanos,
    },
    perf::events::CountedEvent,
    source::{
        measuring::{Meters, Reading, Readings},
        preload::{
            clock::RawTime,
            layout::{MEASURED, Record, TIMES_BITS, TIMES_SAME, TIMES_SHARED, TIMES_UNKNOWN, WantedEvent},
        },
    },
};

const _: () = assert!(MEASURED == Slot::COUNT);

/// What the probe measures, and what it has read last.
#[derive(Debug)]
pub struct Metering {
    meters: Meters,
    /// When calls were recorded again after a while in which they were not; those that readings have not reached.
    resumed: VecDeque<RawTime>,
}

impl Metering {
    /// Of `events`; `None` when there are none.
    pub fn of(events: &[Measured]) -> Option<Self> {
        let new = Self { meters: Meters::of(events.to_vec()), resumed: VecDeque::new() };
        (!events.is_empty()).then_some(new)
    }

    /// What is measured.
    pub fn counters(&self) -> Counters {
        self.meters.counters()
    }

    /// What a reader of the numbers should know.
    pub fn remark(&self) -> Option<String> {
        self.meters.remark()
    }

    /// Calls have not been recorded for a while, and are from `at` on.
    pub fn on_resumed(&mut self, at: RawTime) {
        self.resumed.push_back(at);
    }

    /// Appends what the thread's counters have counted up to `raw`, which is `at`.
    pub fn tell(&mut self, raw: RawTime, (at, tid): (MonoNanos, Tid), readings: &Readings, out: &mut Vec<Event>) {
        while self.resumed.front().is_some_and(|resumed| *resumed <= raw) {
            self.resumed.pop_front();
            self.meters.on_gap();
        }
        self.meters.read((at, tid), 0, readings, out);
    }

    /// The thread has ended.
    pub fn forget(&mut self, tid: Tid) {
        self.meters.forget(tid);
    }
}

/// Has the probe measure `events` from its threads' first calls on.
pub fn request((count, wanted): (&AtomicU32, &[WantedEvent; MEASURED]), events: &[CountedEvent]) {
    for (to, event) in wanted.iter().zip(events) {
        let set = |word: &AtomicU64, value| word.store(value, Ordering::Relaxed);
        to.kind.store(event.code.kind, Ordering::Relaxed);
        to.exclusions.store(exclusions(event), Ordering::Relaxed);
        set(&to.config, event.code.config);
        set(&to.config1, event.code.config1);
        set(&to.config2, event.code.config2);
    }
    let some = u32::try_from(events.len().min(MEASURED)).expect("there are few places");
    count.store(some, Ordering::Release);
}

/// The flags of `struct perf_event_attr` that say what is not counted.
fn exclusions(event: &CountedEvent) -> u32 {
    let builder = event.builder();
    let attributes = builder.attrs();
    let flags = [attributes.exclude_user(), attributes.exclude_kernel(), attributes.exclude_hv()];
    (4..).zip(flags).fold(0, |all, (bit, flag)| all | u32::from(flag != 0) << bit)
}

/// What a record of readings says, of which `operand` is its own and `after` all that follows it in the chunk; `None` when it
/// makes no sense. And how many of those belong to it.
pub fn taken(operand: u64, after: &[Record]) -> (Option<Box<Readings>>, usize) {
    let narrow = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (count, records) = (narrow(operand & 0xff), narrow(operand >> 8));
    let readings = after.get(..records).filter(|_| count <= MEASURED).and_then(|records| each(count, records));
    (readings, records)
}

fn each(count: usize, records: &[Record]) -> Option<Box<Readings>> {
    let mut readings = Box::new(Readings::default());
    let mut records = records.iter();
    for reading in readings.iter_mut().take(count) {
        let record = records.next()?;
        let (value, word) = (record.time.load(Ordering::Relaxed), record.word.load(Ordering::Relaxed));
        let enabled = word >> TIMES_BITS;
        let running = match word & ((1 << TIMES_BITS) - 1) {
            TIMES_SAME => Some(enabled),
            TIMES_SHARED => Some(records.next()?.time.load(Ordering::Relaxed)),
            TIMES_UNKNOWN.. => None,
        };
        *reading = running.map(|running| Reading { value, enabled, running });
    }
    records.next().is_none().then_some(readings)
}
