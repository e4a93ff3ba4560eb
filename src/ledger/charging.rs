//! Time is charged up to now before anything changes: to a thread, to a lock, and to those who have released it and may want
//! it back.
//!
//! Invariant: whatever is charged has been what it is all the time since it was charged last.

use crate::{
    ledger::{
        Ledger,
        relation::{Ownership, Relation},
        thread::ThreadAccount,
    },
    model::{
        ids::{LockId, Tid},
        time::Nanos,
    },
};

impl Ledger {
    pub(super) fn with_thread(&mut self, tid: Tid, then: impl FnOnce(&mut ThreadAccount)) {
        self.charge_thread(tid);
        if let Some(thread) = self.threads.get_mut(&tid) {
            then(thread);
        }
    }

    /// Charges one thread's time up to now.
    pub(super) fn charge_thread(&mut self, tid: Tid) {
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        let wanted = match thread.relation {
            Relation::Waiting(wait) => Some(wait.lock),
            Relation::Inside(_) | Relation::Outside | Relation::Unknown => {
                thread.giving_way.as_ref().map(|giving_way| giving_way.lock)
            }
        };
        let lock = wanted.and_then(|wanted| self.locks.iter_mut().find(|lock| lock.id == wanted));
        match (thread.relation, lock) {
            (Relation::Waiting(_), Some(lock)) => {
                // Held without a waiter it cannot have been: this one waits.
                lock.charge(self.now);
                thread.charge_wait(self.now, lock.ownerships);
            }
            (_, lock) => thread.charge(self.now, lock.map_or(Ownership::Unknown, |lock| lock.ownership())),
        }
    }

    /// Charges a lock up to now; called before its owner or its waiters change. Those who wait are charged when their own
    /// next event comes, so that a step costs the same however many they are.
    pub(super) fn charge_lock(&mut self, id: LockId) {
        let Some(index) = self.locks.iter().position(|lock| lock.id == id) else {
            return;
        };
        let lock = &mut self.locks[index];
        let alone = lock.charge(self.now);
        let ownership = lock.ownership();
        self.charge_givers(index, ownership, alone);
    }

    /// Charges the owner of a lock with the waits for it; called before the owner changes, or the wait of one ends.
    pub(super) fn blame_owner(&mut self, id: LockId) {
        if let Some(lock) = self.locks.iter_mut().find(|lock| lock.id == id) {
            lock.blame_owner(&mut self.blame);
        }
    }

    /// Charges the threads that have released the lock and may want it back; `alone` is how long nobody else waited.
    fn charge_givers(&mut self, index: usize, ownership: Ownership, mut alone: Nanos) {
        let lock = &mut self.locks[index];
        let (id, now, threads) = (lock.id, self.now, &mut self.threads);
        lock.givers.retain(|giver| {
            let Some(thread) = threads.get_mut(giver).filter(|thread| thread.gives_way_on(id)) else {
                return false;
            };
            thread.charge(now, ownership);
            if let Some(giving_way) = &mut thread.giving_way {
                giving_way.note_alone(std::mem::take(&mut alone));
            }
            true
        });
    }
}
