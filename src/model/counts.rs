//! What is counted of each thread beside time: by class of states, and as a whole.
//!
//! Five counters are gilscope's own; up to [`Slot::COUNT`] others are events that the kernel's perf subsystem counts, processors'
//! or its own, as the user has chosen. Those are known by their place in the list of the recording's [`Measured`] events.

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
    /// What the recording's event at this place counts.
    Measured(Slot),
}

/// A place in the list of events that a recording measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// Places that there are: no processor counts more events of the user's choice at a time.
    pub const COUNT: usize = 8;

    /// The place with this number; `None` beyond the last.
    pub const fn at(index: usize) -> Option<Self> {
        if index < Self::COUNT { Some(Self(index as u8)) } else { None }
    }

    /// Its number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).filter_map(Self::at)
    }
}

/// An event that a recording measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// As the user named it.
    pub name: String,
    /// What it says about a processor's work, if it is one of those that are known to.
    pub meaning: Option<Meaning>,
    /// In whose code it counts.
    pub place: CountedPlace,
}

/// In whose code an event counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CountedPlace {
    /// In the program's and in the kernel's, which not every user may.
    Everywhere,
    /// In the program's alone.
    Program,
    /// In the kernel's alone.
    Kernel,
}

/// An event that was to be measured, and cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneEvent {
    /// As the user named it.
    pub name: String,
    /// Why, in words.
    pub why: String,
}

/// What an event of a processor says about its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// Cycles of its clock.
    Cycles,
    /// Instructions that were retired.
    Instructions,
    /// Looks into the last cache.
    CacheReferences,
    /// Those that did not find there what they looked for.
    CacheMisses,
    /// Branches that were retired.
    Branches,
    /// Those that were predicted wrongly.
    BranchMisses,
    /// Cycles in which nothing could be issued for want of instructions.
    StalledFrontend,
    /// Cycles in which nothing could be issued for want of resources or data.
    StalledBackend,
}

/// What all events of a recording have counted of a thread since the last time it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measures(pub [u64; Slot::COUNT]);

impl Counter {
    /// Those that every recording can have, in their customary order.
    pub const OWN: [Self; 5] =
        [Self::TaskClock, Self::MinorFaults, Self::MajorFaults, Self::ContextSwitches, Self::Migrations];
    const COUNT: usize = Self::OWN.len() + Slot::COUNT;

    /// The name that `perf` has made known, or that the user gave to one of `measured`.
    pub fn name(self, measured: &[Measured]) -> &str {
        match self {
            Self::TaskClock => "task-clock",
            Self::MinorFaults => "minor-faults",
            Self::MajorFaults => "major-faults",
            Self::ContextSwitches => "context-switches",
            Self::Migrations => "cpu-migrations",
            Self::Measured(slot) => measured.get(slot.index()).map_or("unnamed", |event| event.name.as_str()),
        }
    }

    /// All that there can be, in their customary order.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::OWN.into_iter().chain(Slot::all().map(Self::Measured))
    }

    const fn index(self) -> usize {
        match self {
            Self::TaskClock => 0,
            Self::MinorFaults => 1,
            Self::MajorFaults => 2,
            Self::ContextSwitches => 3,
            Self::Migrations => 4,
            Self::Measured(slot) => Self::OWN.len() + slot.index(),
        }
    }
}

/// A number for each counter. Sums stop at the largest: only what a target makes up can come near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts([u64; Counter::COUNT]);

impl Counts {
    /// How many.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter.index()]
    }

    /// So many more.
    pub fn add(&mut self, counter: Counter, count: u64) {
        let own = &mut self.0[counter.index()];
        *own = own.saturating_add(count);
    }

    /// What the recording's events have counted, more.
    pub fn add_measures(&mut self, measures: &Measures) {
        self.0[Counter::OWN.len()..].iter_mut().zip(measures.0).for_each(|(own, more)| *own = own.saturating_add(more));
    }

    /// All of `others` more.
    pub fn add_all(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(own, other)| *own = own.saturating_add(other));
    }

    /// Each made into another number.
    #[must_use]
    pub fn map(self, each: impl Fn(u64) -> u64) -> Self {
        Self(self.0.map(each))
    }

    /// At most all of `others` less.
    pub fn take_all(&mut self, others: &Self) {
        self.0.iter_mut().zip(others.0).for_each(|(own, other)| *own = own.saturating_sub(other));
    }
}

/// Counts by class of states: each counter's four numbers sum up to what it counted of the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClassCounts {
    by_class: [Counts; StateClass::ALL.len()],
    missing: Counters,
    /// Whether the recording's events have told anything at all of whom they counted.
    told: bool,
}

impl ClassCounts {
    /// Those of one class.
    pub fn class(&self, class: StateClass) -> &Counts {
        &self.by_class[class.index()]
    }

    /// The same, to be changed.
    pub fn class_mut(&mut self, class: StateClass) -> &mut Counts {
        &mut self.by_class[class.index()]
    }

    /// Those of all classes together.
    pub fn total(&self) -> Counts {
        self.by_class.iter().fold(Counts::default(), |mut sum, counts| {
            sum.add_all(counts);
            sum
        })
    }

    /// The counters that did not count all the time, so that their numbers say nothing.
    pub fn missing(&self) -> Counters {
        self.missing
    }

    /// These did not count all the time.
    pub fn miss(&mut self, counters: Counters) {
        self.missing = self.missing.with(counters);
    }

    /// So much of what the recording's events count more, in one class.
    pub fn measure(&mut self, class: StateClass, measures: &Measures) {
        self.class_mut(class).add_measures(measures);
        self.told = true;
    }

    /// The same, as if all counters had counted all the time.
    #[must_use]
    pub fn nothing_missing(self) -> Self {
        Self { missing: Counters::default(), ..self }
    }

    /// Whether the recording's events have told anything of it.
    pub fn told(&self) -> bool {
        self.told
    }

    fn add_all(&mut self, others: &Self) {
        self.told |= others.told;
        self.by_class.iter_mut().zip(&others.by_class).for_each(|(own, other)| own.add_all(other));
        self.miss(others.missing);
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
pub struct Counters([bool; Counter::COUNT]);

impl Counters {
    /// These and no others.
    pub fn these(counters: &[Counter]) -> Self {
        let mut these = Self::default();
        counters.iter().for_each(|counter| these.0[counter.index()] = true);
        these
    }

    /// All events that a recording of so many measures.
    pub fn measured(count: usize) -> Self {
        let mut these = Self::default();
        Slot::all().take(count).for_each(|slot| these.0[Counter::Measured(slot).index()] = true);
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
        Counter::all().filter(move |counter| self.has(*counter))
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
            (1..).zip(StateClass::ALL.into_iter().flat_map(|class| Counter::OWN.map(|counter| (class, counter))))
        {
            counts.class_mut(class).add(counter, number);
        }
        assert_eq!(counts.class(StateClass::Inside).get(Counter::Migrations), 5);
        // 1 + 6 + 11 + 16
        assert_eq!(counts.total().get(Counter::TaskClock), 34);
        let mut inside = *counts.class(StateClass::Inside);
        inside.take_all(counts.class(StateClass::Waiting));
        assert!(Counter::OWN.iter().all(|counter| inside.get(*counter) == 0));
    }

    #[test]
    fn only_what_is_counted_is_had() {
        let counted = Counters::these(&[Counter::MinorFaults]);
        assert!(counted.has(Counter::MinorFaults) && !counted.has(Counter::MajorFaults));
        let all = Counters::these(&Counter::OWN);
        assert_eq!((all.among(counted), counted.with(all.without(counted))), (counted, all));
        assert!(counted.without(all).is_empty() && !all.is_empty());
    }
}
