//! How durations are spread: percentiles from a histogram of bounded size, and the exact maximum.

use hdrhistogram::Histogram;

use crate::model::{profile::Spread, time::Nanos};

/// Durations seen so far.
#[derive(Debug, Clone)]
pub(super) struct Durations {
    /// Three significant digits; grows with the longest duration, to 270 kB for an hour.
    histogram: Histogram<u64>,
    longest: Nanos,
}

impl Durations {
    pub(super) fn record(&mut self, duration: Nanos) {
        self.longest = self.longest.max(duration);
        // Recording resizes the histogram as needed; only running out of address space makes it fail.
        if self.histogram.record(duration.as_nanos()).is_err() {
            self.histogram.saturating_record(duration.as_nanos());
        }
    }

    pub(super) fn spread(&self) -> Spread {
        let at = |quantile| Nanos::from_nanos(self.histogram.value_at_quantile(quantile)).min(self.longest);
        Spread { p50: at(0.50), p90: at(0.90), p99: at(0.99), max: self.longest }
    }
}

impl Default for Durations {
    fn default() -> Self {
        let histogram = Histogram::new(3).expect("three significant digits are allowed");
        Self { histogram, longest: Nanos::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::Durations;
    use crate::model::{profile::Spread, time::Nanos};

    #[test]
    fn percentiles_of_a_known_set() {
        let mut durations = Durations::default();
        assert_eq!(durations.spread(), Spread::default());
        for millis in 1..=1000 {
            durations.record(Nanos::from_millis(millis));
        }
        let spread = durations.spread();
        for (got, millis) in [(spread.p50, 500), (spread.p90, 900), (spread.p99, 990), (spread.max, 1000)] {
            let error = got.as_seconds() / Nanos::from_millis(millis).as_seconds() - 1.0;
            assert!(error.abs() < 2e-3, "{got} instead of {millis} ms");
        }
        assert_eq!(spread.max, Nanos::from_millis(1000));
    }
}
