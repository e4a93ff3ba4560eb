//! How a thread's exact CPU time divides over its relations to the lock, where no switch tells it.
//!
//! From one reading of the kernel's counters to the next it is known how long the thread ran, waited for a CPU and slept, and
//! (from lock events or looks) how long it was inside, waiting and outside. What belongs to what is inferred: looks at the
//! thread count how often it was awake in each relation, and these odds are raised or lowered alike until the time awake comes
//! out as counted (iterative proportional fitting of a table with two columns). Invariant: every relation's time is divided
//! without remainder, and no more is awake than the counters say, up to rounding.

use crate::{
    ledger::apportion::apportion,
    model::{
        event::{CpuTime, SeenCpu},
        time::Nanos,
    },
};

/// A thread's relations, as places of the tables here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Inside,
    Outside,
    Waiting,
    Unknown,
}

/// The counters of a thread that runs, or waits for a CPU, lag behind until it sleeps; the time of one that never does is
/// divided after so long.
const PATIENCE: Nanos = Nanos::from_millis(100);
/// Looks that speak for a relation before there was any: one, awake with this probability.
const BEFORE: [f64; PLACES] = [0.9, 0.5, 0.05, 0.5];
const PLACES: usize = 4;
/// Halvings of the range in which the odds are sought: from e^-30 to e^30, to a part in a million.
const STEPS: usize = 46;

/// What was seen of one thread's use of the CPUs.
#[derive(Debug, Clone, Default)]
pub(super) struct CpuShare {
    awake: [u64; PLACES],
    looks: [u64; PLACES],
    /// The counters at the last reading.
    last: Option<CpuTime>,
    /// What they have grown by while it was observed.
    spent: CpuTime,
    /// Time since the last reading that is not in the account to be divided: waiting, and of unknown relation.
    pub(super) waiting: Nanos,
    pub(super) unknown: Nanos,
}

/// A stretch divided: running, preempted, blocked.
pub(super) type Parts = [Nanos; 3];

impl CpuShare {
    /// The thread was seen in this relation and state.
    pub(super) fn note(&mut self, place: Place, cpu: SeenCpu) {
        self.looks[place as usize] += 1;
        self.awake[place as usize] += u64::from(cpu == SeenCpu::Runnable);
    }

    /// Divides what has passed since the last time, now that the counters stand at `spent` and the thread is seen to be
    /// `cpu`; `None`: later, when they are complete.
    pub(super) fn divide(
        &mut self,
        (inside, outside): (Nanos, Nanos),
        cpu: SeenCpu,
        now: CpuTime,
    ) -> Option<[Parts; 2]> {
        let times = [inside, outside, self.waiting, self.unknown];
        let whole: Nanos = times.iter().copied().sum();
        let before = *self.last.get_or_insert_with(|| minus(now, fitted(now, whole)));
        if cpu == SeenCpu::Runnable && whole < PATIENCE {
            return None;
        }
        (self.waiting, self.unknown) = (Nanos::ZERO, Nanos::ZERO);
        // What exceeds the time that has passed belongs to what follows: the counters are read a moment after the clock.
        let spent = fitted(minus(now, before), whole);
        self.last = Some(plus(before, spent));
        self.spent = plus(self.spent, spent);
        Some(self.divided(times, spent))
    }

    fn divided(&self, times: [Nanos; PLACES], spent: CpuTime) -> [Parts; 2] {
        let awake = self.awake(times, spent.ran + spent.delayed);
        // Who waits and is awake has been woken and has no CPU yet.
        let delayed = spent.delayed.saturating_sub(awake[Place::Waiting as usize]);
        [0, 1].map(|place| parts(times[place], awake[place], CpuTime { ran: spent.ran, delayed }))
    }

    /// Divides what has passed since the last reading when there will be no other; `None` if nothing was ever seen.
    pub(super) fn divide_last(&self, inside: Nanos, outside: Nanos) -> Option<[Parts; 2]> {
        let seen = self.last.is_some() && self.looks.iter().any(|looks| *looks > 0);
        let awake = |time: Nanos, place: Place| scaled(time, self.chance(place as usize));
        seen.then(|| {
            [(inside, Place::Inside), (outside, Place::Outside)]
                .map(|(time, place)| parts(time, awake(time, place), self.spent))
        })
    }

    /// How long it was awake in each relation if it was so for `awake` in all.
    fn awake(&self, times: [Nanos; PLACES], awake: Nanos) -> [Nanos; PLACES] {
        let odds: [f64; PLACES] = std::array::from_fn(|place| {
            let chance = self.chance(place);
            chance / (1.0 - chance)
        });
        let at = |factor: f64| -> [Nanos; PLACES] {
            std::array::from_fn(|place| {
                let odds = odds[place] * factor;
                scaled(times[place], odds / (1.0 + odds))
            })
        };
        let (mut low, mut high) = (-30.0_f64, 30.0_f64);
        for _ in 0..STEPS {
            let middle = f64::midpoint(low, high);
            let sum: Nanos = at(middle.exp()).into_iter().sum();
            if sum < awake { low = middle } else { high = middle }
        }
        let mut parts = at(low.exp());
        // What rounding has left over goes where there is room.
        let mut left = awake.saturating_sub(parts.iter().copied().sum());
        for (part, time) in parts.iter_mut().zip(times) {
            let room = time.saturating_sub(*part).min(left);
            *part += room;
            left = left.saturating_sub(room);
        }
        parts
    }

    fn chance(&self, place: usize) -> f64 {
        (count(self.awake[place]) + BEFORE[place]) / (count(self.looks[place]) + 1.0)
    }
}

fn minus(one: CpuTime, other: CpuTime) -> CpuTime {
    CpuTime { ran: one.ran.saturating_sub(other.ran), delayed: one.delayed.saturating_sub(other.delayed) }
}

fn plus(one: CpuTime, other: CpuTime) -> CpuTime {
    CpuTime { ran: one.ran + other.ran, delayed: one.delayed + other.delayed }
}

/// No more than has passed.
fn fitted(spent: CpuTime, whole: Nanos) -> CpuTime {
    if spent.ran + spent.delayed <= whole {
        return spent;
    }
    let parts = apportion(whole, &[spent.ran.as_nanos(), spent.delayed.as_nanos()]);
    CpuTime { ran: parts[0], delayed: parts[1] }
}

fn parts(time: Nanos, awake: Nanos, spent: CpuTime) -> Parts {
    let awake = awake.min(time);
    // Where nothing was counted, nothing was awake either, but for rounding.
    let weights = [spent.ran.as_nanos().max(u64::from(spent.delayed == Nanos::ZERO)), spent.delayed.as_nanos()];
    let [running, preempted] = [0, 1].map(|part| apportion(awake, &weights)[part]);
    [running, preempted, time.saturating_sub(awake)]
}

#[expect(clippy::cast_precision_loss, reason = "looks are counted, not summed to 2^53")]
fn count(looks: u64) -> f64 {
    looks as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an inferred part of a stretch of seconds, never negative"
)]
fn scaled(time: Nanos, share: f64) -> Nanos {
    Nanos::from_nanos((time.as_nanos() as f64 * share).round() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{CpuShare, Parts, Place};
    use crate::model::{
        event::{CpuTime, SeenCpu},
        time::Nanos,
    };

    fn nanos(number: u64) -> Nanos {
        Nanos::from_nanos(number)
    }

    fn spent(ran: u64, delayed: u64) -> CpuTime {
        CpuTime { ran: nanos(ran), delayed: nanos(delayed) }
    }

    fn divided(share: &mut CpuShare, inside: u64, outside: u64, spent: CpuTime) -> [Parts; 2] {
        share.divide((nanos(inside), nanos(outside)), SeenCpu::Asleep, spent).unwrap()
    }

    #[test]
    fn one_relation_gets_exactly_what_was_counted() {
        let mut share = CpuShare::default();
        assert_eq!(divided(&mut share, 100, 0, spent(60, 30))[0], [nanos(60), nanos(30), nanos(10)]);
        assert_eq!(divided(&mut share, 0, 100, spent(60, 30))[1], [nanos(0), nanos(0), nanos(100)]);
    }

    /// ```text
    /// inside 1000   outside 4000            ran 1000: seen awake inside and asleep outside, so all of it was inside
    /// ```
    #[test]
    fn looks_tell_in_which_relation_a_thread_is_awake() {
        let mut share = CpuShare::default();
        for _ in 0..200 {
            share.note(Place::Inside, SeenCpu::Runnable);
            share.note(Place::Outside, SeenCpu::Asleep);
        }
        let [inside, outside] = divided(&mut share, 1_000, 4_000, spent(1_000, 0));
        assert!(inside[0] > nanos(950), "{inside:?}");
        assert!(outside[0] < nanos(50), "{outside:?}");
        assert!((inside[0] + outside[0]).as_nanos().abs_diff(1_000) <= 2);
    }

    #[test]
    fn a_waiter_awake_has_no_cpu() {
        let mut share = CpuShare::default();
        for _ in 0..100 {
            share.note(Place::Inside, SeenCpu::Runnable);
            share.note(Place::Waiting, SeenCpu::Asleep);
        }
        share.waiting = nanos(5_000);
        // The delay of 500 does not fit into the hold.
        let [inside, _] = divided(&mut share, 1_000, 0, spent(1_000, 500));
        assert!(inside[0] > nanos(980), "{inside:?}");
    }

    /// ```text
    /// 0        1000       2000    counters of the first: read while it ran, so they still lack its time
    /// |inside, on a CPU   |
    /// ```
    #[test]
    fn counters_of_a_thread_that_runs_are_not_complete() {
        let mut share = CpuShare::default();
        share.divide((nanos(0), nanos(0)), SeenCpu::Runnable, spent(50, 0));
        assert_eq!(share.divide((nanos(1_000), nanos(0)), SeenCpu::Runnable, spent(50, 0)), None);
        assert_eq!(divided(&mut share, 2_000, 0, spent(2_050, 0))[0], [nanos(2_000), nanos(0), nanos(0)]);
    }

    #[test]
    fn what_a_thread_spent_before_it_was_seen_does_not_count() {
        let mut share = CpuShare::default();
        assert_eq!(share.divide((nanos(0), nanos(0)), SeenCpu::Runnable, spent(1_000_000, 0)), None);
        assert_eq!(divided(&mut share, 100, 0, spent(1_000_040, 0))[0], [nanos(40), nanos(0), nanos(60)]);
    }

    #[test]
    fn nothing_seen_divides_nothing() {
        assert_eq!(CpuShare::default().divide_last(nanos(5), nanos(5)), None);
    }

    proptest! {
        #[test]
        fn times_are_divided_without_remainder(
            inside in 0_u64..1_000_000_000, outside in 0_u64..1_000_000_000, waiting in 0_u64..1_000_000_000,
            ran in any::<u32>(), delayed in any::<u32>(), looks in proptest::collection::vec(any::<(bool, bool)>(), 0..20),
        ) {
            let mut share = CpuShare::default();
            for (inside, awake) in looks {
                let place = if inside { Place::Inside } else { Place::Outside };
                share.note(place, if awake { SeenCpu::Runnable } else { SeenCpu::Asleep });
            }
            share.waiting = nanos(waiting);
            let spent = spent(u64::from(ran), u64::from(delayed));
            let [held, free] = divided(&mut share, inside, outside, spent);
            prop_assert_eq!(held.iter().copied().sum::<Nanos>(), nanos(inside));
            prop_assert_eq!(free.iter().copied().sum::<Nanos>(), nanos(outside));
            prop_assert!(held[0] + free[0] + held[1] + free[1] <= spent.ran + spent.delayed + nanos(4));
        }
    }
}
