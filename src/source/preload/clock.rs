//! From the probe's raw times to `CLOCK_MONOTONIC`: the only place where they are converted.
//!
//! Both clocks are read together at every poll; between two such anchors the conversion is linear, so it is
//! continuous, and later raw times never become earlier ones, whichever thread they belong to.

#![expect(unsafe_code, reason = "reads two clocks")]

use std::{collections::VecDeque, fs};

use crate::{
    model::time::{MonoNanos, Nanos},
    source::preload::layout::{CLOCK_MONOTONIC, CLOCK_TSC},
};

/// Closer anchors would turn the error of reading them into an error of the rate.
const LEAST_SPACING: Nanos = Nanos::from_nanos(100_000);
/// Of so many readings, the one in which the two clocks were read closest together counts.
const READINGS: usize = 3;

/// A division for every record would cost more than all the rest of reading it. With so many bits the error is below
/// a nanosecond for anchors less than a second apart.
const SLOPE_BITS: u32 = 32;

/// The clock that the probe reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeClock {
    /// The processor's time stamp counter.
    TimeStampCounter,
    /// `CLOCK_MONOTONIC`, from libc.
    Monotonic,
}

/// A time as the probe wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RawTime(u64);

/// Raw times and what they are on `CLOCK_MONOTONIC`.
#[derive(Debug, Clone)]
pub struct Timeline {
    clock: ProbeClock,
    /// Never empty; both clocks strictly increase.
    anchors: VecDeque<Anchor>,
    /// Raw ticks and nanoseconds between the first anchor and the latest.
    rate: (u64, u64),
    first: Anchor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Anchor {
    raw: u64,
    mono: u64,
    /// Nanoseconds a tick from here to the next anchor, times 2 to the [`SLOPE_BITS`].
    slope: u64,
}

impl Anchor {
    fn at(raw: u64, mono: u64) -> Self {
        Self { raw, mono, slope: 0 }
    }

    /// The nanoseconds that `ticks` ticks after this anchor last.
    fn elapsed(self, ticks: u64) -> u64 {
        let nanos = (u128::from(ticks) * u128::from(self.slope)) >> SLOPE_BITS;
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

impl ProbeClock {
    /// The time stamp counter where the kernel itself trusts it, else `CLOCK_MONOTONIC`.
    pub fn choose() -> Self {
        let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let steady = |flag| processor.split_whitespace().any(|word| word == flag);
        let trusted = source.is_ok_and(|source| source.trim() == "tsc");
        if trusted && steady("constant_tsc") && steady("nonstop_tsc") {
            Self::TimeStampCounter
        } else {
            Self::Monotonic
        }
    }

    /// How the shared header names this clock.
    pub fn code(self) -> u32 {
        match self {
            Self::TimeStampCounter => CLOCK_TSC,
            Self::Monotonic => CLOCK_MONOTONIC,
        }
    }

    /// The time now.
    pub fn now(self) -> RawTime {
        RawTime(match self {
            Self::TimeStampCounter => time_stamp_counter(),
            Self::Monotonic => monotonic(),
        })
    }

    fn anchor(self) -> Anchor {
        let reading = |_| {
            let before = monotonic();
            let raw = self.now().0;
            let width = monotonic().saturating_sub(before);
            (width, Anchor::at(raw, before + width / 2))
        };
        let readings = (0..READINGS).map(reading);
        let closest = readings.min_by_key(|(width, _)| *width).expect("at least one reading");
        match self {
            Self::TimeStampCounter => closest.1,
            Self::Monotonic => Anchor { mono: closest.1.raw, ..closest.1 },
        }
    }
}

impl RawTime {
    /// The time that a record holds.
    pub fn from_record(word: u64) -> Self {
        Self(word)
    }

    /// Ticks since the raw time `earlier`.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Timeline {
    /// Begins now.
    pub fn begin(clock: ProbeClock) -> Self {
        let first = clock.anchor();
        Self { clock, anchors: VecDeque::from([first]), rate: (1, 1), first }
    }

    /// The clock whose times are converted.
    pub fn clock(&self) -> ProbeClock {
        self.clock
    }

    /// Adds an anchor now, unless the last one is too recent, and returns the latest anchor's raw time.
    pub fn advance(&mut self) -> RawTime {
        let (last, new) = (self.last(), self.clock.anchor());
        if new.raw > last.raw && new.mono > last.mono.saturating_add(LEAST_SPACING.as_nanos()) {
            self.push(new);
            self.rate = (new.raw - self.first.raw, new.mono - self.first.mono);
        }
        RawTime(self.last().raw)
    }

    /// The raw time `by` before `raw`, at the rate measured so far.
    pub fn earlier(&self, raw: RawTime, by: Nanos) -> RawTime {
        RawTime(raw.0.saturating_sub(scale(by.as_nanos(), self.rate.0, self.rate.1)))
    }

    /// `ticks` raw ticks at the rate measured so far; `None` before a second anchor.
    pub fn duration(&self, ticks: u64) -> Option<Nanos> {
        let measured = self.rate != (1, 1);
        measured.then(|| Nanos::from_nanos(scale(ticks, self.rate.1, self.rate.0)))
    }

    /// `raw` on `CLOCK_MONOTONIC`; times outside the anchors that are kept become the nearest of these.
    pub fn convert(&self, raw: RawTime) -> MonoNanos {
        let next = self.anchors.partition_point(|anchor| anchor.raw <= raw.0);
        let earlier = next.checked_sub(1).and_then(|index| self.anchors.get(index));
        MonoNanos::from_monotonic(match (earlier, self.anchors.get(next)) {
            (Some(from), Some(to)) => from.mono.saturating_add(from.elapsed(raw.0 - from.raw)).min(to.mono),
            (Some(nearest), None) | (None, Some(nearest)) => nearest.mono,
            (None, None) => self.first.mono,
        })
    }

    /// Forgets anchors that no time from `raw` on needs.
    pub fn forget_before(&mut self, raw: RawTime) {
        while self.anchors.get(1).is_some_and(|anchor| anchor.raw <= raw.0) {
            self.anchors.pop_front();
        }
    }

    fn push(&mut self, new: Anchor) {
        if let Some(last) = self.anchors.back_mut() {
            last.slope = scale(1 << SLOPE_BITS, new.mono - last.mono, new.raw - last.raw);
        }
        self.anchors.push_back(new);
    }

    fn last(&self) -> Anchor {
        self.anchors.back().copied().unwrap_or(self.first)
    }
}

fn scale(value: u64, numerator: u64, denominator: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let unsigned = |field: i64| u64::try_from(field).expect("the clock counts up from zero");
    unsigned(time.tv_sec) * 1_000_000_000 + unsigned(time.tv_nsec)
}

#[cfg(target_arch = "x86_64")]
fn time_stamp_counter() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { std::arch::x86_64::_mm_lfence() };
    // SAFETY: as above.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn time_stamp_counter() -> u64 {
    monotonic()
}

#[cfg(test)]
mod tests {
    use super::{Anchor, ProbeClock, RawTime, Timeline};
    use crate::model::time::Nanos;

    fn timeline(anchors: [(u64, u64); 3]) -> Timeline {
        let [first, second, third] = anchors.map(|(raw, mono)| Anchor::at(raw, mono));
        let rate = (third.raw - first.raw, third.mono - first.mono);
        let mut timeline = Timeline { clock: ProbeClock::TimeStampCounter, anchors: [first].into(), rate, first };
        timeline.push(second);
        timeline.push(third);
        timeline
    }

    // raw:  1000      3000           4000
    // mono:  100  +1/2  1100    +1     2100
    #[test]
    fn times_between_anchors_are_interpolated_and_never_turn_back() {
        let timeline = timeline([(1000, 100), (3000, 1100), (4000, 2100)]);
        let mono = |raw| timeline.convert(RawTime(raw)).as_nanos();
        assert_eq!([mono(1000), mono(2000), mono(3000), mono(3500), mono(4000)], [100, 600, 1100, 1600, 2100]);
        assert_eq!([mono(0), mono(9999), mono(u64::MAX)], [100, 2100, 2100]);
        assert!((900..4100).all(|raw| mono(raw) <= mono(raw + 1)));
    }

    #[test]
    fn forgetting_keeps_what_later_times_need() {
        let mut timeline = timeline([(1000, 100), (3000, 1100), (4000, 2100)]);
        timeline.forget_before(RawTime(3500));
        assert_eq!(timeline.anchors.len(), 2);
        assert_eq!(timeline.convert(RawTime(3500)).as_nanos(), 1600);
    }

    #[test]
    fn the_real_clock_agrees_with_the_monotonic_one() {
        let mut timeline = Timeline::begin(ProbeClock::choose());
        std::thread::sleep(std::time::Duration::from_millis(20));
        let before = super::monotonic();
        let raw = timeline.clock().now();
        let after = super::monotonic();
        std::thread::sleep(std::time::Duration::from_millis(1));
        timeline.advance();
        let converted = timeline.convert(raw).as_nanos();
        assert!(converted + 20_000 >= before && converted <= after + 20_000, "{before} {converted} {after}");
        let margin = timeline.earlier(raw, Nanos::from_millis(10));
        let shift = converted.abs_diff(timeline.convert(margin).as_nanos());
        assert!((9_900_000..10_100_000).contains(&shift), "{shift}");
    }
}
