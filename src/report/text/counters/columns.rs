//! Columns of counts and of what they say, as many as there is room for.

use crate::{
    model::counts::{Counter, Counters, Counts, Measured},
    report::{
        names::{clean, shortened},
        ratios::{Known, Ratio},
        text::{
            table::{Lean, omitted, titled},
            words::{amount, count, figure, percent},
        },
    },
};

/// What a table leaves around each cell.
const AROUND: usize = 3;
/// A name that the user gave, as long as a heading can be.
const NAME: usize = 16;
/// A column of words keeps at least so much room.
const WORDS: usize = 18;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Ratio(Ratio),
    /// Of both kinds.
    PageFaults,
    Count(Counter),
}

impl Column {
    /// All that can be known, the most telling first: relations, what the user has chosen and is no part of one, and the rest.
    pub(super) fn of(known: Known<'_>) -> Vec<Self> {
        let ratios: Vec<Ratio> = Ratio::ALL.into_iter().filter(|ratio| !ratio.counters(known).is_empty()).collect();
        let told = ratios.iter().fold(Counters::default(), |told, ratio| told.with(ratio.counters(known)));
        let own = [Counter::MajorFaults, Counter::ContextSwitches, Counter::Migrations].map(Self::Count);
        let has = |column: &Self| match column {
            Self::Count(counter) => known.counters().has(*counter),
            _ => !faults(known).is_empty(),
        };
        let own = [Self::PageFaults].into_iter().chain(own).filter(has);
        let others = known.counters().without(told).iter().filter(|counter| matches!(counter, Counter::Measured(_)));
        let (first, later) = ratios.split_at(ratios.len().min(2));
        let ratios = |of: &[Ratio]| of.iter().copied().map(Self::Ratio).collect::<Vec<_>>();
        ratios(first).into_iter().chain(others.map(Self::Count)).chain(own).chain(ratios(later)).collect()
    }

    pub(super) fn heading(self, measured: &[Measured]) -> String {
        match self {
            Self::Ratio(Ratio::Ipc) => "IPC".to_owned(),
            Self::Ratio(Ratio::CacheMisses) => "cache misses\n/1 000 instr.".to_owned(),
            Self::Ratio(Ratio::CacheMissRate) => "cache\nmiss rate".to_owned(),
            Self::Ratio(Ratio::BranchMisses) => "branch misses\n/1 000 instr.".to_owned(),
            Self::Ratio(Ratio::Stalled) => "stalled\ncycles".to_owned(),
            Self::PageFaults => "page\nfaults".to_owned(),
            Self::Count(Counter::MajorFaults) => "major".to_owned(),
            Self::Count(Counter::ContextSwitches) => "context\nswitches".to_owned(),
            Self::Count(Counter::Migrations) => "CPU mi-\ngrations".to_owned(),
            Self::Count(counter) => shortened(&clean(counter.name(measured)), NAME),
        }
    }

    /// What is so of `counts`.
    pub(super) fn cell(self, counts: &Counts, known: Known<'_>) -> String {
        match self {
            Self::Ratio(ratio) => self::ratio(ratio, counts, known),
            Self::PageFaults => count(self.count(counts, known)),
            Self::Count(Counter::Measured(_)) => amount(self.count(counts, known)),
            Self::Count(_) => count(self.count(counts, known)),
        }
    }

    /// How much was counted; of a relation, how much it rests on.
    pub(super) fn count(self, counts: &Counts, known: Known<'_>) -> u64 {
        let counters = match self {
            Self::Ratio(ratio) => ratio.counters(known),
            Self::PageFaults => faults(known),
            Self::Count(counter) => Counters::these(&[counter]),
        };
        counters.iter().map(|counter| counts.get(counter)).sum()
    }
}

/// The kinds of page faults that were counted.
fn faults(known: Known<'_>) -> Counters {
    known.counters().among(Counters::these(&[Counter::MinorFaults, Counter::MajorFaults]))
}

/// A relation in words; of what did not happen there is none.
pub(super) fn ratio(ratio: Ratio, counts: &Counts, known: Known<'_>) -> String {
    let shown = match ratio {
        Ratio::CacheMissRate | Ratio::Stalled => percent,
        Ratio::Ipc | Ratio::CacheMisses | Ratio::BranchMisses => figure,
    };
    ratio.of(counts, known).map_or_else(|| "–".to_owned(), shown)
}

/// A column with its cells.
pub(super) struct Filled {
    pub(super) heading: String,
    pub(super) lean: Lean,
    pub(super) cells: Vec<String>,
}

impl Filled {
    fn room(&self) -> usize {
        let lines = self.cells.iter().chain([&self.heading]).flat_map(|cell| cell.lines());
        let longest = lines.map(|line| line.chars().count()).max().unwrap_or(0);
        AROUND + if self.lean == Lean::Left { longest.min(WORDS) } else { longest }
    }
}

/// A table of the columns `first`, of as many of the `others` as there is room for, and of `last`.
pub(super) fn fitted(
    heading: &str,
    first: Vec<Filled>,
    others: Vec<Filled>,
    last: Option<Filled>,
    width: u16,
) -> String {
    let fixed: usize = first.iter().chain(&last).map(Filled::room).sum();
    let (mut room, all) = (usize::from(width).saturating_sub(1 + fixed), others.len());
    let fits = |column: &Filled| match room.checked_sub(column.room()) {
        Some(rest) => {
            room = rest;
            true
        }
        None => false,
    };
    let others: Vec<Filled> = others.into_iter().take_while(fits).collect();
    let left_out = omitted(all, others.len(), "column");
    let columns: Vec<Filled> = first.into_iter().chain(others).chain(last).collect();
    let rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    let row = |row: usize| columns.iter().map(|column| column.cells.get(row).cloned().unwrap_or_default()).collect();
    let headings: Vec<(&str, Lean)> = columns.iter().map(|column| (column.heading.as_str(), column.lean)).collect();
    titled(heading, &headings, (0..rows).map(row).collect(), width) + &left_out
}
