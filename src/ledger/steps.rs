//! The lock steps: every relation of a thread meets every step here, legal or not.

use crate::{
    ledger::{
        Ledger,
        giving_way::GivingWay,
        lock::{Closed, LastStep, Owner},
        relation::{Relation, Wait},
        thread::{Cpu, ThreadAccount},
        windows::Extent,
    },
    model::{
        event::LockStep,
        ids::{LockId, Tid},
        profile::LongHold,
        state::State,
        time::Nanos,
    },
};

impl Ledger {
    pub(super) fn on_lock_step(&mut self, tid: Tid, lock: LockId, step: LockStep) {
        self.lock(lock);
        if !self.windows.take_events() {
            return self.count_late(tid, lock, step);
        }
        let first_relation = match step {
            LockStep::Released => Relation::Unknown,
            LockStep::Want | LockStep::Acquired | LockStep::Yielded => Relation::Outside,
        };
        self.thread(tid, first_relation);
        self.charge_thread(tid);
        self.lossy.remove(&tid);
        let before = self.relation(tid);
        self.note_probe(lock, step);
        match step {
            LockStep::Want => self.on_want(tid, lock),
            LockStep::Acquired => self.on_acquired(tid, lock),
            LockStep::Released => self.on_released(tid, lock),
            LockStep::Yielded => self.on_yielded(tid, lock),
        }
        let half = Nanos::from_nanos(self.event_cost.as_nanos() / 2);
        let mut ran = Nanos::ZERO;
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.note_probe(before, half);
            ran = thread.ran;
        }
        self.lock(lock).last_step = Some(LastStep { by: tid, ran });
    }

    /// The step was taken just after the window had ended: it is one, and tells nothing.
    fn count_late(&mut self, tid: Tid, id: LockId, step: LockStep) {
        let waits_on = match step {
            LockStep::Want => !self.windows.late_waits.insert(tid),
            LockStep::Acquired => self.windows.late_waits.remove(&tid),
            LockStep::Released | LockStep::Yielded => false,
        };
        let late = &mut self.lock(id).late;
        late.holds += u64::from(step == LockStep::Acquired);
        late.waits += u64::from(step == LockStep::Want && !waits_on);
    }

    /// What the probe has taken of the lock's time: a hold has half of one at its beginning and half of one at its end, and so
    /// does a wait.
    fn note_probe(&mut self, id: LockId, step: LockStep) {
        let cost = self.event_cost;
        let lock = self.lock(id);
        lock.ownerships.probed += cost;
        let waiters = lock.waiters.len();
        lock.probed.waited += cost.times(waiters);
        if step == LockStep::Acquired {
            lock.probed.held += cost;
            lock.probed.contended += if waiters > 0 { cost } else { Nanos::ZERO };
        }
    }

    pub(super) fn relation(&self, tid: Tid) -> Relation {
        self.threads.get(&tid).map_or(Relation::Unknown, |thread| thread.relation)
    }

    fn on_want(&mut self, tid: Tid, lock: LockId) {
        match self.relation(tid) {
            Relation::Waiting(wait) if wait.lock == lock => self.on_slice(tid, wait),
            Relation::Outside | Relation::Unknown => {
                if !self.resume_wait(tid, lock) {
                    self.begin_wait(tid, lock, Extent::Whole);
                }
                self.note_slice(tid);
            }
            // It wants one lock while it is known to wait for or own another, or already owns this one.
            Relation::Waiting(_) | Relation::Inside(_) => {
                self.tally.unmatched += 1;
                self.leave_relation(tid);
                self.begin_wait(tid, lock, Extent::Whole);
            }
        }
    }

    /// The next slice of a wait that is already counted.
    fn on_slice(&mut self, tid: Tid, wait: Wait) {
        let now = self.now;
        if let Some(slept_since) = wait.last_slice {
            self.lock(wait.lock).on_slice(slept_since, now);
        }
        self.note_slice(tid);
    }

    fn note_slice(&mut self, tid: Tid) {
        let now = self.now;
        if let Some(ThreadAccount { relation: Relation::Waiting(wait), .. }) = self.threads.get_mut(&tid) {
            wait.last_slice = Some(now);
        }
    }

    fn on_yielded(&mut self, tid: Tid, lock: LockId) {
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        match (&mut thread.giving_way, thread.relation) {
            (Some(giving_way), _) if giving_way.lock == lock => giving_way.on_yielded(),
            // It gives way without having released, as far as is known: whatever it owned, it no longer does.
            (_, Relation::Inside(_)) => {
                self.tally.unmatched += 1;
                self.leave_relation(tid);
            }
            (_, Relation::Outside | Relation::Unknown | Relation::Waiting(_)) => {}
        }
    }

    /// If the thread's last release was forced, its wait began at that release: makes it so and says whether it did.
    fn resume_wait(&mut self, tid: Tid, lock: LockId) -> bool {
        self.charge_lock(lock);
        let ownerships = self.lock(lock).ownerships;
        let Some(thread) = self.threads.get_mut(&tid) else {
            return false;
        };
        if !thread.giving_way.as_ref().is_some_and(|it| it.lock == lock && it.was_forced()) {
            thread.rule_out_giving_way();
        }
        let Some(giving_way) = thread.giving_way.take() else {
            return false;
        };
        thread.relation = Relation::Waiting(thread.wait_since_release(&giving_way, ownerships));
        for (pair, time) in giving_way.blame(tid) {
            self.blame.charge(pair, time);
        }
        let account = self.lock(lock);
        giving_way.confirm(account);
        account.add_waiter(tid);
        account.wanted += 1;
        true
    }

    fn on_acquired(&mut self, tid: Tid, lock: LockId) {
        match self.relation(tid) {
            Relation::Waiting(wait) if wait.lock == lock => self.end_wait(tid, wait),
            Relation::Outside | Relation::Unknown => {
                if self.resume_wait(tid, lock)
                    && let Relation::Waiting(wait) = self.relation(tid)
                {
                    self.end_wait(tid, wait);
                }
            }
            // It acquires one lock while it is known to wait for or own another, or already owns this one.
            Relation::Waiting(_) | Relation::Inside(_) => {
                self.tally.unmatched += 1;
                self.leave_relation(tid);
            }
        }
        if matches!(&self.lock(lock).owner, Owner::Held(_)) {
            // Two owners at once: whatever the other one did since is not known.
            self.tally.unmatched += 1;
            self.doubt_owner(lock);
        }
        self.charge_lock(lock);
        let now = self.now;
        let account = self.lock(lock);
        account.open_hold((tid, now), Extent::Whole);
        account.acquired += 1;
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.go_inside(lock);
        }
    }

    fn on_released(&mut self, tid: Tid, lock: LockId) {
        match self.relation(tid) {
            Relation::Inside(held) if held == lock => self.end_hold(tid, lock),
            // The release is the first that is heard of this hold; its beginning stays unknown.
            Relation::Unknown if matches!(self.lock(lock).owner, Owner::Unknown) => {
                self.charge_lock(lock);
                self.lock(lock).owner = self.owner_after_release();
                self.set_outside(tid);
            }
            Relation::Unknown => {
                self.tally.unmatched += 1;
                self.set_outside(tid);
            }
            // It releases what it does not own: legal in free-threaded builds, evidence of nothing.
            Relation::Outside | Relation::Waiting(_) | Relation::Inside(_) => self.tally.unmatched += 1,
        }
    }

    /// The thread was seen to own the lock when the recording began.
    pub(super) fn seed_owner(&mut self, tid: Tid, lock: LockId) {
        if !matches!(self.lock(lock).owner, Owner::Unknown) {
            return;
        }
        self.charge_lock(lock);
        let (now, extent) = (self.now, self.windows.extent_of_found());
        self.lock(lock).open_hold((tid, now), extent);
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.go_inside(lock);
        }
    }

    /// The lock was seen free when the recording or a window began; no event has contradicted it.
    pub fn seed_free(&mut self, lock: LockId) {
        // A window may be over before all is seen that was looked at for its beginning.
        if matches!(self.lock(lock).owner, Owner::Unknown) && self.windows.take_events() {
            self.charge_lock(lock);
            self.lock(lock).owner = Owner::Free;
        }
    }

    pub(super) fn begin_wait(&mut self, tid: Tid, lock: LockId, extent: Extent) {
        self.charge_lock(lock);
        let account = self.lock(lock);
        account.add_waiter(tid);
        account.wanted += u64::from(extent == Extent::Whole);
        let seen = account.ownerships;
        let began = self.now;
        if let Some(thread) = self.threads.get_mut(&tid) {
            let (queued, handoff) = (Nanos::ZERO, Nanos::ZERO);
            let wait = Wait { lock, began, extent, queued, handoff, seen, last_slice: None, stack: None };
            thread.rule_out_giving_way();
            thread.relation = Relation::Waiting(wait);
        }
    }

    fn end_wait(&mut self, tid: Tid, wait: Wait) {
        self.charge_lock(wait.lock);
        self.blame_owner(wait.lock);
        let now = self.now;
        let lock = self.lock(wait.lock);
        lock.remove_waiter(tid);
        lock.close_wait(now.saturating_since(wait.began), wait.extent);
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        // Charging just now may have lengthened the wait's parts.
        if let Relation::Waiting(wait) = thread.relation {
            thread.close_wait(wait, now, wait.extent);
        }
        thread.relation = Relation::Outside;
    }

    fn end_hold(&mut self, tid: Tid, id: LockId) {
        self.charge_lock(id);
        self.blame_owner(id);
        let (now, limits) = (self.now, self.options.giving_way);
        let Some(closed) = self.lock(id).close_hold(now) else {
            return;
        };
        self.list_if_long(id, &closed);
        self.lock(id).owner = self.owner_after_release();
        self.lock(id).givers.push(tid);
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.holds += u64::from(closed.hold.extent == Extent::Whole);
            let giving_way = GivingWay::new((id, now), closed.hold.request, closed.stack, limits);
            thread.counts.on_released();
            thread.events.on_released();
            let looked_at = matches!(thread.cpu, Cpu::Sampled(_));
            thread.giving_way = Some(if looked_at { giving_way.looked_at() } else { giving_way });
        }
        self.set_outside(tid);
    }

    pub(super) fn list_if_long(&mut self, id: LockId, closed: &Closed) {
        let Closed { hold, length, stack } = closed;
        if *length < self.options.long_hold {
            return;
        }
        self.lock(id).long_holds += 1;
        if !self.long_holds.admits(*length) {
            return;
        }
        let known = self.threads.get(&hold.tid).map(ThreadAccount::held_states).unwrap_or_default();
        let mut states = known;
        // What the kernel counts as latency only after a while may be that of a sleep in an earlier hold.
        states.take(State::HeldPreempted, known.total().saturating_sub(*length));
        states.add(State::Unknown, length.saturating_sub(known.total()));
        self.long_holds.enter(LongHold {
            lock: id,
            tid: hold.tid,
            start: hold.began.saturating_since(self.options.start),
            duration: *length,
            states,
            waiters: hold.waiters,
            waited: hold.waited,
            stack: stack.unwrap_or(self.options.no_stack),
        });
    }

    /// Nobody, unless a thread whose events are missing may have taken the lock meanwhile.
    fn owner_after_release(&self) -> Owner {
        if self.lossy.is_empty() { Owner::Free } else { Owner::Unknown }
    }

    /// Ends whatever relation the thread has to a lock, because it ended or because events are missing. A hold is then
    /// over, but who owns the lock next is not known.
    pub(super) fn leave_relation(&mut self, tid: Tid) {
        self.charge_thread(tid);
        match self.relation(tid) {
            Relation::Waiting(wait) => self.end_wait(tid, wait),
            Relation::Inside(lock) => {
                self.end_hold(tid, lock);
                self.lock(lock).owner = Owner::Unknown;
            }
            Relation::Outside | Relation::Unknown => {}
        }
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.rule_out_giving_way();
        }
    }

    /// Forgets who owns the lock: the present owner's relation becomes unknown with it.
    pub(super) fn doubt_owner(&mut self, lock: LockId) {
        let Owner::Held(hold) = &self.lock(lock).owner else {
            self.charge_lock(lock);
            self.lock(lock).owner = Owner::Unknown;
            return;
        };
        let owner = hold.tid;
        self.leave_relation(owner);
        if let Some(thread) = self.threads.get_mut(&owner) {
            thread.relation = Relation::Unknown;
        }
    }

    fn set_outside(&mut self, tid: Tid) {
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.relation = Relation::Outside;
        }
    }
}
