//! From the time that threads spend in probes to the time by which the program is late.
//!
//! A program that has CPUs to spare is late by what its threads spend. One that has to wait for a CPU waits in proportion to
//! what it runs, in probes or elsewhere: with a tenth of a CPU, a microsecond in a probe makes it ten late.

use crate::model::time::{MonoNanos, Nanos};

/// What the recent past is worth after that long: one e-th.
const FORGOTTEN: f64 = 500e6;

/// How late a program is because of probes.
#[derive(Debug)]
pub(super) struct Delay {
    looked: MonoNanos,
    spent: Nanos,
    ran: Nanos,
    waited: Nanos,
    /// Lately, with what is longer ago counting less: time that passed, that threads ran, and that they waited for a CPU.
    lately: [f64; 3],
    caused: f64,
}

impl Delay {
    pub(super) fn since(start: MonoNanos) -> Self {
        let zero = Nanos::ZERO;
        Self { looked: start, spent: zero, ran: zero, waited: zero, lately: [0.0; 3], caused: 0.0 }
    }

    /// The delay so far, when `spent` has been spent in probes, and at this moment the threads alive have run and waited for a
    /// CPU for so long.
    pub(super) fn caused_by(&mut self, spent: Nanos, (now, (ran, waited)): (MonoNanos, (Nanos, Nanos))) -> Nanos {
        let passed = nanos(now.saturating_since(self.looked));
        let kept = (-passed / FORGOTTEN).exp();
        // Threads that have ended take their time with them.
        let news = [passed, nanos(ran.saturating_sub(self.ran)), nanos(waited.saturating_sub(self.waited))];
        for (sum, new) in self.lately.iter_mut().zip(news) {
            *sum = *sum * kept + new;
        }
        self.caused += nanos(spent.saturating_sub(self.spent)) * self.stretch();
        (self.looked, self.spent, self.ran, self.waited) = (now, self.spent.max(spent), ran, waited);
        Nanos::from_nanos(whole(self.caused))
    }

    fn stretch(&self) -> f64 {
        let [passed, ran, waited] = self.lately;
        if ran <= 0.0 {
            return 1.0;
        }
        // Threads that run side by side share the delay.
        (1.0 + waited / ran).min((passed / ran).max(1.0))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a delay is no more exact than the cost of an event")]
fn nanos(time: Nanos) -> f64 {
    time.as_nanos() as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, never negative, saturating")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::Delay;
    use crate::model::time::{MonoNanos, Nanos};

    /// What a microsecond in probes in each of 100 periods of 10 ms comes to.
    fn caused(ran: u64, waited: u64) -> u64 {
        let mut delay = Delay::since(MonoNanos::from_monotonic(0));
        let periods = 1..=100_u64;
        let steps = periods.map(|period| {
            let times = (Nanos::from_nanos(ran * period), Nanos::from_nanos(waited * period));
            let spent = Nanos::from_nanos(1_000 * period);
            delay.caused_by(spent, (MonoNanos::from_monotonic(10_000_000 * period), times))
        });
        steps.last().unwrap().as_nanos() / 1_000
    }

    #[test]
    fn whoever_waits_for_a_cpu_is_late_by_more_than_was_spent() {
        assert_eq!(caused(10_000_000, 0), 100, "always on a CPU");
        assert_eq!(caused(1_000_000, 0), 100, "asleep most of the time");
        assert_eq!(caused(1_000_000, 9_000_000), 1_000, "a tenth of a CPU");
        assert_eq!(caused(20_000_000, 140_000_000), 100, "sixteen threads on two CPUs");
        assert_eq!(caused(0, 0), 100, "nobody knows");
    }
}
