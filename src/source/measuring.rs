//! From readings of a thread's counters to what they counted between two of them. Pure: whoever reads is somebody else.
//!
//! Counters only grow, and each says for how long it was wanted and for how long it really counted: where several share one of
//! the processor's, what is missing is made up for in proportion, reading by reading. Invariant: of a counter that stood still,
//! went back or was not there, nothing is told but that it is missing.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{
    counts::{Counter, Counters, Measured, Measures, Slot},
    event::{Event, MeasuredSince, What},
    ids::Tid,
    time::MonoNanos,
};

/// What a counter says: all that it has counted of a thread so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// How much.
    pub value: u64,
    /// For how long it was to count, in nanoseconds of whatever clock.
    pub enabled: u64,
    /// For how long of that it did.
    pub running: u64,
}

/// What all counters of a recording say of a thread at one moment, by their places; `None` for one that does not answer.
pub type Readings = [Option<Reading>; Slot::COUNT];

/// Where readings are made that belong together: a thread has other counters on every CPU, or the same on all.
pub type Place = usize;

/// For so long a counter that takes turns with others may stand still, in nanoseconds: then it is known to be missing.
const TURN: u64 = 25_000_000;

/// The last readings of all threads.
#[derive(Debug, Clone)]
pub struct Meters {
    /// What is read.
    events: Vec<Measured>,
    last: FxHashMap<(Tid, Place), Readings>,
    /// Threads whose next readings tell of time in which steps with a lock may have been missed; with the number of the gap that
    /// they have told of.
    told: FxHashMap<Tid, u32>,
    gaps: u32,
    /// Threads whose last step with a lock came without a reading.
    unread: FxHashSet<Tid>,
    /// What has been told to be missing, of which thread.
    missing: FxHashMap<Tid, Counters>,
    shares: [Share; Slot::COUNT],
}

/// For how long a counter was to count, and did, over all threads.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    enabled: u128,
    running: u128,
}

/// What one counter has counted between two readings.
enum Counted {
    So(u64),
    /// Nothing yet: others have the counter, and what it misses is made up for when it has counted again.
    Later,
    Unknown,
}

impl Meters {
    /// Of the counters of these events, in places 0 and up.
    pub fn of(events: Vec<Measured>) -> Self {
        let (last, told, missing) = (FxHashMap::default(), FxHashMap::default(), FxHashMap::default());
        let unread = FxHashSet::default();
        Self { events, last, told, gaps: 0, unread, missing, shares: Default::default() }
    }

    /// Appends what has been counted of the thread at this place since the reading before, or since it was first counted: before
    /// whatever the thread does at that moment.
    pub fn read(&mut self, (at, tid): (MonoNanos, Tid), place: Place, readings: &Readings, out: &mut Vec<Event>) {
        let mut measures = Measures::default();
        let mut unknown = Vec::new();
        let last = self.last.entry((tid, place)).or_insert([Some(Reading::default()); Slot::COUNT]);
        let slots = Slot::all().take(self.events.len());
        for (slot, (last, (now, share))) in slots.zip(last.iter_mut().zip(readings.iter().zip(&mut self.shares))) {
            match counted(*last, *now) {
                Counted::So(count) => measures.0[slot.index()] = count,
                Counted::Later => continue,
                Counted::Unknown => unknown.push(Counter::Measured(slot)),
            }
            share.add(*last, *now);
            *last = *now;
        }
        self.tell_missing((at, tid), &unknown, out);
        let (told, unread) = (self.told.insert(tid, self.gaps), self.unread.remove(&tid));
        let is_since_step = !unread && told.is_none_or(|told| told == self.gaps);
        let since = if is_since_step { MeasuredSince::LastStep } else { MeasuredSince::Unknown };
        // That a thread has counted nothing is known once it is told.
        let first = told.is_none() && unknown.len() < self.events.len();
        if first || measures != Measures::default() {
            out.push(Event { at, tid, what: What::Measured(Box::new(measures), since) });
        }
    }

    /// Once for each thread and counter.
    fn tell_missing(&mut self, (at, tid): (MonoNanos, Tid), unknown: &[Counter], out: &mut Vec<Event>) {
        if unknown.is_empty() {
            return;
        }
        let told = self.missing.entry(tid).or_default();
        let new = Counters::these(unknown).without(*told);
        *told = told.with(new);
        if !new.is_empty() {
            out.push(Event { at, tid, what: What::Unmeasured(new) });
        }
    }

    /// Steps with a lock may have been missed: what each thread's next readings tell belongs to nothing that it is known to have
    /// done.
    pub fn on_gap(&mut self) {
        self.gaps += 1;
    }

    /// The thread has taken a step with a lock at which nothing was read: its next readings tell of what was before that, too.
    pub fn on_unread(&mut self, tid: Tid) {
        self.unread.insert(tid);
    }

    /// A new thread has this number: what is said of it is told anew.
    pub fn begin(&mut self, tid: Tid) {
        self.told.remove(&tid);
        self.unread.remove(&tid);
        self.missing.remove(&tid);
    }

    /// The thread has ended, and its number may be given to another.
    pub fn forget(&mut self, tid: Tid) {
        self.last.retain(|(of, _), _| *of != tid);
        self.told.remove(&tid);
        self.unread.remove(&tid);
        self.missing.remove(&tid);
    }

    /// The counters of this place are there no more, of any thread.
    pub fn forget_place(&mut self, place: Place) {
        self.last.retain(|(_, of), _| *of != place);
    }

    /// What is counted.
    pub fn counters(&self) -> Counters {
        Counters::measured(self.events.len())
    }

    /// Says which of the events shared a processor's counters with others, so that a part of what they counted is made up for.
    pub fn remark(&self) -> Option<String> {
        let shared = self.events.iter().zip(&self.shares).filter(|(_, share)| share.running < share.enabled);
        let parts: Vec<String> = shared
            .map(|(event, share)| {
                let tenths = share.running * 1000 / share.enabled.max(1);
                format!("{} {}.{} %", event.name, tenths / 10, tenths % 10)
            })
            .collect();
        (!parts.is_empty()).then(|| {
            format!(
                "there were fewer counters than wanted at a time, by us or others: measured were {} of the time on the CPUs, and the \
                 rest was made up for in proportion",
                parts.join(", ")
            )
        })
    }
}

impl Share {
    fn add(&mut self, last: Option<Reading>, now: Option<Reading>) {
        let (Some(last), Some(now)) = (last, now) else { return };
        self.enabled += u128::from(now.enabled.saturating_sub(last.enabled));
        self.running += u128::from(now.running.saturating_sub(last.running));
    }
}

fn counted(last: Option<Reading>, now: Option<Reading>) -> Counted {
    let (Some(last), Some(now)) = (last, now) else { return Counted::Unknown };
    let (Some(value), Some(enabled), Some(running)) = (
        now.value.checked_sub(last.value),
        now.enabled.checked_sub(last.enabled),
        now.running.checked_sub(last.running),
    ) else {
        return Counted::Unknown;
    };
    if running >= enabled {
        return Counted::So(value);
    }
    if running == 0 {
        return if enabled < TURN { Counted::Later } else { Counted::Unknown };
    }
    let scaled = u128::from(value) * u128::from(enabled) / u128::from(running);
    u64::try_from(scaled).map_or(Counted::Unknown, Counted::So)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Meters, Reading, Readings};
    use crate::model::{
        counts::{CountedPlace, Counter, Counters, Measured, Measures, Slot},
        event::{Event, MeasuredSince, What},
        ids::Tid,
        time::MonoNanos,
    };

    fn tid(number: i32) -> Tid {
        Tid::from_raw(number).unwrap()
    }

    fn of_names<const COUNT: usize>(names: [&str; COUNT]) -> Meters {
        let measured = |name: &str| Measured { name: name.to_owned(), meaning: None, place: CountedPlace::Everywhere };
        Meters::of(names.map(measured).to_vec())
    }

    fn reading(value: u64, enabled: u64, running: u64) -> Option<Reading> {
        Some(Reading { value, enabled, running })
    }

    /// Of two counters.
    fn readings(first: Option<Reading>, second: Option<Reading>) -> Readings {
        let mut readings = Readings::default();
        (readings[0], readings[1]) = (first, second);
        readings
    }

    fn read(meters: &mut Meters, thread: i32, place: usize, now: &Readings) -> Vec<What> {
        let mut out: Vec<Event> = Vec::new();
        meters.read((MonoNanos::from_monotonic(5), tid(thread)), place, now, &mut out);
        out.into_iter().map(|event| event.what).collect()
    }

    fn measured(counts: [u64; 2], since: MeasuredSince) -> What {
        let mut measures = Measures::default();
        measures.0[..2].copy_from_slice(&counts);
        What::Measured(Box::new(measures), since)
    }

    fn missing(slot: usize) -> What {
        What::Unmeasured(Counters::these(&[Counter::Measured(Slot::at(slot).unwrap())]))
    }

    #[test]
    fn what_counts_is_the_difference_at_each_place() {
        let mut meters = of_names(["cycles", "cs"]);
        let last = MeasuredSince::LastStep;
        assert_eq!(
            read(&mut meters, 1, 0, &readings(reading(100, 9, 9), reading(7, 9, 9))),
            [measured([100, 7], last)]
        );
        assert_eq!(read(&mut meters, 1, 1, &readings(reading(30, 4, 4), reading(0, 4, 4))), [measured([30, 0], last)]);
        assert_eq!(
            read(&mut meters, 1, 0, &readings(reading(150, 12, 12), reading(7, 12, 12))),
            [measured([50, 0], last)]
        );
        // Nothing happened.
        assert_eq!(read(&mut meters, 1, 0, &readings(reading(150, 12, 12), reading(7, 12, 12))), []);
    }

    #[test]
    fn a_shared_counter_is_scaled_and_said_to_be() {
        let mut meters = of_names(["cycles", "cs"]);
        let now = readings(reading(100, 100, 25), reading(40, 100, 100));
        assert_eq!(read(&mut meters, 1, 0, &now), [measured([400, 40], MeasuredSince::LastStep)]);
        let remark = meters.remark().unwrap();
        assert!(remark.contains("cycles 25.0 %") && !remark.contains("cs"), "{remark}");
        assert_eq!(of_names(["cycles", "cs"]).remark(), None);
    }

    #[test]
    fn a_counter_that_stands_still_goes_back_or_vanishes_is_missing_and_the_others_go_on() {
        let mut meters = of_names(["cycles", "cs"]);
        let last = MeasuredSince::LastStep;
        read(&mut meters, 1, 0, &readings(reading(10, 10, 10), reading(10, 10, 10)));
        // It gets no turn, and then for half of the time; then no more.
        let waits = read(&mut meters, 1, 0, &readings(reading(10, 20, 10), reading(15, 20, 20)));
        assert_eq!(waits, [measured([0, 5], last)]);
        let caught_up = read(&mut meters, 1, 0, &readings(reading(13, 30, 20), reading(15, 30, 30)));
        assert_eq!(caught_up, [measured([6, 0], last)]);
        let long = 30 + super::TURN;
        let still = read(&mut meters, 1, 0, &readings(reading(13, long, 20), reading(16, long, long)));
        assert_eq!(still, [missing(0), measured([0, 1], last)]);
        // That is told once, and what it counts later is no use; nor is that of one that went back.
        let later = read(&mut meters, 1, 0, &readings(reading(15, long + 10, 30), reading(2, long + 10, long + 10)));
        assert_eq!(later, [missing(1), measured([2, 0], last)]);
        assert_eq!(read(&mut meters, 2, 0, &readings(None, reading(3, 3, 3))), [missing(0), measured([0, 3], last)]);
        // One that starts late is missing from the start.
        assert_eq!(read(&mut meters, 2, 0, &readings(reading(8, 4, 4), reading(4, 4, 4))), [measured([0, 1], last)]);
        assert_eq!(read(&mut meters, 2, 0, &readings(reading(9, 5, 5), reading(4, 5, 5))), [measured([1, 0], last)]);
    }

    #[test]
    fn after_a_gap_it_is_unknown_what_each_thread_did() {
        let mut meters = of_names(["cycles"]);
        let now = |value| readings(reading(value, value, value), None);
        let known = |counts| measured([counts, 0], MeasuredSince::LastStep);
        assert_eq!(read(&mut meters, 1, 0, &now(5)), [known(5)]);
        meters.on_gap();
        assert_eq!(read(&mut meters, 1, 0, &now(9)), [measured([4, 0], MeasuredSince::Unknown)]);
        assert_eq!(read(&mut meters, 1, 0, &now(10)), [known(1)]);
        // A thread that came after it has done nothing else.
        assert_eq!(read(&mut meters, 2, 0, &now(3)), [known(3)]);
        meters.forget(tid(1));
        assert_eq!(read(&mut meters, 1, 0, &now(2)), [known(2)]);
    }

    #[test]
    fn after_a_step_that_was_not_read_it_is_unknown_what_that_thread_did() {
        let mut meters = of_names(["cycles"]);
        let now = |value| readings(reading(value, value, value), None);
        let known = |counts| measured([counts, 0], MeasuredSince::LastStep);
        assert_eq!(
            (read(&mut meters, 1, 0, &now(5)), read(&mut meters, 2, 0, &now(5))),
            (vec![known(5)], vec![known(5)])
        );
        meters.on_unread(tid(1));
        assert_eq!(read(&mut meters, 2, 0, &now(7)), [known(2)]);
        assert_eq!(read(&mut meters, 1, 0, &now(9)), [measured([4, 0], MeasuredSince::Unknown)]);
        assert_eq!(read(&mut meters, 1, 0, &now(10)), [known(1)]);
    }

    proptest! {
        /// However a thread's readings fall on CPUs, what is told of counters that always count sums up to what they say at the end.
        #[test]
        fn the_parts_sum_up(steps in proptest::collection::vec((0_usize..3, 0_u64..1000, any::<bool>()), 1..60)) {
            let mut meters = of_names(["cycles"]);
            let (mut values, mut told) = ([0_u64; 3], 0);
            for (place, more, gap) in steps {
                values[place] += more;
                if gap {
                    meters.on_gap();
                }
                let now = readings(reading(values[place], values[place], values[place]), None);
                for what in read(&mut meters, 1, place, &now) {
                    let What::Measured(measures, _) = what else { panic!("{what:?}") };
                    told += measures.0[0];
                }
            }
            prop_assert_eq!(told, values.iter().sum::<u64>());
        }

        /// Any readings are survived.
        #[test]
        fn any_readings_are_survived(all in proptest::collection::vec(any::<[Option<(u64, u64, u64)>; 2]>(), 1..40)) {
            let mut meters = of_names(["cycles", "cs"]);
            for [first, second] in all {
                let made = |reading: Option<(u64, u64, u64)>| {
                    reading.map(|(value, enabled, running)| Reading { value, enabled, running })
                };
                read(&mut meters, 1, 0, &readings(made(first), made(second)));
            }
            meters.remark();
        }
    }
}
