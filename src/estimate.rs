//! From parts that were observed to the whole: ratio estimates and their 95 % confidence intervals. Pure.
//!
//! The whole is `n` parts, each with an amount `y` (time in a state, a count) in an observed length `x`. The ratio `Σy / Σx`
//! estimates the whole; its variance is taken from successive differences of the residuals `y - Rx`, as for systematic
//! samples (Wolter, Introduction to Variance Estimation, ch. 8): a slow drift over the recording does not widen the interval.
//! A share of time is bounded by 0 and 1, and near them the usual interval lies; there Wilson's is used, with as many
//! independent looks as the variance stands for, never more than there are parts when the variance tells nothing.

pub mod book;
pub mod looks;
pub mod random;

use crate::model::{estimate::Estimate, time::Nanos};

/// Observed parts, in order of time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts {
    count: u64,
    length: f64,
    amount: f64,
    before: Option<Part>,
    /// How much of the length was observed, and what was counted in that.
    observed: f64,
    counted: f64,
    /// Sums over successive differences: `Σ dy²`, `Σ dx dy`, `Σ dx²`.
    differences: [f64; 3],
}

#[derive(Debug, Clone, Copy)]
struct Part {
    length: f64,
    amount: f64,
}

/// What is measured in a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Time, of which there is no more than the part is long.
    Share,
    /// A number of things.
    Count,
}

impl Parts {
    /// Adds the next part: `amount` in an observed `length`. Empty parts tell nothing.
    pub fn add(&mut self, length: Nanos, amount: u64) {
        self.add_sampled(length, length, amount);
    }

    /// Adds the next part, of which only `observed` was: there the amount was `amount`.
    pub fn add_sampled(&mut self, length: Nanos, observed: Nanos, amount: u64) {
        if length == Nanos::ZERO || observed == Nanos::ZERO {
            return;
        }
        let (observed, counted) = (wide(observed.as_nanos()), wide(amount));
        let length = wide(length.as_nanos());
        let part = Part { length, amount: counted / observed * length };
        self.observed += observed;
        self.counted += counted;
        if let Some(before) = self.before.replace(part) {
            let (dx, dy) = (part.length - before.length, part.amount - before.amount);
            self.differences[0] += dy * dy;
            self.differences[1] += dx * dy;
            self.differences[2] += dx * dx;
        }
        self.count += 1;
        self.length += part.length;
        self.amount += part.amount;
    }

    /// How many parts there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The time among `whole`, if the parts were shares of time; `None` from fewer than two parts.
    pub fn time_in(&self, whole: Nanos) -> Option<Estimate<Nanos>> {
        let scale = wide(whole.as_nanos());
        self.interval(Kind::Share).map(|ratio| Estimate {
            value: Nanos::from_nanos(whole_number(ratio.value * scale)),
            low: Nanos::from_nanos(whole_number(ratio.low * scale)),
            high: Nanos::from_nanos(whole_number(ratio.high * scale)),
        })
    }

    /// The sum of times in `whole`, of which several may pass at once.
    pub fn times_in(&self, whole: Nanos) -> Option<Estimate<Nanos>> {
        if self.counted == 0.0 {
            return self.time_in(whole);
        }
        let Estimate { value, low, high } = self.count_in(whole)?;
        Some(Estimate { value: Nanos::from_nanos(value), low: Nanos::from_nanos(low), high: Nanos::from_nanos(high) })
    }

    /// The number in `whole`, if the parts were counts; `None` from fewer than two parts.
    pub fn count_in(&self, whole: Nanos) -> Option<Estimate<u64>> {
        let scale = wide(whole.as_nanos());
        self.interval(Kind::Count).map(|ratio| Estimate {
            value: whole_number(ratio.value * scale),
            low: whole_number(ratio.low * scale),
            high: whole_number(ratio.high * scale),
        })
    }

    fn interval(&self, kind: Kind) -> Option<Estimate<f64>> {
        if self.count < 2 {
            return None;
        }
        let n = wide(self.count);
        let ratio = self.amount / self.length;
        let [yy, xy, xx] = self.differences;
        let squares = (yy - 2.0 * ratio * xy + ratio * ratio * xx).max(0.0);
        let mean_length = self.length / n;
        let variance = squares / (2.0 * (n - 1.0)) / n / (mean_length * mean_length);
        let t = student(self.count - 1);
        let (low, high) = match kind {
            Kind::Share => wilson(ratio.min(1.0), variance, n, t),
            Kind::Count => {
                // None seen in `length` leaves room for three (the rule of three), and few for as many as Poisson's law does.
                let least = (self.counted + 1.0).sqrt() / self.observed;
                let margin = t * variance.sqrt().max(least);
                (
                    (ratio - margin).max(0.0),
                    ratio + margin.max(if self.counted == 0.0 { 3.0 / self.observed } else { 0.0 }),
                )
            }
        };
        Some(Estimate { value: ratio, low, high })
    }
}

/// Wilson's interval for the share `p`, with as many looks as its variance stands for.
fn wilson(p: f64, variance: f64, n: f64, t: f64) -> (f64, f64) {
    let looks = if variance > 0.0 { (p * (1.0 - p) / variance).max(1.0) } else { n };
    let z2 = t * t / looks;
    let centre = (p + z2 / 2.0) / (1.0 + z2);
    let half = (z2 * (p * (1.0 - p) + z2 / 4.0)).sqrt() / (1.0 + z2);
    ((centre - half).max(0.0).min(p), (centre + half).min(1.0).max(p))
}

/// The 97.5 % quantile of Student's t, to 0.2 % from 3 degrees of freedom on (Cornish-Fisher in powers of `1/f`).
fn student(freedom: u64) -> f64 {
    const EXACT: [f64; 3] = [12.706, 4.303, 3.182];
    let few = usize::try_from(freedom).ok().and_then(|freedom| EXACT.get(freedom.saturating_sub(1)));
    few.copied().unwrap_or_else(|| {
        let (z, f) = (1.959_964_f64, wide(freedom));
        let z3 = z.powi(3);
        let z5 = z.powi(5);
        let z7 = z.powi(7);
        z + (z3 + z) / (4.0 * f)
            + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * f * f)
            + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * f.powi(3))
    })
}

/// A number that need not be exact to one part in 2^53.
#[expect(clippy::cast_precision_loss, reason = "neither estimates nor plans are that exact")]
pub(crate) fn wide(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, never negative, saturating")]
fn whole_number(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert, proptest};

    use super::{Parts, random::Random, student};
    use crate::model::{estimate::Estimate, time::Nanos};

    const PART: Nanos = Nanos::from_millis(1);
    const WHOLE: Nanos = Nanos::from_millis(1_000);

    fn times(amounts: impl IntoIterator<Item = u64>) -> Parts {
        let mut parts = Parts::default();
        amounts.into_iter().for_each(|amount| parts.add(PART, amount));
        parts
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, table) in
            [(1, 12.706), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042), (1_000, 1.962)]
        {
            let t = student(freedom);
            assert!((t / table - 1.0).abs() < 0.005, "{freedom}: {t}");
        }
    }

    #[test]
    fn what_never_varies_is_still_uncertain_by_the_number_of_parts() {
        let none = times([0; 40]).time_in(WHOLE).unwrap();
        assert_eq!((none.value, none.low), (Nanos::ZERO, Nanos::ZERO));
        assert!(none.high > Nanos::from_millis(50) && none.high < Nanos::from_millis(120), "{none:?}");
        let all = times([PART.as_nanos(); 40]).time_in(WHOLE).unwrap();
        assert_eq!((all.value, all.high), (WHOLE, WHOLE));
        assert!(all.low < Nanos::from_millis(950), "{all:?}");
    }

    #[test]
    fn one_part_tells_nothing_of_the_whole() {
        assert_eq!(times([5]).time_in(WHOLE), None);
        assert_eq!(times([]).time_in(WHOLE), None);
    }

    #[test]
    fn counts_scale_with_the_length() {
        let Estimate { value, low, high } = times([3, 5, 4, 4, 3, 5]).count_in(WHOLE).unwrap();
        assert_eq!(value, 4_000);
        assert!(low > 1_500 && high < 6_500, "{low} {high}");
        assert!(times([0; 6]).count_in(WHOLE).unwrap().high >= 500);
    }

    /// The share of experiments whose interval contains the truth.
    #[test]
    fn intervals_contain_the_truth_95_times_in_100() {
        let mut random = Random::seeded(1);
        for truth in [0.02, 0.3, 0.9] {
            let experiments = 1_000;
            let hits = (0..experiments).filter(|_| {
                // Each part has ten independent looks.
                let part = |_| (0..10).filter(|_| random.unit() < truth).count() as u64 * 100_000;
                let estimate = times((0..60).map(part)).time_in(WHOLE).unwrap();
                let true_time = Nanos::from_nanos((truth * 1e9) as u64);
                estimate.low <= true_time && true_time <= estimate.high
            });
            let hits = hits.count();
            assert!((930..=985).contains(&hits), "{truth}: {hits} of {experiments}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn an_interval_contains_its_value_and_no_impossible_time(
            amounts in prop::collection::vec((1_u64..2_000_000).prop_flat_map(|x| (x..=x, 0..=x)), 2..50),
            whole in any::<u32>(),
        ) {
            let mut parts = Parts::default();
            amounts.iter().for_each(|(length, amount)| parts.add(Nanos::from_nanos(*length), *amount));
            let whole = Nanos::from_nanos(u64::from(whole));
            let Estimate { value, low, high } = parts.time_in(whole).unwrap();
            prop_assert!(low <= value && value <= high && high <= whole, "{low} {value} {high} of {whole}");
        }
    }
}
