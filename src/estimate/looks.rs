//! How far an amount of time that was put together from looks can be off. Pure.
//!
//! Between two looks that saw the same, it is taken to have been so all along; between two that differ, each gets half. The
//! error of that comes from the gaps. Where states last longer than gaps, only a gap whose ends differ is off, by as much as
//! the change lies from its middle: on average of squares by a twelfth of its square. Where states come and go within a gap,
//! looks are independent drawings, and a difference of neighbours stands for half a square. Which it is, is told by looks
//! that are two apart: they differ no more often than neighbours in the second case, twice as often in the first. In between
//! the errors of two models are averaged: of states whose lengths are all alike random (exponential), and of a mixture of
//! long and short ones, which needs wider intervals. Simulated with switching at random, at regular and at mixed intervals
//! from a fiftieth of a gap to twenty gaps, the intervals contain the truth 93 to 100 times in 100; of lasting states twice the
//! twelfth is taken, since real looks do worse.

use crate::{
    estimate::{whole_number, wide, wilson},
    model::{estimate::Estimate, time::Nanos},
};

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.96;

/// What so many looks stand for may have been missed without a trace, or mistaken.
const MISSED: f64 = 2.0;

/// Looks at one amount, such as whether a thread waits or how many do, in order of time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Series {
    looks: u64,
    before: [f64; 2],
    /// Σ of gaps, and Σ over gaps of (gap × difference)².
    gaps: f64,
    weighted: f64,
    /// Σ of squared differences of looks one and two apart.
    one: f64,
    two: f64,
}

impl Series {
    /// Adds what the next look has seen, `gap` after the one before.
    pub fn add(&mut self, gap: Nanos, seen: u64) {
        let (gap, seen) = (gap.as_seconds(), wide(seen));
        let [last, earlier] = self.before;
        if self.looks >= 1 {
            self.gaps += gap;
            self.weighted += (gap * (seen - last)).powi(2);
        }
        if self.looks >= 2 {
            self.one += (seen - last).powi(2);
            self.two += (seen - earlier).powi(2);
        }
        self.before = [seen, last];
        self.looks += 1;
    }

    /// How many looks there were.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// The interval of `value`, which was put together from these looks, among `whole`; `unsettled` is time in which looks
    /// could not tell. `None` from fewer than three looks.
    pub fn interval(&self, value: Nanos, whole: Nanos, unsettled: Nanos) -> Option<Estimate<Nanos>> {
        if self.looks < 3 || whole == Nanos::ZERO {
            return None;
        }
        let gap = self.gaps / wide(self.looks - 1);
        let (value, scale) = (value.min(whole), whole.as_seconds());
        let extreme = value == Nanos::ZERO || value == whole;
        let variance = if extreme { 0.0 } else { self.weighted * self.square_of_change() + (MISSED * gap).powi(2) };
        let (low, high) = wilson(value.share_of(whole), variance / (scale * scale), wide(self.looks), Z);
        let part = |share: f64| Nanos::from_nanos(whole_number(share * wide(whole.as_nanos())));
        let high = (part(high) + unsettled).min(whole);
        Some(Estimate { value, low: part(low).min(value), high: high.max(value) })
    }

    /// The mean square of the error, in gaps, for each change between neighbours.
    fn square_of_change(&self) -> f64 {
        const INDEPENDENT: f64 = 0.5;
        // Twice what chance alone gives: a look comes a little late when the lock changes hands just then, and takes time.
        // So measured against programs whose threads take turns.
        const LASTING: f64 = 2.0 / 12.0;
        let alike = if self.one > 0.0 { (self.two / self.one - 1.0).clamp(0.0, 1.0) } else { 0.0 };
        let mixture = INDEPENDENT + (LASTING - INDEPENDENT) * alike;
        let random = match alike {
            ..1e-3 => INDEPENDENT,
            0.98.. => LASTING,
            _ => ((1.0 + alike) / (1.0 - alike) + 2.0 / alike.ln()) / (2.0 * (1.0 - alike)),
        };
        f64::midpoint(random.max(LASTING), mixture)
    }
}

#[cfg(test)]
mod tests {
    use super::Series;
    use crate::{estimate::random::Random, model::time::Nanos};

    const GAP: u64 = 1_000_000;

    /// One recording of a thread that is in a state and out of it for lengths drawn by `length`, and whether the interval
    /// contains the truth; with it the interval's length.
    fn experiment(random: &mut Random, length: impl Fn(bool, f64) -> f64) -> (bool, u64) {
        const WHOLE: u64 = 1_000 * GAP;
        let (mut now, mut inside, mut changes_at) = (0, false, 0.0);
        let (mut truth, mut estimate, mut series, mut last) = (0.0, 0, Series::default(), 0);
        while now < WHOLE {
            let gap = GAP / 2 + (random.unit() * GAP as f64) as u64;
            let mut at = now as f64;
            now += gap;
            while changes_at < now as f64 {
                truth += if inside { changes_at - at } else { 0.0 };
                (at, inside) = (changes_at, !inside);
                changes_at += length(inside, random.unit()) * GAP as f64;
            }
            truth += if inside { now as f64 - at } else { 0.0 };
            let seen = u64::from(inside);
            series.add(Nanos::from_nanos(gap), seen);
            // Each gap counts half for either end.
            estimate += (seen + last) * gap / 2;
            last = seen;
        }
        let interval = series.interval(Nanos::from_nanos(estimate), Nanos::from_nanos(now), Nanos::ZERO).unwrap();
        let truth = Nanos::from_nanos(truth as u64);
        ((interval.low..=interval.high).contains(&truth), interval.high.as_nanos() - interval.low.as_nanos())
    }

    #[test]
    fn intervals_contain_the_truth_whatever_the_rhythm() {
        let exponential = |mean: f64| move |_, random: f64| -mean * (1.0 - random).ln();
        let mut random = Random::seeded(1);
        let mut hits_of = |length: &dyn Fn(bool, f64) -> f64| {
            let experiments: Vec<_> = (0..400).map(|_| experiment(&mut random, length)).collect();
            experiments.iter().filter(|(hit, _)| *hit).count()
        };
        for mean in [0.05, 0.3, 1.0, 5.0, 20.0] {
            let hits = hits_of(&exponential(mean));
            assert!(hits >= 366, "lengths of {mean} on average: {hits} of 400");
        }
        for [inside, outside] in [[5.0, 5.0], [5.1, 15.3], [1.0, 9.0], [0.02, 5.0]] {
            let hits =
                hits_of(&|is_inside, random| (if is_inside { inside } else { outside }) * (0.95 + random / 10.0));
            assert!(hits >= 366, "lengths of {inside} and {outside}: {hits} of 400");
        }
    }

    #[test]
    fn what_was_never_seen_is_bounded_by_the_number_of_looks() {
        let mut series = Series::default();
        (0..1_000).for_each(|_| series.add(Nanos::from_nanos(GAP), 0));
        let none = series.interval(Nanos::ZERO, Nanos::from_millis(1_000), Nanos::ZERO).unwrap();
        assert_eq!((none.value, none.low), (Nanos::ZERO, Nanos::ZERO));
        assert!(none.high > Nanos::from_millis(2) && none.high < Nanos::from_millis(6), "{none:?}");
    }

    #[test]
    fn too_few_looks_tell_nothing() {
        let mut series = Series::default();
        (0..2).for_each(|_| series.add(Nanos::from_nanos(GAP), 1));
        assert_eq!(series.interval(Nanos::from_millis(1), Nanos::from_millis(2), Nanos::ZERO), None);
    }
}
