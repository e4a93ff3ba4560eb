//! Threads come and go: they are created or found, execute another program, and end.
//!
//! Invariant: an id has one account at a time; one that is used again is another thread's.

use crate::{
    ledger::{
        Ledger,
        close::ClosedThread,
        lock::Owner,
        relation::Relation,
        thread::{Cpu, ThreadAccount},
    },
    model::{
        event::{OffCpu, SeenCpu, SeenRelation, Sighting},
        ids::Tid,
    },
};

impl Ledger {
    /// The account of `tid`, opened with `relation` if this is the first that is heard of it.
    pub(super) fn thread(&mut self, tid: Tid, relation: Relation) -> &mut ThreadAccount {
        let now = self.now;
        self.threads.entry(tid).or_insert_with(|| ThreadAccount::new(tid, now, relation, Cpu::Unresolved(None)))
    }

    pub(super) fn on_created(&mut self, tid: Tid) {
        self.on_exited(tid);
        let cpu = Cpu::Off(OffCpu::Preempted);
        let relation = self.without_locks();
        self.threads.insert(tid, ThreadAccount::new(tid, self.now, relation, cpu));
    }

    pub(super) fn on_seen(&mut self, tid: Tid, sighting: Sighting) {
        self.charge_thread(tid);
        let now = self.now;
        let unresolved = Cpu::Unresolved(sighting.cpu);
        let thread =
            self.threads.entry(tid).or_insert_with(|| ThreadAccount::new(tid, now, Relation::Unknown, unresolved));
        if thread.cpu == Cpu::Unresolved(None) {
            thread.cpu = unresolved;
        }
        // It has been woken and has not run since. Asleep it may have waited for a lock.
        let woken = sighting.cpu == Some(SeenCpu::Runnable) && thread.cpu == Cpu::Off(OffCpu::Blocked);
        if thread.relation == Relation::Unknown && self.windows.take_events() {
            match sighting.relation {
                Some(SeenRelation::Outside) if woken => {}
                Some(SeenRelation::Inside(lock)) => self.seed_owner(tid, lock),
                Some(SeenRelation::Waiting(lock)) => self.begin_wait(tid, lock, self.windows.extent_of_found()),
                Some(SeenRelation::Outside) => thread.relation = Relation::Outside,
                None => {}
            }
            // What it did before, unseen, has left nothing in doubt any more.
            if self.relation(tid) != Relation::Unknown {
                self.lossy.remove(&tid);
            }
        }
    }

    pub(super) fn on_exited(&mut self, tid: Tid) {
        self.parking.on_exited(tid, self.now);
        if let Some(thread) = self.close_thread(tid) {
            self.ended.enter(thread);
        }
    }

    /// What the thread did with locks of its old program is over; nobody owns them any more.
    pub(super) fn on_executed(&mut self, tid: Tid) {
        if self.locks.iter().any(|lock| lock.last_step.is_some()) {
            self.replaced = Some(self.now);
        }
        self.leave_relation(tid);
        let relation = self.without_locks();
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.relation = relation;
        }
        self.lossy.clear();
        if !self.windows.take_events() {
            return;
        }
        for index in 0..self.locks.len() {
            let id = self.locks[index].id;
            self.charge_lock(id);
            if matches!(self.locks[index].owner, Owner::Unknown) {
                self.locks[index].owner = Owner::Free;
            }
        }
    }

    /// The relation of a thread that has had nothing to do with locks so far.
    pub(super) fn without_locks(&self) -> Relation {
        if self.windows.take_events() { Relation::Outside } else { Relation::Unknown }
    }

    pub(super) fn close_thread(&mut self, tid: Tid) -> Option<ClosedThread> {
        self.leave_relation(tid);
        self.lossy.remove(&tid);
        let mut thread = self.threads.remove(&tid)?;
        thread.resolve_at_end();
        self.events.absorb(std::mem::take(&mut thread.events));
        self.windows.end_thread(&thread);
        Some(ClosedThread::new(thread, self.options.no_stack))
    }
}
