//! Counters in one group with whatever tells of steps with locks: how they begin, change over, and end.
//!
//! Invariant: at any moment one set of groups counts, or none; what two have counted, while one takes over from the other, counts
//! once.

use crate::{
    model::{
        ids::{Pid, Tid},
        time::MonoNanos,
    },
    perf::{
        clock,
        error::PerfError,
        events::CountedEvent,
        family::{Accounts, Family, Wanted},
        measured::{Measured, Measuring},
        open::{Subject, Times},
        reading::GroupReading,
        record::Body,
        stream::{PerfStream, PlacedReading, Record, order::Pending},
    },
};

impl PerfStream {
    /// From now on whatever tells of hits and writes tells what `events` have counted of the thread, if that can be.
    pub fn measure(&mut self, events: &'static [CountedEvent]) {
        self.manner.times = Times::of(events);
        self.measured = Measured::try_these(events, self.manner);
    }

    /// What is measured at hits and writes.
    pub fn measuring(&self) -> &Measuring {
        self.measured.now()
    }

    /// Measures nothing any more, for this reason. Hits and writes are told of as before, but for those of this very moment.
    pub fn stop_measuring(&mut self, why: &str) -> Result<(), PerfError> {
        self.measured.end(why);
        let groups = self.families.iter().filter(|family| family.group().is_some());
        let wanted: Vec<Wanted> = groups.flat_map(|family| family.those(is_of_locks)).collect();
        self.close_groups();
        if wanted.is_empty() { Ok(()) } else { self.watch_family(wanted) }
    }

    /// Steps with locks, each told of with what is measured. Counters that are open already go over to the new groups.
    pub(super) fn watch_locks(&mut self, mut subjects: Vec<Wanted>) -> Result<(), PerfError> {
        let Some(number) = self.measured.next_group() else {
            return if subjects.is_empty() { Ok(()) } else { self.watch_family(subjects) };
        };
        let groups = self.families.iter().filter(|family| family.group().is_some());
        subjects.extend(groups.flat_map(|family| family.those(is_of_locks)));
        self.drop_subjects(is_of_locks);
        let grouped = self.with_room(|stream| {
            stream.try_watching(Family::grouped(stream.measured.counted(), subjects.clone(), number))
        });
        match grouped {
            Ok(family) => {
                self.go_over(family, number);
                Ok(())
            }
            Err(why) => {
                // Their files may be those that are missing.
                self.close_groups();
                self.measured.refuse(&why);
                if subjects.is_empty() { Ok(()) } else { self.watch_family(subjects) }
            }
        }
    }

    /// From the counters of other groups to those of this one: what both have counted counts once.
    fn go_over(&mut self, family: usize, group: usize) {
        let before: Vec<(Tid, usize, GroupReading)> = self.families[family].readings().collect();
        let begun = clock::now();
        let ended = self.end_groups_but(Some(group)).unwrap_or(begun);
        let after: Vec<(Tid, usize, GroupReading)> = self.families[family].readings().collect();
        // What they say in between counts later.
        let (at, pid) = (clock::now(), self.pid);
        let share = ended.saturating_since(begun).share_of(at.saturating_since(begun));
        let began = before.into_iter().zip(after).map(|((.., before), (tid, cpu, after))| {
            // We may have lost the CPU meanwhile, and others not.
            let said = before.on_the_way_to(&after, share);
            told_by_us((at, pid, tid), PlacedReading { group, cpu, said }, Body::CountersBegan)
        });
        self.pending.extend(began);
        self.measured.begin(group, at);
        self.families.iter_mut().for_each(Family::forget);
    }

    /// Ends all groups but one, and has their counters tell what they have not told yet. Returns when that was.
    fn end_groups_but(&mut self, kept: Option<usize>) -> Option<MonoNanos> {
        let (cpus, mut ended_at) = (self.cpus.len(), None);
        for index in 0..self.families.len() {
            let Some(group) = self.families[index].group().filter(|group| Some(*group) != kept) else { continue };
            let Accounts { at, lost, counted } = self.families[index].end(cpus);
            self.lost.iter_mut().zip(lost).for_each(|(all, lost)| *all += lost);
            ended_at = Some(at);
            let pid = self.pid;
            let ended = counted.into_iter().map(|(cpu, said)| {
                told_by_us((at, pid, pid.main_thread()), PlacedReading { group, cpu, said }, Body::CountersEnded)
            });
            self.pending.extend(ended);
        }
        ended_at
    }

    pub(super) fn close_groups(&mut self) {
        self.end_groups_but(None);
        self.families.iter_mut().for_each(Family::forget);
    }
}

fn told_by_us((at, pid, tid): (MonoNanos, Pid, Tid), reading: PlacedReading, body: Body) -> Pending {
    let place = reading.cpu;
    let record = Record { at, pid, tid, body, probe: None, reading: Some(Box::new(reading)) };
    Pending { record, place, from: None }
}

/// Whether it tells of steps with locks.
fn is_of_locks(subject: Subject) -> bool {
    matches!(subject, Subject::Probe { .. } | Subject::Watchpoint { .. })
}
