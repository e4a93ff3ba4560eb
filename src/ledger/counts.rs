//! What is counted of a thread, by class of states.
//!
//! Invariant: whatever is counted is in exactly one class. What came after a release that may turn out to have been forced is
//! outside like the time since then, and moves with it when a wait is made of that.

use crate::{
    ledger::{Ledger, lock::Owner, relation::Relation},
    model::{
        counts::{ClassCounts, Counter, Counters, Counts, Measures},
        event::MeasuredSince,
        ids::Tid,
        state::{State, StateClass, StateTimes},
        time::Nanos,
    },
};

/// The counts of one thread.
#[derive(Debug, Clone, Default)]
pub(super) struct CountAccount {
    by_class: ClassCounts,
    /// The part of class outside that came after the last release.
    since_release: Counts,
    /// Some are missing.
    is_incomplete: bool,
}

impl Ledger {
    /// So often, to a thread and to the hold in which it is.
    pub(super) fn on_happened(&mut self, tid: Tid, counter: Counter, times: u32) {
        self.charge_thread(tid);
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        thread.counts.add(counter, times, thread.relation);
        if let Relation::Inside(id) = thread.relation
            && let Owner::Held(hold) = &mut self.lock(id).owner
        {
            hold.counts.add(counter, u64::from(times));
        }
    }

    /// So much since the thread's last step, to it and to the hold in which it is; or to neither class nor hold.
    pub(super) fn on_measured(&mut self, tid: Tid, measures: &Measures, since: MeasuredSince) {
        self.charge_thread(tid);
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let relation = if since == MeasuredSince::LastStep { thread.relation } else { Relation::Unknown };
        thread.counts.measure(measures, relation);
        if let Relation::Inside(id) = relation
            && let Owner::Held(hold) = &mut self.lock(id).owner
        {
            hold.counts.add_measures(measures);
        }
    }
}

impl CountAccount {
    /// So many more, of a thread with this relation to the locks.
    fn add(&mut self, counter: Counter, times: u32, relation: Relation) {
        self.by_class.class_mut(relation.class()).add(counter, u64::from(times));
        if relation == Relation::Outside {
            self.since_release.add(counter, u64::from(times));
        }
    }

    /// So much of what the recording's events count more, of a thread with this relation to the locks.
    fn measure(&mut self, measures: &Measures, relation: Relation) {
        self.by_class.measure(relation.class(), measures);
        if relation == Relation::Outside {
            self.since_release.add_measures(measures);
        }
    }

    /// These events did not count the thread all the time.
    pub(super) fn on_unmeasured(&mut self, counters: Counters) {
        self.by_class.miss(counters);
    }

    /// The thread was on a CPU for so long. Time inside and outside is in the states.
    pub(super) fn run(&mut self, time: Nanos, relation: Relation) {
        if matches!(relation, Relation::Waiting(_) | Relation::Unknown) {
            self.by_class.class_mut(relation.class()).add(Counter::TaskClock, time.as_nanos());
        }
    }

    /// The thread has released a lock.
    pub(super) fn on_released(&mut self) {
        self.since_release = Counts::default();
    }

    /// The last release was forced, and the thread has run for `ran` since: all of that belongs to a wait.
    pub(super) fn on_forced(&mut self, ran: Nanos) {
        let moved = std::mem::take(&mut self.since_release);
        self.by_class.class_mut(StateClass::Outside).take_all(&moved);
        let waiting = self.by_class.class_mut(StateClass::Waiting);
        waiting.add_all(&moved);
        waiting.add(Counter::TaskClock, ran.as_nanos());
    }

    /// Some were lost.
    pub(super) fn on_lost(&mut self) {
        self.is_incomplete = true;
    }

    /// All of them, of a thread that was in its states for so long; `None` when some are missing.
    pub(super) fn close(mut self, states: &StateTimes) -> Option<ClassCounts> {
        for (class, state) in [(StateClass::Inside, State::HeldRunning), (StateClass::Outside, State::OutsideRunning)] {
            self.by_class.class_mut(class).add(Counter::TaskClock, states.get(state).as_nanos());
        }
        (!self.is_incomplete).then_some(self.by_class)
    }
}
