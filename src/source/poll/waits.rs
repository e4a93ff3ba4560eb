//! The waits for PyPy's lock, exactly: whoever does not get the lock at once queues at a mutex of libc, and unlocks it when he
//! has the lock. Neither happens otherwise.
//!
//! Uprobes on `pthread_mutex_lock`, `pthread_mutex_unlock` and `pthread_cond_signal` see every call of them; those with another
//! argument are dropped here. Where programs cannot be put at libc's calls, there are none, and waits are told by looks.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use crate::{
    model::{
        counts::Counters,
        event::{Event, LockStep, What},
        ids::Tid,
        time::MonoNanos,
    },
    source::{
        Source, Tally,
        calls::{StepReport, Verdict},
        scheduler::Scope,
        uprobe::{UprobeOptions, UprobeSource, cost::measure_cost, error::UprobeError, sweep::Sweeper},
    },
    target::{
        discover::Target,
        libc::{LibcError, queue_sites},
        lock::LockSeat,
    },
};

/// Why waits cannot be taken exactly.
#[derive(Debug, thiserror::Error)]
pub enum WaitsError {
    /// There is no lock with such a queue.
    #[error("the lock has no queue whose calls could be seen")]
    NoQueue,
    /// No place for probes was found.
    #[error(transparent)]
    Sites(#[from] LibcError),
    /// Uprobes could not be armed.
    #[error(transparent)]
    Uprobe(#[from] UprobeError),
}

/// A step of a thread that waits or has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaitStep {
    pub(super) at: MonoNanos,
    pub(super) tid: Tid,
    /// Want: it queues. Yielded: it has given way and queues next. Acquired: it has got the lock.
    pub(super) step: LockStep,
}

/// Takes the steps of one target.
#[derive(Debug)]
pub struct ExactWaits {
    source: UprobeSource,
    arrived: Rc<RefCell<Vec<WaitStep>>>,
    steps: VecDeque<WaitStep>,
    events: Vec<Event>,
    complete_until: MonoNanos,
}

impl ExactWaits {
    /// Arms probes on a target whose only lock is `seat`.
    pub fn arm(target: &Target, seat: LockSeat) -> Result<Self, WaitsError> {
        if !seat.is_queued_for_by(LockStep::Want, seat.switch_cond()) {
            return Err(WaitsError::NoQueue);
        }
        let arrived = Rc::new(RefCell::new(Vec::new()));
        let sweeper = Sweeper::this_program();
        let shared = Rc::clone(&arrived);
        let mut source = UprobeSource::arm(UprobeOptions {
            pid: target.pid,
            scope: Scope::Running,
            sites: queue_sites(target.pid)?,
            events: &[],
            on_call: Box::new(|_, _| Verdict::Foreign),
            on_step: Box::new(move |StepReport { at, tid, lock, step }, _| {
                if !seat.is_queued_for_by(step, lock) {
                    return Verdict::Foreign;
                }
                shared.borrow_mut().push(WaitStep { at, tid, step });
                Verdict::Known
            }),
            cost_per_event: measure_cost(&sweeper, &[]).ok(),
            sweeper,
        })?;
        // Only its steps are of use here.
        source.count(Counters::default());
        let complete_until = MonoNanos::from_monotonic(0);
        Ok(Self { source, arrived, steps: VecDeque::new(), events: Vec::new(), complete_until })
    }

    /// Takes what has arrived; events that were lost go to `lost`.
    pub(super) fn drain(&mut self, now: MonoNanos, lost: &mut Vec<Event>) {
        self.complete_until = self.source.drain(now, &mut self.events);
        self.sort_in(lost);
    }

    /// Disarms the probes, and takes what is left.
    pub(super) fn finish(&mut self, lost: &mut Vec<Event>) {
        self.source.finish(&mut self.events);
        self.complete_until = MonoNanos::from_monotonic(u64::MAX);
        self.sort_in(lost);
    }

    fn sort_in(&mut self, lost: &mut Vec<Event>) {
        // Scheduling is told by looks.
        lost.extend(self.events.drain(..).filter(|event| matches!(event.what, What::LostLock(_))));
        self.steps.extend(self.arrived.borrow_mut().drain(..));
        self.steps.make_contiguous().sort_by_key(|step| step.at);
    }

    /// Up to when all steps have arrived.
    pub(super) fn complete_until(&self) -> MonoNanos {
        self.complete_until
    }

    /// The steps before `moment` that were not taken yet, in order of time.
    pub(super) fn until(&mut self, moment: MonoNanos) -> Vec<WaitStep> {
        let earlier = self.steps.partition_point(|step| step.at < moment);
        self.steps.drain(..earlier).collect()
    }

    pub(super) fn tally(&self) -> Tally {
        self.source.tally()
    }
}
