//! Numbers of events and counts of threads and holds, as far as the recording has them; null for all others.

use crate::{
    model::{
        counts::{ClassCounts, Counter, Counters, Counts, Measured},
        profile::{Counted, HoldTally, Profile},
        state::StateClass,
    },
    report::{
        json::rounded,
        ratios::{Known, Ratio, per_hold},
        schema,
    },
};

/// Which events the source sees one by one: else a number of them is null.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counting<'a> {
    steps: Counted,
    /// What was counted of threads.
    pub(super) counters: Counters,
    /// What was counted of holds; `None`: nothing, or some was lost.
    of_holds: Option<Counters>,
    measured: &'a [Measured],
}

impl<'a> Counting<'a> {
    pub(super) fn of_profile(profile: &'a Profile) -> Self {
        let counters = profile.counters;
        let of_holds = profile.counts().map(|counts| counters.without(counts.missing()));
        Self { steps: profile.counted, counters, of_holds, measured: &profile.measured }
    }

    /// What was counted during holds; their time on a CPU is not told apart.
    pub(super) fn of_holds(self, counts: &Counts) -> Option<schema::Counts<'a>> {
        let complete = self.of_holds?;
        Some(self.amounts(counts, self.counters.without(Counters::these(&[Counter::TaskClock])), complete))
    }

    /// The same for each of so many holds.
    pub(super) fn per_hold(self, tally: &HoldTally) -> Option<schema::Named<Option<f64>, &'a str>> {
        let counts = self.of_holds(&tally.counts)?;
        let holds = self.of(tally.holds).unwrap_or(0);
        let each =
            |(name, count): (_, Option<u64>)| (name, count.and_then(|count| per_hold(count, holds)).map(rounded));
        Some(schema::Named(counts.0.into_iter().map(each).collect()))
    }

    /// What that says of the processor's work.
    pub(super) fn ratios_of_holds(self, counts: &Counts) -> Option<schema::Ratios> {
        Some(ratios(counts, Known::these(self.of_holds?, self.measured)))
    }

    pub(super) fn ratios_by_class(self, counts: &ClassCounts) -> schema::Named<schema::Ratios> {
        let known = Known::these(self.counters.without(counts.missing()), self.measured);
        let of_class = |class: StateClass| (class.name(), ratios(counts.class(class), known));
        schema::Named(StateClass::ALL.into_iter().map(of_class).collect())
    }

    /// What was counted of a thread, in each class of states.
    pub(super) fn by_class(self, counts: &ClassCounts) -> schema::Named<schema::Counts<'a>> {
        let complete = self.counters.without(counts.missing());
        let of_class = |class: StateClass| (class.name(), self.amounts(counts.class(class), self.counters, complete));
        schema::Named(StateClass::ALL.into_iter().map(of_class).collect())
    }

    /// Those of `counters`; of one that is not `complete`, nothing is known.
    fn amounts(self, counts: &Counts, counters: Counters, complete: Counters) -> schema::Counts<'a> {
        let amount =
            |counter| (Counter::name(counter, self.measured), complete.has(counter).then(|| counts.get(counter)));
        schema::Named(counters.iter().map(amount).collect())
    }

    /// Something about the number of holds.
    pub(super) fn of<T>(self, number: T) -> Option<T> {
        self.steps.holds().then_some(number)
    }

    pub(super) fn of_waits(self, number: u64) -> Option<u64> {
        self.steps.waits().then_some(number)
    }
}

/// Relations of these counts; rounded, since the last digits of a fraction say nothing.
fn ratios(counts: &Counts, known: Known<'_>) -> schema::Ratios {
    schema::Named(Ratio::ALL.map(|ratio| (ratio.name(), ratio.of(counts, known).map(rounded))).into())
}
