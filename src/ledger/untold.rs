//! Steps with locks that no event tells: those that were only counted, and those that got lost.
//!
//! Invariant: counts are kept only as long as every step was either told or counted.

use crate::{
    ledger::{Ledger, lock::Owner, relation::Relation},
    model::{
        event::{CountedSteps, LostEvents},
        ids::{LockId, Tid},
    },
};

/// Whether the steps that are told and those that are counted are all there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    Sound,
    /// Some were neither.
    Broken,
}

impl Ledger {
    pub(super) fn on_counted(&mut self, id: LockId, steps: CountedSteps) {
        if self.counting == Counting::Broken {
            return;
        }
        let counted = self.lock(id).counted.get_or_insert_default();
        counted.holds = counted.holds.saturating_add(steps.holds);
        counted.waits = counted.waits.saturating_add(steps.waits);
    }

    pub(super) fn on_uncounted(&mut self) {
        self.counting = Counting::Broken;
        self.locks.iter_mut().for_each(|lock| lock.counted = None);
    }

    pub(super) fn on_lock_events_lost(&mut self, tid: Tid, lost: LostEvents) {
        self.tally.lost = self.tally.lost.saturating_add(lost.count);
        self.parking.on_lost(tid);
        if !self.windows.take_events() {
            return;
        }
        self.leave_relation(tid);
        self.thread(tid, Relation::Unknown).relation = Relation::Unknown;
        self.lossy.insert(tid);
        // The thread may have taken any lock that is free. One that another thread is seen to own it cannot have.
        let free = self.locks.iter().filter(|lock| matches!(lock.owner, Owner::Free));
        for id in free.map(|lock| lock.id).collect::<Vec<_>>() {
            self.doubt_owner(id);
        }
    }
}
