//! Where a thread's run-queue delay belongs: what the kernel's counter grew by beyond the preemptions seen was wake-up
//! latency at the end of sleeps.
//!
//! The counter grows when a thread gets its CPU, so a preemption counts here when it has ended, not before. One kind of
//! sleep tells its latency by itself: a waiter asks for the lock once a switch interval, so whatever a sleep lasts longer
//! than that is latency. Invariant: no more is moved from a kind of sleep than it lasted.

use crate::{ledger::apportion::apportion, model::time::Nanos};

/// What the kernel's counter is compared with.
#[derive(Debug, Clone, Default)]
pub(super) struct RunDelayAccount {
    last_reading: Option<Nanos>,
    /// What the counter contains too and is explained: preemptions that have ended since the last reading, and latency of
    /// sleeps that were as long as a switch interval.
    explained: Nanos,
    /// Sleeps that ended since the last reading, while inside,
    pub(super) held: Sleeps,
    /// outside,
    pub(super) outside: Sleeps,
    /// and in states that are not split by CPU.
    pub(super) unsplit: Sleeps,
    /// How long the thread has been off the CPU.
    off_cpu: Nanos,
    /// Run delay read but not yet explained (positive), or explained in advance (negative), in nanoseconds.
    carry: i128,
}

/// Some sleeps.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sleeps {
    count: u64,
    time: Nanos,
}

/// How much of each kind of sleep was latency.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) held: Nanos,
    pub(super) outside: Nanos,
    pub(super) giving_way: Nanos,
}

impl Sleeps {
    pub(super) fn add_one(&mut self, time: Nanos) {
        self.add(Self { count: 1, time });
    }

    pub(super) fn add(&mut self, others: Self) {
        self.count += others.count;
        self.time += others.time;
    }
}

impl RunDelayAccount {
    /// The thread leaves its CPU.
    pub(super) fn leave_cpu(&mut self) {
        self.off_cpu = Nanos::ZERO;
    }

    /// It is still off the CPU after another `time`.
    pub(super) fn stay_off(&mut self, time: Nanos) {
        self.off_cpu += time;
    }

    /// A preemption is over.
    pub(super) fn end_preemption(&mut self) {
        self.explained += std::mem::take(&mut self.off_cpu);
    }

    /// A sleep is over; returns how long it was.
    pub(super) fn end_sleep(&mut self) -> Nanos {
        std::mem::take(&mut self.off_cpu)
    }

    /// A sleep of a waiter is over, who sleeps no longer than `interval` as far as it is known.
    pub(super) fn end_slice(&mut self, slept: Nanos, interval: Option<Nanos>) {
        match interval.and_then(|interval| slept.checked_sub(interval)) {
            Some(latency) => self.explained += latency,
            None => self.unsplit.add_one(slept),
        }
    }

    /// The counter stands at `cumulative`. `giving_way`: sleeps since the last reading of which it is not yet known
    /// whether they were part of a wait.
    pub(super) fn on_reading(&mut self, cumulative: Nanos, giving_way: Sleeps) -> Latency {
        let account = std::mem::take(self);
        self.off_cpu = account.off_cpu;
        self.last_reading = Some(cumulative);
        let Some(before) = account.last_reading else {
            return Latency::default();
        };
        let delay = i128::from(cumulative.as_nanos()) - i128::from(before.as_nanos());
        let excess = delay - i128::from(account.explained.as_nanos()) + account.carry;
        let Ok(latency) = u64::try_from(excess) else {
            self.carry = excess;
            return Latency::default();
        };
        let kinds = [account.unsplit, account.held, account.outside, giving_way];
        let ([_, held, outside, giving_way], left) = spread(Nanos::from_nanos(latency), kinds);
        self.carry = i128::from(left.as_nanos());
        Latency { held, outside, giving_way }
    }
}

/// Spreads `latency` evenly over the sleeps, no more on a kind than it lasted. Also returns what found no place.
fn spread<const KINDS: usize>(latency: Nanos, kinds: [Sleeps; KINDS]) -> ([Nanos; KINDS], Nanos) {
    let even = apportion(latency, &kinds.map(|sleeps| sleeps.count));
    let mut shares = [Nanos::ZERO; KINDS];
    let mut left = latency;
    for (share, (even, sleeps)) in shares.iter_mut().zip(even.into_iter().zip(kinds)) {
        *share = even.min(sleeps.time);
        left = left.saturating_sub(*share);
    }
    for (share, sleeps) in shares.iter_mut().zip(kinds) {
        let room = sleeps.time.saturating_sub(*share).min(left);
        *share += room;
        left = left.saturating_sub(room);
    }
    (shares, left)
}

#[cfg(test)]
mod tests {
    use super::{Latency, RunDelayAccount, Sleeps, spread};
    use crate::model::time::Nanos;

    fn sleeps(count: u64, nanos: u64) -> Sleeps {
        Sleeps { count, time: Nanos::from_nanos(nanos) }
    }

    #[test]
    fn latency_is_spread_evenly_and_overflows_into_longer_sleeps() {
        let nanos = |number| Nanos::from_nanos(number);
        let cases = [
            (10, [sleeps(1, 100), sleeps(1, 100)], [5, 5], 0),
            (30, [sleeps(2, 100), sleeps(1, 100)], [20, 10], 0),
            (30, [sleeps(2, 5), sleeps(1, 100)], [5, 25], 0),
            (30, [sleeps(1, 5), sleeps(1, 5)], [5, 5], 20),
            (30, [sleeps(0, 0), sleeps(0, 0)], [0, 0], 30),
        ];
        for (latency, kinds, shares, left) in cases {
            assert_eq!(spread(nanos(latency), kinds), (shares.map(nanos), nanos(left)), "{latency} over {kinds:?}");
        }
    }

    /// ```text
    /// 0          55         95 100             the counter grew by 45: 5 of it in the slice of 50, so 40 while outside
    /// |slice      |outside   |run|
    /// ```
    #[test]
    fn a_slice_takes_no_more_than_its_excess_over_the_interval() {
        let nanos = |number| Nanos::from_nanos(number);
        for (interval, outside) in [(Some(nanos(50)), 40), (None, 23)] {
            let mut account = RunDelayAccount::default();
            account.on_reading(nanos(0), Sleeps::default());
            account.end_slice(nanos(55), interval);
            account.outside.add_one(nanos(40));
            let latency = account.on_reading(nanos(45), Sleeps::default());
            let off = latency.outside.as_nanos().abs_diff(outside);
            assert!(off <= 1, "{interval:?}: {latency:?}");
        }
    }

    /// ```text
    /// 0        100    110          140      150
    /// |asleep   |run   |preempted   |run     |
    ///                        ↑ 20 of the sleep were latency: the counter knows; the preemption it does not know yet
    /// ```
    #[test]
    fn a_preemption_counts_when_it_has_ended() {
        let nanos = |number| Nanos::from_nanos(number);
        let mut account = RunDelayAccount::default();
        account.on_reading(nanos(0), Sleeps::default());
        account.stay_off(nanos(100));
        let slept = account.end_sleep();
        account.outside.add_one(slept);
        account.leave_cpu();
        account.stay_off(nanos(15));
        let outside = nanos(20);
        assert_eq!(account.on_reading(nanos(20), Sleeps::default()), Latency { outside, ..Latency::default() });
        account.stay_off(nanos(15));
        account.end_preemption();
        account.held.add_one(nanos(50));
        assert_eq!(account.on_reading(nanos(50), Sleeps::default()), Latency::default());
    }
}
