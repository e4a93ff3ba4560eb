//! How things stand: what the books tell while the recording goes on.
//!
//! Nothing is charged to answer: what is told is as of the last event of the thread or lock in question.

use crate::{
    ledger::{
        Ledger, LedgerTally,
        relation::{Ownership, Relation},
        thread::{Cpu, ThreadAccount},
    },
    model::{
        event::{OffCpu, SeenCpu},
        ids::Tid,
        stack::StackId,
        time::{MonoNanos, Nanos},
    },
};

impl Ledger {
    /// The time up to which events have been booked.
    pub fn now(&self) -> MonoNanos {
        self.now
    }

    /// The counts so far.
    pub fn tally(&self) -> LedgerTally {
        self.tally
    }

    /// When the process executed another program, if it had done anything with a lock before: the books end there.
    pub fn replaced(&self) -> Option<MonoNanos> {
        self.replaced
    }

    /// The threads alive, in no particular order.
    pub fn live_threads(&self) -> impl Iterator<Item = Tid> + '_ {
        self.threads.keys().copied()
    }

    /// How long the threads alive have run so far, and how long they were runnable without a CPU.
    pub fn ran_and_delayed(&self) -> (Nanos, Nanos) {
        let sum = |of: fn(&ThreadAccount) -> Nanos| self.threads.values().map(of).sum();
        (sum(|thread| thread.ran), sum(|thread| thread.delayed))
    }

    /// Whether the thread waits for a lock and its stack has not been read since the wait began.
    pub fn awaits_stack(&self, tid: Tid) -> bool {
        let relation = self.threads.get(&tid).map(|thread| thread.relation);
        matches!(relation, Some(Relation::Waiting(wait)) if wait.stack.is_none())
    }

    /// Threads that own a lock for which others wait.
    pub fn contended_owners(&self) -> impl Iterator<Item = Tid> + '_ {
        self.locks.iter().filter(|lock| !lock.waiters.is_empty()).filter_map(|lock| match lock.ownership() {
            Ownership::By(owner) => Some(owner),
            Ownership::Free | Ownership::Unknown => None,
        })
    }

    /// The stack of a thread that waits, if it has been read: it stays the same as long as the wait.
    pub fn stack_of_wait(&self, tid: Tid) -> Option<StackId> {
        match self.threads.get(&tid)?.relation {
            // One whose reading has not ended by now may be that of a thread that has gone on meanwhile.
            Relation::Waiting(wait) => wait.stack.filter(|(_, until)| *until <= self.now).map(|(stack, _)| stack),
            Relation::Inside(_) | Relation::Outside | Relation::Unknown => None,
        }
    }

    /// Whether the thread has been asleep since its last booked event, as far as is known: its stack does not move.
    pub fn is_asleep(&self, tid: Tid) -> bool {
        let asleep = [Cpu::Off(OffCpu::Blocked), Cpu::Sampled(SeenCpu::Asleep)];
        self.threads.get(&tid).is_some_and(|thread| asleep.contains(&thread.cpu))
    }

    /// Whether the thread got a CPU and has not been seen to lose it.
    pub fn is_running(&self, tid: Tid) -> bool {
        self.threads.get(&tid).is_some_and(|thread| thread.cpu == Cpu::Running)
    }
}
