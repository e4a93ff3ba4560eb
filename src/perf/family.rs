//! Events opened together on every thread and CPU: alone, or with counters in one group on each.
//!
//! In a group the first event tells of each loss of the CPU, then come the events that are counted, then those that make records;
//! whatever makes a record puts what the counters say into it. Invariant: a group is never changed but by taking events away, so
//! that the counters stand in the same order in every thread.

mod meeting;

use rustc_hash::FxHashMap;

use crate::{
    model::{ids::Tid, time::MonoNanos},
    perf::{
        clock,
        cpu::{CpuRing, Group, OpenEvent},
        error::PerfError,
        lineage::{Lineage, RootId},
        open::{FaultKind, Manner, Subject},
        reading::GroupReading,
        record::{EventId, Layout},
    },
};

pub(super) use meeting::begun;

/// What is to be told of, and by which number its owner knows it.
pub(super) type Wanted = (Subject, Option<usize>);

/// What an event id stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Role {
    pub(super) family: usize,
    pub(super) root: RootId,
    pub(super) probe: Option<usize>,
    pub(super) fault: Option<(FaultKind, u32)>,
    pub(super) layout: Layout,
    /// The number of its group.
    pub(super) group: Option<usize>,
}

/// Which events are in a group with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grouping {
    /// None.
    Alone,
    /// All of a thread on a CPU; the number is that of no other family's groups.
    Grouped(usize),
}

/// Events opened together, with a lineage of their own: probes added later reach each thread by other ways than the first.
#[derive(Debug)]
pub(super) struct Family {
    subjects: Vec<Wanted>,
    /// How many there were when it was opened.
    first_size: usize,
    grouping: Grouping,
    pub(super) lineage: Lineage,
    events: Vec<Opened>,
    /// Since when there are none any more; records of before may still be waiting.
    pub(super) closed: Option<MonoNanos>,
}

#[derive(Debug)]
struct Opened {
    root: RootId,
    /// The place of its CPU.
    place: usize,
    tid: Tid,
    subject: Subject,
    event: OpenEvent,
}

/// What the events of a family that is closed have lost, by CPU, and what its groups said in the end.
#[derive(Debug)]
pub(super) struct Accounts {
    /// When they ended.
    pub(super) at: MonoNanos,
    pub(super) lost: Vec<u64>,
    pub(super) ends: Vec<GroupEnd>,
}

/// What a group said in the end, of a root and its descendants.
#[derive(Debug)]
pub(super) struct GroupEnd {
    root: RootId,
    /// The place of its CPU.
    place: usize,
    said: GroupReading,
}

impl Family {
    pub(super) fn alone(subjects: Vec<Wanted>) -> Self {
        Self::of(subjects, Grouping::Alone)
    }

    /// `subjects` in one group with what is to be counted.
    pub(super) fn grouped(counted: impl Iterator<Item = Subject>, subjects: Vec<Wanted>, number: usize) -> Self {
        let first = std::iter::once(Subject::LosingCpu).chain(counted).map(|subject| (subject, None));
        Self::of(first.chain(subjects).collect(), Grouping::Grouped(number))
    }

    fn of(subjects: Vec<Wanted>, grouping: Grouping) -> Self {
        Self {
            first_size: subjects.len(),
            subjects,
            grouping,
            lineage: Lineage::default(),
            events: Vec::new(),
            closed: None,
        }
    }

    /// The number of its groups, while there are any.
    pub(super) fn group(&self) -> Option<usize> {
        match self.grouping {
            Grouping::Grouped(number) if self.is_open() => Some(number),
            Grouping::Grouped(_) | Grouping::Alone => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Whether it is there for such subjects.
    pub(super) fn watches(&self, of: impl Fn(Subject) -> bool) -> bool {
        self.is_open() && self.subjects.iter().any(|(subject, _)| of(*subject))
    }

    /// Such of its subjects.
    pub(super) fn those(&self, of: impl Fn(Subject) -> bool) -> impl Iterator<Item = Wanted> {
        self.subjects.iter().copied().filter(move |(subject, _)| of(*subject))
    }

    /// Events for a thread on a CPU.
    pub(super) fn size(&self) -> usize {
        self.subjects.len()
    }

    /// The same when it was opened.
    pub(super) fn first_size(&self) -> usize {
        self.first_size
    }

    /// What its events have counted so far, of all threads; `None` when that is not known.
    pub(super) fn count(&mut self) -> Option<u64> {
        self.events.iter_mut().map(|opened| opened.event.count()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Opens everything on one more thread, but groups do not count yet; `index` is where the family stands among others.
    pub(super) fn open_thread(
        &mut self,
        tid: Tid,
        (cpus, manner): (&[CpuRing], Manner),
        index: usize,
        roles: &mut FxHashMap<EventId, Role>,
    ) -> Result<(), PerfError> {
        let root = self.lineage.begin_root();
        for (place, cpu) in cpus.iter().enumerate() {
            let first = self.events.len();
            for (subject, probe) in &self.subjects {
                let group = match (self.grouping, self.events.get_mut(first)) {
                    (Grouping::Alone, _) => Group::None,
                    (Grouping::Grouped(_), None) => Group::New,
                    (Grouping::Grouped(_), Some(first)) => Group::Of(&mut first.event),
                };
                let event = cpu.watch(*subject, tid, manner, group)?;
                let (layout, group) = match self.grouping {
                    Grouping::Alone => (subject.layout(), None),
                    Grouping::Grouped(number) => (subject.layout_in_group(manner), Some(number)),
                };
                // A record of a page fault may come under the number of an event that counts those as well.
                let fault = match subject {
                    Subject::Faults(kind, _, times) => Some((*kind, *times)),
                    Subject::Event(clock) => clock.fault().map(|kind| (kind, 1)),
                    _ => None,
                };
                roles.insert(event.id(), Role { family: index, root, probe: *probe, fault, layout, group });
                self.events.push(Opened { root, place, tid, subject: *subject, event });
            }
        }
        self.lineage.complete_root(root, tid, clock::now());
        Ok(())
    }

    /// All groups begin to count, as fast as that can be.
    pub(super) fn begin(&mut self) {
        self.events.iter_mut().filter(|opened| opened.event.leads()).for_each(|opened| opened.event.begin());
    }

    /// What each group says now of the thread that it was opened on.
    pub(super) fn readings(&self) -> impl Iterator<Item = (Tid, usize, GroupReading)> {
        self.events.iter().filter_map(|opened| Some((opened.tid, opened.place, opened.event.read_group()?)))
    }

    /// Tells of such subjects no more; of others, and of what is counted, it does. Returns what was lost, by CPU.
    pub(super) fn leave(&mut self, of: impl Fn(Subject) -> bool, cpus: usize) -> Vec<u64> {
        let lost = |family: &Self| {
            let mut lost = vec![0; cpus];
            family.readings().for_each(|(_, place, said)| lost[place] += said.lost);
            lost
        };
        let before = lost(self);
        self.subjects.retain(|(subject, _)| !of(*subject));
        let (mut leaving, staying) = self.events.drain(..).partition::<Vec<_>, _>(|opened| of(opened.subject));
        self.events = staying;
        leaving.iter_mut().for_each(|opened| opened.event.leave());
        drop(leaving);
        before.iter().zip(lost(self)).map(|(before, after)| before.saturating_sub(after)).collect()
    }

    /// Tells of nothing any more. Until [`Family::forget`] the events are there, since to give them up takes long.
    pub(super) fn end(&mut self, cpus: usize) -> Accounts {
        // All first: whoever runs now is to be the one who ran until then.
        self.events.iter_mut().for_each(|opened| opened.event.stop());
        let at = clock::now();
        self.closed = Some(at);
        Accounts::of(&mut self.events, at, cpus)
    }

    /// Gives up what has ended.
    pub(super) fn forget(&mut self) {
        if !self.is_open() {
            self.events.clear();
        }
    }

    /// Both.
    pub(super) fn close(&mut self, cpus: usize) -> Accounts {
        let accounts = self.end(cpus);
        self.forget();
        accounts
    }
}

impl Accounts {
    /// Those of events that ended at this time.
    fn of(events: &mut [Opened], at: MonoNanos, cpus: usize) -> Self {
        let mut accounts = Self { at, lost: vec![0; cpus], ends: Vec::new() };
        for Opened { root, place, event, .. } in events {
            let (lost, said) = event.account();
            accounts.lost[*place] += lost;
            accounts.ends.extend(said.map(|said| GroupEnd { root: *root, place: *place, said }));
        }
        accounts
    }

    /// What its groups have counted on each CPU, of all threads.
    pub(super) fn counted(&self) -> Vec<(usize, GroupReading)> {
        let mut counted: Vec<(usize, GroupReading)> = Vec::new();
        for GroupEnd { place, said, .. } in &self.ends {
            match counted.iter_mut().find(|(of, _)| of == place) {
                Some((_, sum)) => sum.add(said),
                None => counted.push((*place, *said)),
            }
        }
        counted
    }
}
