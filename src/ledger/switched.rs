//! What switches tell: when a thread got its CPU and when it lost it, what the time before the first of them was, and which
//! part of its sleeps the kernel counts as run delay.
//!
//! Invariant: what a switch tells names time that has been charged, and adds none.

use crate::{
    ledger::{
        Ledger,
        giving_way::{Contention, GivingWay},
        relation::Relation,
        run_delay::RunDelayAccount,
        thread::{Cpu, ThreadAccount, Unresolved},
    },
    model::{
        counts::Counter,
        event::{OffCpu, SeenCpu},
        ids::Tid,
        state::State,
        time::Nanos,
    },
};

impl Ledger {
    pub(super) fn on_switched_in(&mut self, tid: Tid) {
        let wanted = match self.threads.get(&tid).map(|thread| thread.relation) {
            Some(Relation::Waiting(wait)) => Some(wait.lock),
            _ => None,
        };
        let lock = wanted.and_then(|wanted| self.locks.iter().find(|lock| lock.id == wanted));
        let interval = lock.and_then(|lock| lock.shortest_slice);
        self.with_thread(tid, |thread| thread.on_switched_in(interval));
    }

    pub(super) fn on_switched_out(&mut self, tid: Tid, why: OffCpu) {
        let contention = self.contention(tid);
        self.on_happened(tid, Counter::ContextSwitches, 1);
        self.with_thread(tid, |thread| thread.on_switched_out(why, contention));
    }

    /// Who may keep the mutexes locked of the lock that the thread has released last.
    fn contention(&mut self, tid: Tid) -> Contention {
        let released = self.threads.get(&tid).and_then(|thread| thread.giving_way.as_ref());
        let lock = released.and_then(|giving_way| self.locks.iter().find(|lock| lock.id == giving_way.lock));
        let Some(step) = lock.and_then(|lock| lock.last_step) else {
            return Contention::None;
        };
        if step.by == tid {
            return Contention::Approaching;
        }
        self.charge_thread(step.by);
        let ran = self.threads.get(&step.by).map(|thread| thread.ran.saturating_sub(step.ran));
        if ran.is_some_and(|ran| ran <= self.options.giving_way.step) { Contention::Stepping } else { Contention::None }
    }
}

impl ThreadAccount {
    /// The thread got a CPU; time must have been charged up to this moment. `interval`: how long a waiter sleeps at the
    /// most.
    fn on_switched_in(&mut self, interval: Option<Nanos>) {
        match self.cpu {
            Cpu::Unresolved(Some(SeenCpu::Runnable)) => {
                self.resolve(Cpu::Off(OffCpu::Preempted));
                // The counter grows by all of the preemption, of which only a part was seen.
                self.run_delay = RunDelayAccount::default();
            }
            Cpu::Unresolved(Some(SeenCpu::Asleep)) => self.end_first_sleep(),
            Cpu::Unresolved(None) => self.resolve(Cpu::Lost),
            Cpu::Off(OffCpu::Blocked) => self.end_sleep(interval),
            Cpu::Off(OffCpu::Preempted) => self.run_delay.end_preemption(),
            Cpu::Sampled(_) => self.settle_last(),
            Cpu::Running | Cpu::Lost => {}
        }
        self.cpu = Cpu::Running;
    }

    /// The thread lost its CPU; time must have been charged up to this moment. `contention` tells whether a sleep can be
    /// for the mutexes of the lock that it has released last.
    fn on_switched_out(&mut self, why: OffCpu, contention: Contention) {
        match self.cpu {
            Cpu::Unresolved(_) => self.resolve(Cpu::Running),
            // It has a CPU now; for how much of the time since the last reading it had one, this does not tell.
            Cpu::Sampled(_) => self.settle_last(),
            Cpu::Running | Cpu::Off(_) | Cpu::Lost => {}
        }
        let goes_on = |giving_way: &mut GivingWay| why == OffCpu::Preempted || giving_way.may_sleep(contention);
        if !self.giving_way.as_mut().is_none_or(goes_on) {
            self.rule_out_giving_way();
        }
        self.cpu = Cpu::Off(why);
        self.run_delay.leave_cpu();
    }

    /// Switches are missing from this moment on.
    pub(super) fn on_switches_lost(&mut self) {
        match self.cpu {
            Cpu::Unresolved(_) => self.resolve(Cpu::Lost),
            // Readings of the kernel's counters have told of the time before, whatever switches are missing.
            Cpu::Sampled(_) => self.settle_last(),
            Cpu::Running | Cpu::Off(_) | Cpu::Lost => {}
        }
        self.cpu = Cpu::Lost;
        self.counts.on_lost();
        self.giving_way = None;
        self.run_delay = RunDelayAccount::default();
    }

    /// The kernel's cumulative count of time runnable without a CPU: what exceeds the preemptions seen was wake-up
    /// latency at the end of sleeps, and moves from blocked to preempted.
    pub(super) fn on_run_delay(&mut self, cumulative: Nanos) {
        let suspended = self.giving_way.as_mut().map(GivingWay::take_sleeps).unwrap_or_default();
        let latency = self.run_delay.on_reading(cumulative, suspended);
        self.delayed += latency.held + latency.outside + latency.giving_way;
        self.times.shift(State::HeldBlocked, State::HeldPreempted, latency.held);
        self.times.shift(State::OutsideBlocked, State::OutsidePreempted, latency.outside + latency.giving_way);
        if let Some(giving_way) = &mut self.giving_way {
            giving_way.outside.shift(State::OutsideBlocked, State::OutsidePreempted, latency.giving_way);
        }
    }

    /// Resolves whatever the end of the recording leaves open: a thread that never switched stayed what it was.
    pub(super) fn resolve_at_end(&mut self) {
        match self.cpu {
            Cpu::Unresolved(Some(SeenCpu::Runnable)) => self.resolve(Cpu::Running),
            Cpu::Unresolved(Some(SeenCpu::Asleep)) => self.resolve(Cpu::Off(OffCpu::Blocked)),
            Cpu::Unresolved(None) => self.resolve(Cpu::Lost),
            Cpu::Sampled(_) => self.settle_last(),
            Cpu::Running | Cpu::Off(_) | Cpu::Lost => {}
        }
    }

    pub(super) fn resolve(&mut self, cpu: Cpu) {
        let Unresolved { inside, outside } = std::mem::take(&mut self.unresolved);
        let (held, free) = match cpu {
            Cpu::Running => (State::HeldRunning, State::OutsideRunning),
            Cpu::Off(OffCpu::Preempted) => (State::HeldPreempted, State::OutsidePreempted),
            Cpu::Off(OffCpu::Blocked) => (State::HeldBlocked, State::OutsideBlocked),
            Cpu::Lost | Cpu::Unresolved(_) | Cpu::Sampled(_) => (State::Unknown, State::Unknown),
        };
        self.times.add(held, inside);
        self.times.add(free, outside);
        if held == State::Unknown {
            self.undivided.inside += inside;
            self.undivided.outside += outside;
        }
        if let Some(giving_way) = &mut self.giving_way {
            giving_way.resolve(free);
        }
    }

    fn end_sleep(&mut self, interval: Option<Nanos>) {
        let slept = self.run_delay.end_sleep();
        if !self.giving_way.as_mut().is_none_or(|giving_way| giving_way.may_have_slept(slept)) {
            self.rule_out_giving_way();
        }
        match (self.relation, &mut self.giving_way) {
            (Relation::Inside(_), _) => self.run_delay.held.add_one(slept),
            (Relation::Waiting(_), _) => self.run_delay.end_slice(slept, interval),
            (Relation::Unknown, _) => self.run_delay.unsplit.add_one(slept),
            (Relation::Outside, Some(giving_way)) => giving_way.sleeps.add_one(slept),
            (Relation::Outside, None) => self.run_delay.outside.add_one(slept),
        }
    }

    /// The thread slept when it was first seen, and has been woken: that sleep had a latency, too.
    fn end_first_sleep(&mut self) {
        let Unresolved { inside, outside } = self.unresolved;
        self.resolve(Cpu::Off(OffCpu::Blocked));
        match self.relation {
            Relation::Inside(_) => self.run_delay.held.add_one(inside),
            Relation::Outside => self.run_delay.outside.add_one(outside),
            Relation::Waiting(_) | Relation::Unknown => {
                self.run_delay.unsplit.add_one(self.charged_until.saturating_since(self.first_seen));
            }
        }
    }
}

#[cfg(test)]
mod tests;
