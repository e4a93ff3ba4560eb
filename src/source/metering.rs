//! What the counters say that are read at steps with locks and at losses of the CPU, record by record.
//!
//! Each thread has a group of counters on each CPU, and what the last ones of a thread are is known, so whatever a group has counted
//! beyond what its threads have told of is that of the thread that runs. Invariant: when a processor's counters were taken by
//! others for a time, the steps that went untold with them are known to be missing.

use rustc_hash::FxHashMap;

use crate::{
    model::{
        counts::{Counters, Slot},
        event::{Event, LostEvents, What},
        ids::Tid,
        time::MonoNanos,
    },
    perf::{
        events::CountedEvent,
        reading::GroupReading,
        record::{Body, Naming},
        stream::{PlacedReading, Record},
    },
    source::measuring::{Meters, Reading, Readings},
};

/// A processor's counters take turns of milliseconds; what is shorter is the time between two readings.
const TURN: u64 = 500_000;

/// The counters of all threads.
#[derive(Debug)]
pub(super) struct Metering {
    events: &'static [CountedEvent],
    meters: Meters,
    /// What each thread's group says, beyond what it said when it began.
    last: FxHashMap<(Tid, usize), Group>,
    /// What all threads have told that had each group.
    told: FxHashMap<usize, [u64; Slot::COUNT]>,
    /// The number of the groups that count.
    group: usize,
    /// What is known of each thread's turns on the CPU, if groups can be off.
    turns: Option<FxHashMap<Tid, Turn>>,
    /// The first thread has ended: whoever executes a program goes on under its number.
    first_ended: Option<Tid>,
    /// Records until then have been looked at before.
    since: MonoNanos,
}

#[derive(Debug, Clone, Copy, Default)]
struct Group {
    first: GroupReading,
    last: GroupReading,
    /// For how long others had its counters, while its thread ran on its CPU.
    off: u64,
}

impl Group {
    /// What it said when it began was that of the thread and of all that it had created since the group was opened; a record has what is
    /// its own. Where that is less, it begins with the record: the moments between count for nobody.
    fn first_of_its_own(&mut self, said: &GroupReading) {
        let is_first = self.first == self.last;
        if is_first && said.values.iter().zip(self.first.values).any(|(own, all)| *own < all) {
            (self.first, self.last) = (*said, *said);
        }
    }
}

/// A thread's time on the CPUs by its groups' clocks.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    /// Of which groups.
    number: usize,
    ran: u64,
    off: u64,
    /// When a group of its was last read.
    read: Option<MonoNanos>,
    run: Run,
}

/// What a thread's run on a CPU has shown of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Run {
    /// It began before anything was known.
    #[default]
    Unknown,
    Begun,
    /// The group was on when the thread lost the CPU.
    Told,
    /// It is over.
    Away,
}

/// What became of a group's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// They have counted all the time.
    On,
    /// They were taken away for a time, and all that stands in one group with them was off.
    Off,
}

impl Metering {
    pub(super) fn of(events: &'static [CountedEvent]) -> Self {
        let can_be_off = events.iter().any(|event| !event.is_of_the_kernel());
        Self {
            events,
            meters: Meters::of(events.iter().map(CountedEvent::described).collect()),
            last: FxHashMap::default(),
            told: FxHashMap::default(),
            group: 0,
            turns: can_be_off.then(FxHashMap::default),
            first_ended: None,
            since: MonoNanos::from_monotonic(0),
        }
    }

    /// Appends what `record` tells of counters: before whatever else it means.
    pub(super) fn on_record(&mut self, record: &Record, out: &mut Vec<Event>) -> Presence {
        let by_clock = match &record.reading {
            Some(reading) => self.on_reading(record, reading, out),
            None => {
                // While other groups take over, there are steps at which none says anything that counts.
                record.probe.iter().for_each(|_| self.meters.on_unread(record.tid));
                Presence::On
            }
        };
        match (self.on_scheduling(record, out), by_clock) {
            (Presence::On, Presence::On) => Presence::On,
            _ => Presence::Off,
        }
    }

    fn on_reading(&mut self, record: &Record, reading: &PlacedReading, out: &mut Vec<Event>) -> Presence {
        let (at, tid, place) = (record.at, record.tid, reading.place());
        // An event that was opened later has not been there.
        if reading.said.count < self.events.len() {
            return Presence::On;
        }
        match record.body {
            Body::CountersBegan => {
                self.begin(tid, reading);
                Presence::On
            }
            Body::CountersEnded => {
                self.end((at, tid), reading, out);
                Presence::On
            }
            _ => self.read((at, tid), place, (reading.group, reading.said), out),
        }
    }

    /// While probes came or words changed, steps with locks may have been missed.
    fn begin(&mut self, tid: Tid, reading: &PlacedReading) {
        self.meters.on_gap();
        self.forget_before(reading.group);
        let said = reading.said;
        self.last.insert((tid, reading.place()), Group { first: said, last: said, off: 0 });
        let told = self.told.entry(reading.place()).or_default();
        told.iter_mut().zip(said.values).for_each(|(sum, value)| *sum = sum.saturating_add(value));
    }

    /// Other groups have taken over: where no thread ran when they ended, nobody has told so.
    fn forget_before(&mut self, group: usize) {
        if self.group == group {
            return;
        }
        self.group = group;
        let is_old = |place: usize| PlacedReading::group_of(place) < group;
        let old: Vec<usize> = self.told.keys().copied().filter(|place| is_old(*place)).collect();
        self.told.retain(|place, _| !is_old(*place));
        self.last.retain(|(_, place), _| !is_old(*place));
        old.into_iter().for_each(|place| self.meters.forget_place(place));
    }

    /// The last thread of the group has counted what nobody else has told.
    fn end(&mut self, (at, tid): (MonoNanos, Tid), reading: &PlacedReading, out: &mut Vec<Event>) {
        let place = reading.place();
        let told = self.told.remove(&place).unwrap_or_default();
        let mut said = self.last.get(&(tid, place)).copied().unwrap_or_default().last;
        let rest = reading.said.values.iter().zip(told).map(|(all, told)| all.saturating_sub(told));
        said.values.iter_mut().zip(rest).for_each(|(value, rest)| *value = value.saturating_add(rest));
        self.tell((at, tid), place, said, out);
        self.told.remove(&place);
        self.last.retain(|(_, of), _| *of != place);
        self.meters.forget_place(place);
    }

    fn read(
        &mut self,
        (at, tid): (MonoNanos, Tid),
        place: usize,
        (number, said): (usize, GroupReading),
        out: &mut Vec<Event>,
    ) -> Presence {
        let off = self.time_off((at, tid), place, (number, said));
        let group = self.last.entry((tid, place)).or_default();
        group.off = group.off.saturating_add(off);
        let since = self.turns.as_ref().and_then(|turns| turns.get(&tid)?.read);
        if let Some(turn) = self.turns.as_mut().and_then(|turns| turns.get_mut(&tid)) {
            turn.read = Some(at);
        }
        if off > 0 {
            out.push(self.untold(since.unwrap_or(at), tid));
        }
        self.tell((at, tid), place, said, out);
        if off > 0 { Presence::Off } else { Presence::On }
    }

    /// For how much longer the thread's groups were off since they were read last. Each has a clock that goes whenever the thread
    /// runs, and one that goes when the group counts, which is on one CPU.
    fn time_off(&mut self, (at, tid): (MonoNanos, Tid), place: usize, (number, said): (usize, GroupReading)) -> u64 {
        let Some(turns) = &mut self.turns else { return 0 };
        let turn = turns.entry(tid).or_default();
        if turn.number != number {
            *turn = Turn { number, read: Some(at), run: turn.run, ..Turn::default() };
        }
        let group = self.last.get(&(tid, place)).copied().unwrap_or_default();
        turn.ran = turn.ran.saturating_add(said.running.saturating_sub(group.last.running));
        let off = said.enabled.saturating_sub(group.first.enabled).saturating_sub(turn.ran);
        let more = off.saturating_sub(turn.off);
        if more < TURN {
            return 0;
        }
        turn.off = off;
        more
    }

    fn tell(&mut self, (at, tid): (MonoNanos, Tid), place: usize, said: GroupReading, out: &mut Vec<Event>) {
        let group = self.last.entry((tid, place)).or_default();
        group.first_of_its_own(&said);
        let told = self.told.entry(place).or_default();
        let mut readings = Readings::default();
        // Groups that are never off tell it at times only.
        let running = self.turns.as_ref().map_or(0, |_| said.running.saturating_sub(group.first.running));
        for (slot, reading) in readings.iter_mut().enumerate().take(self.events.len()) {
            let (value, last) = (said.values[slot], group.last.values[slot]);
            told[slot] = told[slot].saturating_add(value.saturating_sub(last));
            let value = value.checked_sub(group.first.values[slot]);
            *reading = value.map(|value| Reading { value, enabled: running.saturating_add(group.off), running });
        }
        group.last = said;
        self.meters.read((at, tid), place, &readings, out);
    }

    fn on_scheduling(&mut self, record: &Record, out: &mut Vec<Event>) -> Presence {
        let (at, tid) = (record.at, record.tid);
        match &record.body {
            Body::Exited => self.on_exited(record),
            Body::Named { cause: Naming::Exec, tid, .. } if self.first_ended.take() == Some(*tid) => {
                out.push(Event { at, tid: *tid, what: What::Unmeasured(self.counters()) });
            }
            Body::Lost { .. } => self.turns.iter_mut().flatten().for_each(|(_, turn)| turn.run = Run::Unknown),
            Body::SwitchedIn => self.on_run(tid, Run::Begun),
            Body::Counted => self.on_run(tid, Run::Told),
            Body::SwitchedOut(_) => return self.on_switched_out((at, tid), out),
            _ => {}
        }
        Presence::On
    }

    fn on_exited(&mut self, record: &Record) {
        let tid = record.tid;
        self.meters.forget(tid);
        self.last.retain(|(of, _), _| *of != tid);
        if let Some(turns) = &mut self.turns {
            turns.remove(&tid);
        }
        if tid == record.pid.main_thread() {
            self.first_ended = Some(tid);
        }
    }

    fn on_run(&mut self, tid: Tid, run: Run) {
        // Before any counter has begun nothing is to be told.
        if let Some(turns) = self.turns.as_mut().filter(|_| !self.told.is_empty()) {
            turns.entry(tid).or_default().run = run;
        }
    }

    /// A thread that loses the CPU tells what its counters say, unless its group is off.
    fn on_switched_out(&mut self, (at, tid): (MonoNanos, Tid), out: &mut Vec<Event>) -> Presence {
        let turn = self.turns.as_mut().and_then(|turns| turns.get_mut(&tid));
        let (run, read) =
            turn.map_or((Run::Unknown, None), |turn| (std::mem::replace(&mut turn.run, Run::Away), turn.read));
        if run != Run::Begun {
            return Presence::On;
        }
        out.push(self.untold(read.unwrap_or(at), tid));
        out.push(Event { at, tid, what: What::Unmeasured(self.counters()) });
        Presence::Off
    }

    /// Others had a group's counters. Whoever runs still, as far as is known, may have been without its own, and has not told so.
    pub(super) fn doubt_runners(&self, out: &mut Vec<Event>) {
        let runners = self.turns.iter().flatten().filter(|(_, turn)| matches!(turn.run, Run::Unknown | Run::Begun));
        out.extend(runners.map(|(tid, turn)| self.untold(turn.read.unwrap_or(self.since), *tid)));
    }

    /// Steps with locks may be missing since; they cannot be from before what has been delivered already.
    fn untold(&self, since: MonoNanos, tid: Tid) -> Event {
        Event { at: since.max(self.since), tid, what: What::LostLock(LostEvents { count: 0 }) }
    }

    /// Nothing is counted any more: no group is on or off.
    pub(super) fn end_all(&mut self) {
        self.turns = None;
    }

    /// All records before this time have been told of.
    pub(super) fn on_watermark(&mut self, watermark: MonoNanos) {
        self.since = watermark;
    }

    /// Which of the events shared a processor's counters with others.
    pub(super) fn remark(&self) -> Option<String> {
        self.meters.remark()
    }

    pub(super) fn counters(&self) -> Counters {
        self.meters.counters()
    }
}

#[cfg(test)]
mod tests;
