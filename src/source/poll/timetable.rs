//! When to look: at jittered moments of an absolute time table, so that the mean rate is kept. A look that comes late, because
//! the CPUs were busy, is taken all the same, and counts for the time around it.

use std::time::Duration;

use crate::{
    model::time::{MonoNanos, Nanos},
    perf::{clock, jitter::Jitter},
};

/// Looking takes at most a fifth of a CPU: beyond, looks become rarer.
const REST: u64 = 4;

/// The times of looks.
#[derive(Debug)]
pub(super) struct Timetable {
    period: Nanos,
    next: MonoNanos,
    jitter: Jitter,
}

impl Timetable {
    /// The first look is due now.
    pub(super) fn new(period: Nanos) -> Self {
        let now = clock::now();
        Self { period, next: now, jitter: Jitter::seeded(now) }
    }

    /// How long until the next look, after one that took `cost` of CPU time.
    pub(super) fn until_next(&mut self, cost: Nanos) -> Duration {
        let now = clock::now();
        let rested = now.later_by(Nanos::from_nanos(cost.as_nanos().saturating_mul(REST)));
        let planned = self.next.later_by(self.jitter.around(self.period));
        // One that is late does not make the next ones crowd together.
        self.next = planned.max(now.earlier_by(self.period));
        if rested > now.later_by(self.period) {
            self.next = self.next.max(rested);
        }
        Duration::from_nanos(self.next.saturating_since(now).as_nanos())
    }
}
