//! What counts of a processor's events say about its work: instructions per cycle, misses per thousand instructions and the
//! like.
//!
//! Invariant: two counts are put into a relation only if both were counted all the time, in the same code; what cannot be known
//! is `None`, and so is a relation to nothing.

use crate::model::{
    counts::{CountedPlace, Counter, Counters, Counts, Meaning, Measured, Slot},
    profile::{Profile, ThreadProfile},
    state::{State, StateClass},
};

/// A relation of two counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ratio {
    /// Instructions per cycle.
    Ipc,
    /// Cache misses per thousand instructions.
    CacheMisses,
    /// The part of looks into the cache that missed.
    CacheMissRate,
    /// Wrongly predicted branches per thousand instructions.
    BranchMisses,
    /// The part of all cycles in which nothing could be issued, on that side of the processor where it is larger: the two may
    /// overlap, so that their sum says nothing.
    Stalled,
}

impl Ratio {
    /// All of them, in their customary order.
    pub(super) const ALL: [Self; 5] =
        [Self::Ipc, Self::CacheMisses, Self::CacheMissRate, Self::BranchMisses, Self::Stalled];

    /// The name used in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::CacheMisses => "cache_misses_per_1000_instructions",
            Self::CacheMissRate => "cache_miss_rate",
            Self::BranchMisses => "branch_misses_per_1000_instructions",
            Self::Stalled => "stalled_share",
        }
    }

    /// What it is of `counts`.
    pub(super) fn of(self, counts: &Counts, known: Known<'_>) -> Option<f64> {
        let each = self.parts().iter().filter_map(|(part, whole)| known.ratio(counts, *part, *whole));
        Some(each.reduce(f64::max)? * self.scale())
    }

    /// The counters that it takes, if it can be known.
    pub(super) fn counters(self, known: Known<'_>) -> Counters {
        let pairs = self.parts().iter().filter_map(|(part, whole)| known.pair(*part, *whole));
        pairs.fold(Counters::default(), |all, pair| all.with(Counters::these(&pair)))
    }

    const fn parts(self) -> &'static [(Meaning, Meaning)] {
        match self {
            Self::Ipc => &[(Meaning::Instructions, Meaning::Cycles)],
            Self::CacheMisses => &[(Meaning::CacheMisses, Meaning::Instructions)],
            Self::CacheMissRate => &[(Meaning::CacheMisses, Meaning::CacheReferences)],
            Self::BranchMisses => &[(Meaning::BranchMisses, Meaning::Instructions)],
            Self::Stalled => &[(Meaning::StalledFrontend, Meaning::Cycles), (Meaning::StalledBackend, Meaning::Cycles)],
        }
    }

    const fn scale(self) -> f64 {
        match self {
            Self::CacheMisses | Self::BranchMisses => 1000.0,
            Self::Ipc | Self::CacheMissRate | Self::Stalled => 1.0,
        }
    }
}

/// The counters whose numbers say something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    counters: Counters,
    measured: &'a [Measured],
}

impl<'a> Known<'a> {
    /// Those of a recording but for `missing` ones.
    pub(super) fn of(profile: &'a Profile, missing: Counters) -> Self {
        Self { counters: profile.counters.without(missing), measured: &profile.measured }
    }

    /// These, of a recording that measures `measured`.
    pub(super) fn these(counters: Counters, measured: &'a [Measured]) -> Self {
        Self { counters, measured }
    }

    /// Those alone that count in the program's code, or in it and the kernel's.
    pub(super) fn of_the_program(self) -> Self {
        let of_kernel = Slot::all().filter(|slot| self.place(*slot) == Some(CountedPlace::Kernel));
        let of_kernel: Vec<Counter> = of_kernel.map(Counter::Measured).collect();
        Self { counters: self.counters.without(Counters::these(&of_kernel)), ..self }
    }

    /// All of them.
    pub(super) fn counters(self) -> Counters {
        self.counters
    }

    /// How much of what `whole` counted `part` did; `None` when that is not known, or `whole` counted nothing.
    pub(super) fn ratio(self, counts: &Counts, part: Meaning, whole: Meaning) -> Option<f64> {
        let [part, whole] = self.pair(part, whole)?.map(|counter| counts.get(counter));
        (whole > 0).then(|| part as f64 / whole as f64)
    }

    /// The two counters with these meanings that count in the same code.
    fn pair(self, part: Meaning, whole: Meaning) -> Option<[Counter; 2]> {
        let ends = self.with_meaning(part).flat_map(|part| self.with_meaning(whole).map(move |whole| (part, whole)));
        let mut alike = ends.filter(|(part, whole)| self.place(*part) == self.place(*whole));
        alike.next().map(|(part, whole)| [part, whole].map(Counter::Measured))
    }

    /// The counter with this meaning, if there is one.
    pub(super) fn counter(self, meaning: Meaning) -> Option<Counter> {
        self.with_meaning(meaning).next().map(Counter::Measured)
    }

    fn with_meaning(self, meaning: Meaning) -> impl Iterator<Item = Slot> {
        let has = move |slot: &Slot| self.counters.has(Counter::Measured(*slot));
        let means = move |slot: &Slot| self.measured.get(slot.index())?.meaning;
        Slot::all().filter(has).filter(move |slot| means(slot) == Some(meaning))
    }

    fn place(self, slot: Slot) -> Option<CountedPlace> {
        self.measured.get(slot.index()).map(|event| event.place)
    }
}

/// How much falls on each of so many holds.
pub(super) fn per_hold(count: u64, holds: u64) -> Option<f64> {
    (holds > 0).then(|| count as f64 / holds as f64)
}

/// The part of its life that the thread was on a CPU in this class of states; `None` where that is not known. In windows nobody
/// knows how much of it waiters were.
pub(super) fn cpu_share(thread: &ThreadProfile, class: StateClass, profile: &Profile) -> Option<f64> {
    let is_known = profile.counters.has(Counter::TaskClock) && !thread.is_undivided() && thread.lifetime.as_nanos() > 0;
    let on_cpu = match class {
        StateClass::Inside => thread.states.get(State::HeldRunning).as_nanos(),
        StateClass::Outside => thread.states.get(State::OutsideRunning).as_nanos(),
        StateClass::Waiting if profile.exact => thread.counts?.class(class).get(Counter::TaskClock),
        StateClass::Waiting | StateClass::Unknown => return None,
    };
    is_known.then(|| on_cpu as f64 / thread.lifetime.as_nanos() as f64)
}

#[cfg(test)]
mod tests;
