//! What looks tell: which relation a thread has, where no lock events do, and whether it is awake, where no switches do.
//!
//! A relation that looks tell begins and ends between two looks; what happened in between was not seen. So holds and waits that
//! end here are stretches of looks: their time is an estimate, and their number means nothing.

use crate::{
    ledger::{
        Ledger,
        cpu_share::{CpuShare, Parts, Place},
        lock::Owner,
        relation::Relation,
        thread::{Cpu, HELD, ThreadAccount, Unresolved},
        windows::Extent,
    },
    model::{
        event::{CpuSight, SeenOwner, SeenRelation},
        ids::{LockId, Tid},
        state::State,
        time::Nanos,
    },
};

impl Ledger {
    pub(super) fn on_relation_seen(&mut self, tid: Tid, seen: Option<SeenRelation>) {
        let now = self.now;
        let unseen = Cpu::Unresolved(None);
        self.threads.entry(tid).or_insert_with(|| ThreadAccount::new(tid, now, Relation::Unknown, unseen));
        let relation = self.threads.get(&tid).map_or(Relation::Unknown, |thread| thread.relation);
        let same = match (relation, seen) {
            (Relation::Inside(lock), Some(SeenRelation::Inside(other))) => lock == other,
            (Relation::Waiting(wait), Some(SeenRelation::Waiting(other))) => wait.lock == other,
            (Relation::Outside, Some(SeenRelation::Outside)) | (Relation::Unknown, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        self.leave_for_good(tid);
        match seen {
            Some(SeenRelation::Inside(lock)) => self.own(tid, lock),
            Some(SeenRelation::Waiting(lock)) => {
                self.lock(lock);
                self.begin_wait(tid, lock, Extent::Whole);
            }
            Some(SeenRelation::Outside) => self.set_relation(tid, Relation::Outside),
            None => self.set_relation(tid, Relation::Unknown),
        }
    }

    pub(super) fn on_owner_seen(&mut self, lock: LockId, owner: SeenOwner) {
        self.vacate(lock);
        self.charge_lock(lock);
        self.lock(lock).owner = match owner {
            SeenOwner::Nobody => Owner::Free,
            SeenOwner::Unknown => Owner::Unknown,
        };
    }

    pub(super) fn on_cpu_seen(&mut self, tid: Tid, sight: CpuSight) {
        let now = self.now;
        let unseen = Cpu::Unresolved(None);
        // One that takes no step with a lock is outside, if steps are taken.
        let relation = self.without_locks();
        self.threads.entry(tid).or_insert_with(|| ThreadAccount::new(tid, now, relation, unseen));
        self.with_thread(tid, |thread| thread.on_cpu_seen(sight));
    }

    /// Ends the thread's relation; what it owned is free, as looks tell that too.
    fn leave_for_good(&mut self, tid: Tid) {
        let owned = match self.threads.get(&tid).map(|thread| thread.relation) {
            Some(Relation::Inside(lock)) => Some(lock),
            _ => None,
        };
        self.leave_relation(tid);
        if let Some(lock) = owned {
            self.lock(lock).owner = Owner::Free;
        }
        self.set_relation(tid, Relation::Outside);
    }

    fn own(&mut self, tid: Tid, lock: LockId) {
        self.vacate(lock);
        self.charge_lock(lock);
        let now = self.now;
        self.lock(lock).open_hold((tid, now), Extent::Whole);
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.go_inside(lock);
        }
    }

    /// Whoever owns the lock as far as is known no longer does.
    fn vacate(&mut self, lock: LockId) {
        if let Owner::Held(hold) = &self.lock(lock).owner {
            let owner = hold.tid;
            self.leave_for_good(owner);
        }
    }

    fn set_relation(&mut self, tid: Tid, relation: Relation) {
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.relation = relation;
        }
    }
}

impl ThreadAccount {
    /// Time must have been charged up to this moment.
    fn on_cpu_seen(&mut self, sight: CpuSight) {
        self.cpu = Cpu::Sampled(sight.cpu);
        let place = match self.relation {
            Relation::Inside(_) => Place::Inside,
            Relation::Outside => Place::Outside,
            Relation::Waiting(_) => Place::Waiting,
            Relation::Unknown => Place::Unknown,
        };
        if self.giving_way.as_mut().is_some_and(|giving_way| !giving_way.may_be_seen(sight)) {
            self.rule_out_giving_way();
        }
        let mut share = self.cpu_share.take().unwrap_or_default();
        share.note(place, sight.cpu);
        if let Some(spent) = sight.spent {
            let Unresolved { inside, outside } = self.unresolved;
            if let Some(parts) = share.divide((inside, outside), sight.cpu, spent) {
                self.settle(parts);
            }
        }
        self.cpu_share = Some(share);
    }

    /// Divides what is left when no other reading will: the thread's account is closed, or switches tell from now on.
    pub(super) fn settle_last(&mut self) {
        let share = self.cpu_share.take().unwrap_or_default();
        match share.divide_last(self.unresolved.inside, self.unresolved.outside) {
            Some(parts) => self.settle(parts),
            None => self.resolve(Cpu::Lost),
        }
    }

    /// Books all time that was unresolved.
    fn settle(&mut self, [held, free]: [Parts; 2]) {
        const FREE: [State; 3] = [State::OutsideRunning, State::OutsidePreempted, State::OutsideBlocked];
        self.unresolved = Unresolved::default();
        for (state, time) in HELD.into_iter().zip(held).chain(FREE.into_iter().zip(free)) {
            self.times.add(state, time);
        }
        if let Some(giving_way) = &mut self.giving_way {
            giving_way.resolve_as(std::array::from_fn(|part| (FREE[part], free[part])));
        }
    }

    /// Notes time that is not divided by CPU but counts in what the kernel counts.
    pub(super) fn note_undivided(&mut self, place: Place, time: Nanos) {
        if let Some(share) = &mut self.cpu_share {
            match place {
                Place::Waiting => share.waiting += time,
                _ => share.unknown += time,
            }
        }
    }
}

/// Opened when the thread is first looked at.
pub(super) type OpenShare = Option<Box<CpuShare>>;

#[cfg(test)]
mod tests;
