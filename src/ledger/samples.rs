//! Stacks that were read, filed under what their thread was doing at that moment.

use crate::{
    ledger::{
        Ledger,
        lock::Owner,
        relation::{Ownership, Relation, Wait},
    },
    model::{
        event::{SampleCause, StackSample},
        ids::{LockId, Tid},
        stack::StackId,
        time::MonoNanos,
    },
};

impl Ledger {
    pub(super) fn on_stack(&mut self, tid: Tid, sample: StackSample) {
        let Some(stack) = sample.stack else {
            self.tally.stack_failures += 1;
            return;
        };
        match sample.cause {
            SampleCause::WaitBegan => self.on_wait_stack(tid, stack, sample.until),
            SampleCause::Tick => self.on_tick(tid, stack),
            SampleCause::Contended => self.on_holder_stack(tid, stack),
            SampleCause::OwnerSampled => self.on_owner_stack(tid, stack),
            SampleCause::AtRelease => self.on_release_stack(tid, stack),
        }
    }

    /// The owner of the lock that `waiter` waits for had this stack at this moment.
    fn on_holder_stack(&mut self, waiter: Tid, stack: StackId) {
        let relation = self.threads.get(&waiter).map(|thread| thread.relation);
        if let Some(Relation::Waiting(Wait { lock: id, .. })) = relation {
            self.tally.stack_samples += 1;
            self.read_owner(id, stack);
        }
    }

    /// `owner` had this stack at this moment; it may have lost its lock just before.
    fn on_owner_stack(&mut self, owner: Tid, stack: StackId) {
        let relation = self.threads.get(&owner).map(|thread| thread.relation);
        if let Some(Relation::Inside(id)) = relation {
            self.tally.stack_samples += 1;
            self.read_owner(id, stack);
        }
    }

    fn read_owner(&mut self, id: LockId, stack: StackId) {
        self.charge_lock(id);
        if let Some(lock) = self.locks.iter_mut().find(|lock| lock.id == id && !lock.waiters.is_empty()) {
            lock.read_owner(stack, &mut self.blame);
        }
    }

    fn on_wait_stack(&mut self, tid: Tid, stack: StackId, read_until: MonoNanos) {
        let thread = self.threads.get_mut(&tid);
        match thread.map(|thread| &mut thread.relation) {
            Some(Relation::Waiting(wait)) if wait.stack.is_none() => {
                wait.stack = Some((stack, read_until));
                self.tally.stack_samples += 1;
            }
            // The wait was over before its stack was read.
            _ => {}
        }
    }

    /// What an owner does at the end of its hold stands in for what it did during it, where no tick says more.
    fn on_release_stack(&mut self, tid: Tid, stack: StackId) {
        let now = self.now;
        let held = self.locks.iter_mut().find_map(|lock| match &mut lock.owner {
            Owner::Held(hold) if hold.tid == tid => Some((lock.id, lock.waiters_read, hold, &lock.waiters)),
            _ => None,
        });
        if let Some((lock, waiters_read, hold, waiters)) = held {
            self.tally.stack_samples += 1;
            hold.at_release = Some(stack);
            // Where waiters read their owner's stack, it is weighed with those readings when the hold is over.
            if !waiters_read {
                self.blame.release((lock, tid), waiters, stack, now.saturating_since(hold.began));
            }
        }
    }

    fn on_tick(&mut self, tid: Tid, stack: StackId) {
        self.parking.on_sampled(tid, stack);
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        self.tally.stack_samples += 1;
        let lock = match thread.relation {
            Relation::Waiting(wait) => self.locks.iter_mut().find(|lock| lock.id == wait.lock),
            Relation::Inside(id) => self.locks.iter_mut().find(|lock| lock.id == id),
            Relation::Outside | Relation::Unknown => None,
        };
        let ownership = lock.as_ref().map_or(Ownership::Unknown, |lock| lock.ownership());
        if let Some(state) = thread.state(ownership).or_else(|| thread.likely_state()) {
            let of = lock.as_ref().map(|lock| lock.id);
            *thread.ticks.entry(state).or_default().entry((stack, of)).or_default() += 1;
        }
        if let (Relation::Inside(_), Some(lock)) = (thread.relation, lock) {
            self.blame.sample(lock.id, tid, &lock.waiters, stack);
            if lock.waiters_read && !lock.waiters.is_empty() {
                let id = lock.id;
                self.read_owner(id, stack);
            } else if let Owner::Held(hold) = &mut lock.owner {
                hold.seen.add(stack);
            }
        }
    }
}
