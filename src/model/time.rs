//! Points in time and durations. One clock enters the model: `CLOCK_MONOTONIC`, in nanoseconds.
//!
//! Other clocks (the processor's time stamp counter, the perf clock) are converted where they are decoded and
//! never reach this module.

use std::{fmt, iter::Sum, num::NonZeroU32, ops::AddAssign};

/// A point on `CLOCK_MONOTONIC`, in nanoseconds since its origin (boot, usually).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoNanos(u64);

/// A duration in whole nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(u64);

impl MonoNanos {
    /// The point `nanos` nanoseconds after the origin of `CLOCK_MONOTONIC`.
    pub const fn from_monotonic(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin of `CLOCK_MONOTONIC`.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; `None` if `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Option<Nanos> {
        self.0.checked_sub(earlier.0).map(Nanos)
    }

    /// The time from `earlier` to `self`, zero if `earlier` is the later one.
    pub fn saturating_since(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// The point `by` later, saturating at the end of the clock.
    pub fn later_by(self, by: Nanos) -> Self {
        Self(self.0.saturating_add(by.0))
    }

    /// The point `by` earlier, saturating at the clock's origin.
    pub fn earlier_by(self, by: Nanos) -> Self {
        Self(self.0.saturating_sub(by.0))
    }
}

impl Nanos {
    /// From one to the next of `rate` events a second.
    pub fn period_of(rate: NonZeroU32) -> Self {
        Self(1_000_000_000 / u64::from(rate.get()))
    }

    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// A duration of `nanos` nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// A duration of `millis` milliseconds, saturating.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Whole nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds, for display and ratios only.
    pub fn as_seconds(self) -> f64 {
        std::time::Duration::from_nanos(self.0).as_secs_f64()
    }

    /// `self - other`; `None` if `other` is longer.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `self - other`, zero if `other` is longer.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `count` times this long, saturating.
    pub fn times(self, count: usize) -> Self {
        Self(self.0.saturating_mul(u64::try_from(count).unwrap_or(u64::MAX)))
    }

    /// `self` as a share of `whole`, 0 to 1; 0 when `whole` is zero.
    pub fn share_of(self, whole: Self) -> f64 {
        if whole.0 == 0 { 0.0 } else { self.as_seconds() / whole.as_seconds() }
    }
}

/// Sums stop at 584 years: only what a target makes up can come near.
impl AddAssign for Nanos {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::ops::Add for Nanos {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(durations: I) -> Self {
        durations.fold(Self::ZERO, std::ops::Add::add)
    }
}

/// Three significant digits and a unit that suits the size: `0 ns`, `12.3 µs`, `5.00 ms`, `41.2 s`.
impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.as_seconds();
        let (value, unit) = match self.0 {
            0..1_000 => return f.pad(&format!("{} ns", self.0)),
            1_000..1_000_000 => (seconds * 1e6, "µs"),
            1_000_000..1_000_000_000 => (seconds * 1e3, "ms"),
            _ => (seconds, "s"),
        };
        let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
        f.pad(&format!("{value:.decimals$} {unit}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{MonoNanos, Nanos};

    #[test]
    fn durations_are_shown_with_three_digits_and_a_fitting_unit() {
        let shown = |nanos| Nanos::from_nanos(nanos).to_string();
        assert_eq!(shown(0), "0 ns");
        assert_eq!(shown(999), "999 ns");
        assert_eq!(shown(12_345), "12.3 µs");
        assert_eq!(shown(5_000_000), "5.00 ms");
        assert_eq!(shown(123_456_789), "123 ms");
        assert_eq!(shown(41_234_000_000), "41.2 s");
    }

    #[test]
    fn a_later_point_has_no_duration_before_an_earlier_one() {
        let (early, late) = (MonoNanos::from_monotonic(3), MonoNanos::from_monotonic(10));
        assert_eq!(late.since(early), Some(Nanos::from_nanos(7)));
        assert_eq!(early.since(late), None);
    }
}
