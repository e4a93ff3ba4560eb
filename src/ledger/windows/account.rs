//! One account of amounts: what windows show of them, cell by cell, and what that makes of the whole.
//!
//! Which amounts they are, and what they are amounts of, does not matter here. Invariant: a cell counts either as exact,
//! because it was observed from end to end, or as a part that the rest is estimated from.

use crate::{
    estimate::Parts,
    ledger::windows::Phase,
    model::{estimate::Estimate, time::Nanos},
};

/// Of a thread of which more of the observed time is unknown than this, nothing is estimated.
const MOST_UNKNOWN: f64 = 0.2;
/// What an event may cost, as a share of what was measured on the machine, the likeliest first. It was measured at its best; in the
/// program caches are full of other things. (Watchpoints at 6 µs each: with 1.0 the number of holds came out 5 % short.)
const COSTS: [f64; 3] = [1.15, 0.85, 1.5];
/// At least one part of so many of the time that was observed was the program's own.
const LEAST_LEFT: i64 = 20;

/// Amounts of one thread or lock at one moment, since it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<const N: usize> {
    pub(super) amounts: [i64; N],
    /// How long it has been known.
    pub(super) seen: Nanos,
    /// How much of that is unknown.
    pub(super) unknown: Nanos,
    /// What probes have taken of each amount, and of the time.
    pub(super) probed: [i64; N],
    pub(super) probed_seen: i64,
}

/// What has come together of one thread or lock, or of all threads.
#[derive(Debug, Clone)]
pub(super) struct Account<const N: usize> {
    pub(super) last: Reading<N>,
    /// When the cell began.
    pub(super) cell_seen: Nanos,
    /// In the windows of the present cell.
    pub(super) in_cell: Reading<N>,
    /// What was observed from end to end, and how long that was.
    pub(super) exact: [i64; N],
    pub(super) certain: Nanos,
    /// The cells of which a part was observed.
    parts: [[Parts; N]; COSTS.len()],
    /// Time in windows, and how much of that is unknown.
    seen: Nanos,
    unknown: Nanos,
    /// Nothing is said of the time before.
    pub(super) born: Nanos,
}

impl<const N: usize> Default for Reading<N> {
    fn default() -> Self {
        Self { amounts: [0; N], seen: Nanos::ZERO, unknown: Nanos::ZERO, probed: [0; N], probed_seen: 0 }
    }
}

impl<const N: usize> Reading<N> {
    pub(super) fn add(&mut self, other: &Self) {
        self.amounts = combined(self.amounts, other.amounts, |sum, more| sum + more);
        self.probed = combined(self.probed, other.probed, |sum, more| sum + more);
        self.probed_seen += other.probed_seen;
        self.seen += other.seen;
        self.unknown += other.unknown;
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            amounts: combined(self.amounts, earlier.amounts, |now, before| now - before),
            probed: combined(self.probed, earlier.probed, |now, before| now - before),
            probed_seen: self.probed_seen - earlier.probed_seen,
            seen: self.seen.saturating_sub(earlier.seen),
            unknown: self.unknown.saturating_sub(earlier.unknown),
        }
    }

    /// The amounts, and the known time, without `share` of what probes have taken by measure.
    fn without_probes(&self, share: f64) -> ([u64; N], Nanos) {
        let known = self.seen.saturating_sub(self.unknown);
        // Where probes have taken nearly all, nothing can be told.
        let left = (signed(known) - part(self.probed_seen, share)).max(signed(known) / LEAST_LEFT);
        let without = |amount, probed| amount - part(probed, share);
        let amounts = combined(self.amounts, self.probed, without).map(|amount| u64::try_from(amount).unwrap_or(0));
        (amounts, Nanos::from_nanos(u64::try_from(left).unwrap_or(0)))
    }
}

fn combined<const N: usize>(one: [i64; N], other: [i64; N], with: impl Fn(i64, i64) -> i64) -> [i64; N] {
    std::array::from_fn(|index| with(one[index], other[index]))
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a cost is known to some percent")]
fn part(whole: i64, share: f64) -> i64 {
    (whole as f64 * share) as i64
}

impl<const N: usize> Default for Account<N> {
    fn default() -> Self {
        Self {
            last: Reading::default(),
            cell_seen: Nanos::ZERO,
            in_cell: Reading::default(),
            exact: [0; N],
            certain: Nanos::ZERO,
            parts: [[Parts::default(); N]; COSTS.len()],
            seen: Nanos::ZERO,
            unknown: Nanos::ZERO,
            born: Nanos::ZERO,
        }
    }
}

impl<const N: usize> Account<N> {
    /// One of which nothing is known before it is `seen`.
    pub(super) fn found(seen: Nanos) -> Self {
        let last = Reading { seen, ..Reading::default() };
        Self { last, born: seen, ..Self::default() }
    }

    /// Takes what has come since the last reading, as far as it counts; returns that.
    pub(super) fn read(&mut self, now: Reading<N>, phase: Phase) -> Reading<N> {
        let mut news = now.since(&std::mem::replace(&mut self.last, now));
        match phase {
            Phase::Within => {}
            // What turns out only now had happened before.
            Phase::Outside => (news.seen, news.unknown) = (Nanos::ZERO, Nanos::ZERO),
            Phase::Armed => news = Reading::default(),
        }
        self.in_cell.add(&news);
        news
    }

    /// The first cell begins: all that was before is exact.
    pub(super) fn begin_cells(&mut self) {
        self.born = Nanos::ZERO;
        self.certain = self.last.seen;
        self.cell_seen = self.last.seen;
        self.exact = std::mem::take(&mut self.in_cell).amounts;
    }

    /// The cell is over, of which this lasted for `length`.
    pub(super) fn close_cell(&mut self, length: Nanos) {
        let in_cell = std::mem::take(&mut self.in_cell);
        let Reading { amounts, seen, unknown, .. } = in_cell;
        if seen >= length {
            self.exact = combined(self.exact, amounts, |sum, amount| sum + amount);
            self.certain += length;
            return;
        }
        self.seen += seen;
        self.unknown += unknown;
        if seen <= unknown {
            return;
        }
        for (share, parts) in COSTS.iter().zip(&mut self.parts) {
            let (amounts, known) = in_cell.without_probes(*share);
            parts.iter_mut().zip(amounts).for_each(|(parts, amount)| parts.add_sampled(length, known, amount));
        }
    }

    /// Whether enough is known to estimate anything.
    pub(super) fn is_estimable(&self) -> bool {
        self.unknown.share_of(self.seen) <= MOST_UNKNOWN
    }

    pub(super) fn time(
        &self,
        index: usize,
        whole: Nanos,
        of_rest: fn(&Parts, Nanos) -> Option<Estimate<Nanos>>,
    ) -> Option<Estimate<Nanos>> {
        let rest = whole.saturating_sub(self.certain);
        let exact = Nanos::from_nanos(u64::try_from(self.exact[index]).unwrap_or(0));
        if rest == Nanos::ZERO {
            return Some(Estimate { value: exact, low: exact, high: exact });
        }
        let Estimate { value, low, high } = self.spanned(index, |parts| of_rest(parts, rest))?;
        Some(Estimate { value: exact + value, low: exact + low, high: exact + high })
    }

    pub(super) fn count(&self, index: usize, whole: Nanos) -> Option<Estimate<u64>> {
        let rest = whole.saturating_sub(self.certain);
        let exact = u64::try_from(self.exact[index]).unwrap_or(0);
        if rest == Nanos::ZERO {
            return Some(Estimate { value: exact, low: exact, high: exact });
        }
        let Estimate { value, low, high } = self.spanned(index, |parts| parts.count_in(rest))?;
        Some(Estimate { value: exact + value, low: exact + low, high: exact + high })
    }

    /// The estimate if probes cost what was measured, from the lowest to the highest if they cost a little less or more.
    fn spanned<T: Ord + Copy>(&self, index: usize, of: impl Fn(&Parts) -> Option<Estimate<T>>) -> Option<Estimate<T>> {
        let all = self.parts.iter().map(|parts| of(&parts[index])).collect::<Option<Vec<_>>>()?;
        let (low, high) = (all.iter().map(|one| one.low).min()?, all.iter().map(|one| one.high).max()?);
        all.first().map(|measured| Estimate { value: measured.value, low, high })
    }
}

pub(super) fn signed(time: Nanos) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
