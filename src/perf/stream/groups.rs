//! Counters in one group with whatever tells of steps with locks: how they begin, change over, and end.
//!
//! Invariant: one set of groups counts, or none, but for the moments in which one takes over from another; what both have counted then
//! counts once.

use crate::{
    model::{
        ids::{Pid, Tid},
        time::MonoNanos,
    },
    perf::{
        clock,
        error::PerfError,
        events::CountedEvent,
        family::{self, Accounts, Family, Wanted},
        measured::{Measured, Measuring},
        open::{Subject, Times},
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
        self.families[family].begin();
        let old = self.groups_but(Some(group));
        let meetings = old.first().map(|old| self.families[family].meet(&self.families[*old])).unwrap_or_default();
        let accounts: Vec<Accounts> = old.into_iter().map(|old| self.end_group(old)).collect();
        let ends = accounts.first().map_or(&[][..], |accounts| &accounts.ends);
        let later = self.families[family].readings().collect();
        // What they say from the end of the old ones on counts later.
        let (at, pid) = (clock::now(), self.pid);
        let began = family::begun(&meetings, ends, later).into_iter().map(|(tid, cpu, said)| {
            told_by_us((at, pid, tid), PlacedReading { group, cpu, said }, Body::CountersBegan)
        });
        self.pending.extend(began);
        self.measured.begin(group, at);
        self.families.iter_mut().for_each(Family::forget);
    }

    /// Families whose groups count, but for those with one number.
    fn groups_but(&self, kept: Option<usize>) -> Vec<usize> {
        let families = self.families.iter().enumerate();
        let others = families.filter(|(_, family)| family.group().is_some_and(|group| Some(group) != kept));
        others.map(|(index, _)| index).collect()
    }

    /// Ends the groups of a family, and has their counters tell what they have not told yet.
    fn end_group(&mut self, family: usize) -> Accounts {
        let (pid, group) = (self.pid, self.families[family].group().unwrap_or_default());
        let accounts = self.families[family].end(self.cpus.len());
        self.lost.iter_mut().zip(&accounts.lost).for_each(|(all, lost)| *all += lost);
        let (at, first) = (accounts.at, pid.main_thread());
        let ended = accounts
            .counted()
            .into_iter()
            .map(|(cpu, said)| told_by_us((at, pid, first), PlacedReading { group, cpu, said }, Body::CountersEnded));
        self.pending.extend(ended);
        accounts
    }

    pub(super) fn close_groups(&mut self) {
        for family in self.groups_but(None) {
            self.end_group(family);
        }
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
