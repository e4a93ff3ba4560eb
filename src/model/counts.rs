//! What is counted of each thread beside time: by class of states, and as a whole.

use std::iter::Sum;

use crate::model::state::StateClass;

/// Something that can be counted of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// Nanoseconds on a CPU.
    TaskClock,
    /// Pages that were put into the thread's memory without reading a disk.
    MinorFaults,
    /// Pages that had to be read from a disk first.
    MajorFaults,
    /// Times that it lost its CPU, by going to sleep or to another thread.
    ContextSwitches,
    /// Times that it went on on another CPU.
    Migrations,
}

impl Counter {
    /// All of them, in their customary order.
    pub const ALL: [Self; 5] =
        [Self::TaskClock, Self::MinorFaults, Self::MajorFaults, Self::ContextSwitches, Self::Migrations];

    /// The name that `perf` has made known.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TaskClock => "task-clock",
            Self::MinorFaults => "minor-faults",
            Self::MajorFaults => "major-faults",
            Self::ContextSwitches => "context-switches",
            Self::Migrations => "cpu-migrations",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::TaskClock => 0,
            Self::MinorFaults => 1,
            Self::MajorFaults => 2,
            Self::ContextSwitches => 3,
            Self::Migrations => 4,
        }
    }
}

/// A number for each counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts([u64; Counter::ALL.len()]);

impl Counts {
    /// How many.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter.index()]
    }

    /// So many more.
    pub fn add(&mut self, counter: Counter, count: u64) {
        self.0[counter.index()] += count;
    }

    /// All of `others` more.
    pub fn add_all(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(own, other)| *own += other);
    }

    /// At most all of `others` less.
    pub fn take_all(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(own, other)| *own = own.saturating_sub(other));
    }
}

/// Counts by class of states: each counter's four numbers sum up to what it counted of the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassCounts([Counts; StateClass::ALL.len()]);

impl ClassCounts {
    /// Those of one class.
    pub fn class(&self, class: StateClass) -> &Counts {
        &self.0[class.index()]
    }

    /// The same, to be changed.
    pub fn class_mut(&mut self, class: StateClass) -> &mut Counts {
        &mut self.0[class.index()]
    }

    /// Those of all classes together.
    pub fn total(&self) -> Counts {
        self.0.iter().fold(Counts::default(), |mut sum, counts| {
            sum.add_all(counts);
            sum
        })
    }

    fn add_all(&mut self, others: &Self) {
        self.0.iter_mut().zip(&others.0).for_each(|(own, other)| own.add_all(other));
    }
}

impl Sum for ClassCounts {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        each.fold(Self::default(), |mut sum, counts| {
            sum.add_all(&counts);
            sum
        })
    }
}

/// Which counters a recording has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters([bool; Counter::ALL.len()]);

impl Counters {
    /// These and no others.
    pub fn these(counters: &[Counter]) -> Self {
        let mut these = Self::default();
        counters.iter().for_each(|counter| these.0[counter.index()] = true);
        these
    }

    /// Those, and what `others` have.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        let mut all = self;
        all.0.iter_mut().zip(others.0).for_each(|(own, other)| *own |= other);
        all
    }

    /// Those that `others` has as well.
    #[must_use]
    pub fn among(self, others: Self) -> Self {
        let mut both = self;
        both.0.iter_mut().zip(others.0).for_each(|(own, other)| *own &= other);
        both
    }

    /// Those that `others` has not.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        let mut rest = self;
        rest.0.iter_mut().zip(others.0).for_each(|(own, other)| *own &= !other);
        rest
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        !self.0.contains(&true)
    }

    /// All that it has, in their customary order.
    pub fn iter(self) -> impl Iterator<Item = Counter> {
        Counter::ALL.into_iter().filter(move |counter| self.has(*counter))
    }

    /// Whether it has this one.
    pub fn has(self, counter: Counter) -> bool {
        self.0[counter.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::{ClassCounts, Counter, Counters};
    use crate::model::state::StateClass;

    #[test]
    fn every_counter_has_its_own_slot_in_every_class() {
        let mut counts = ClassCounts::default();
        for (number, (class, counter)) in
            (1..).zip(StateClass::ALL.into_iter().flat_map(|class| Counter::ALL.map(|counter| (class, counter))))
        {
            counts.class_mut(class).add(counter, number);
        }
        assert_eq!(counts.class(StateClass::Inside).get(Counter::Migrations), 5);
        // 1 + 6 + 11 + 16
        assert_eq!(counts.total().get(Counter::TaskClock), 34);
        let mut inside = *counts.class(StateClass::Inside);
        inside.take_all(counts.class(StateClass::Waiting));
        assert!(Counter::ALL.iter().all(|counter| inside.get(*counter) == 0));
    }

    #[test]
    fn only_what_is_counted_is_had() {
        let counted = Counters::these(&[Counter::MinorFaults]);
        assert!(counted.has(Counter::MinorFaults) && !counted.has(Counter::MajorFaults));
        let all = Counters::these(&Counter::ALL);
        assert_eq!((all.among(counted), counted.with(all.without(counted))), (counted, all));
        assert!(counted.without(all).is_empty() && !all.is_empty());
    }
}
