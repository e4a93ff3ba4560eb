//! Keeps what is told of page faults within the budget: when they come too fast, they are told of in groups.

use crate::model::time::{MonoNanos, Nanos};

/// The part of the budget that page faults may take, of all the time so far and half a second more, so that a program may start.
const PART: f64 = 0.25;
const ADVANCE: Nanos = Nanos::from_millis(500);
/// The part of the budget aimed at when they have taken too much.
const AIM: f64 = 0.1;
/// Between two looks.
const SPACING: Nanos = Nanos::from_millis(50);
/// No more are told of at a time.
const LARGEST: u32 = 10_007;

/// How many page faults are told of at a time, and what that has cost.
#[derive(Debug)]
pub(super) struct FaultGroups {
    budget: f64,
    start: MonoNanos,
    /// The last look, and what they had cost by then.
    looked: (MonoNanos, Nanos),
    size: u32,
}

impl FaultGroups {
    /// One at a time since `start`, of a recording that may take this part of the time.
    pub(super) fn new(budget: f64, start: MonoNanos) -> Self {
        Self { budget, start, looked: (start, Nanos::ZERO), size: 1 }
    }

    /// How many are told of at a time, at the most.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// By `now` they have cost so much: how many are to be told of at a time from now on, if that changes.
    pub(super) fn look(&mut self, now: MonoNanos, cost: Nanos) -> Option<u32> {
        let (before, known) = self.looked;
        let time = now.saturating_since(before);
        if time < SPACING {
            return None;
        }
        self.looked = (now, cost);
        let share = cost.saturating_sub(known).share_of(time);
        let whole = cost.share_of(now.saturating_since(self.start) + ADVANCE);
        if whole <= PART * self.budget || share <= AIM * self.budget {
            return None;
        }
        let size = (1..=LARGEST).map(|factor| self.size.saturating_mul(factor));
        // An odd number keeps out of step with loops over so many pages.
        let size = size
            .map(|size| (size | 1).min(LARGEST))
            .find(|size| share * f64::from(self.size) <= AIM * self.budget * f64::from(*size));
        let size = size.unwrap_or(LARGEST);
        let before = std::mem::replace(&mut self.size, size);
        (size != before).then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::{FaultGroups, LARGEST};
    use crate::model::time::{MonoNanos, Nanos};

    fn at(millis: u64) -> MonoNanos {
        MonoNanos::from_monotonic(millis * 1_000_000)
    }

    #[test]
    fn a_start_with_many_page_faults_is_told_one_by_one() {
        let mut groups = FaultGroups::new(0.03, at(0));
        // 12,000 of 0.34 us.
        assert_eq!((groups.look(at(200), Nanos::from_nanos(4_100_000)), groups.size()), (None, 1));
        assert_eq!(groups.look(at(400), Nanos::from_nanos(4_200_000)), None);
    }

    #[test]
    fn a_storm_is_told_in_groups_that_cost_a_tenth_of_the_budget() {
        let mut groups = FaultGroups::new(0.03, at(0));
        // 9 % of the time.
        let size = groups.look(at(200), Nanos::from_nanos(18_000_000)).unwrap();
        assert_eq!(size, 31);
        // From now on a thirty-first of that, which is as wanted, whatever it was before.
        assert_eq!(groups.look(at(300), Nanos::from_nanos(18_290_000)), None);
        assert_eq!(groups.look(at(310), Nanos::from_nanos(19_000_000)), None, "too early to tell");
        // Four times as many.
        assert_eq!(groups.look(at(400), Nanos::from_nanos(19_460_000)), Some(125));
    }

    #[test]
    fn no_storm_makes_them_larger_than_the_largest() {
        let mut groups = FaultGroups::new(0.001, at(0));
        assert_eq!(groups.look(at(100), Nanos::from_nanos(u64::MAX / 2)), Some(LARGEST));
        assert_eq!(groups.look(at(200), Nanos::from_nanos(u64::MAX)), None);
    }
}
