//! What was counted while functions held the lock, of those in whose holds most of it was.

use std::cmp::Reverse;

use crate::{
    model::{
        counts::{Counter, Meaning, Measured},
        profile::Profile,
        state::State,
    },
    report::{
        functions::{FunctionCost, function_costs},
        ratios::{Known, per_hold},
        text::{
            counters::columns::{Column, Filled, fitted},
            table::{Lean, omitted},
            words::{amount, holds_of, place},
        },
    },
};

/// Rows of the table.
const MOST: usize = 8;
/// Fewer page faults, switches or migrations than that take no time worth a table.
const WORTH_SHOWING: u64 = 1_000;
/// Functions with a smaller part of what the table is sorted by are left out: one in so many.
const SMALLEST: u64 = 100;

/// The section; empty when nothing was counted that matters.
pub(super) fn section(profile: &Profile, known: Known<'_>, width: u16) -> String {
    let mut costs = function_costs(profile);
    costs.retain(|cost| cost.seen.holds > 0);
    let Some((lead, words)) = lead(&costs, known, &profile.measured) else {
        return String::new();
    };
    let of = |cost: &FunctionCost<'_>| lead.count(&cost.seen.counts, known);
    let whole = costs.iter().map(of).sum::<u64>();
    costs.retain(|cost| of(cost) > 0 && of(cost) >= whole / SMALLEST);
    costs.sort_by_key(|cost| Reverse(of(cost)));
    let all = costs.len();
    costs.truncate(MOST);
    let heading = format!("Functions by {words} inside, in the holds they were seen in");
    let (others, (holds, names)) = (counted(&costs, profile, known), fixed(&costs, profile));
    fitted(&heading, vec![holds], others, Some(names), width) + &omitted(all, MOST, "function")
}

/// By what to sort: cycles tell all of a function's work; what the user has chosen matters, of the others there must be enough.
fn lead(costs: &[FunctionCost<'_>], known: Known<'_>, measured: &[Measured]) -> Option<(Column, String)> {
    let work = [(Meaning::Cycles, "cycles"), (Meaning::Instructions, "instructions")];
    let work = work.map(|(meaning, words)| Some((Column::Count(known.counter(meaning)?), words.to_owned(), 1)));
    let counted = Column::of(known);
    let is_chosen = |column: &&Column| matches!(column, Column::Count(Counter::Measured(_)));
    let chosen = counted.iter().filter(is_chosen).map(|column| (*column, column.heading(measured), 1));
    let own = [
        (Column::PageFaults, "page faults"),
        (Column::Count(Counter::ContextSwitches), "context switches"),
        (Column::Count(Counter::Migrations), "migrations"),
    ];
    let own = own.into_iter().filter(|(column, _)| counted.contains(column));
    let own = own.map(|(column, words)| (column, words.to_owned(), WORTH_SHOWING));
    let total = |column: Column| costs.iter().map(|cost| column.count(&cost.seen.counts, known)).sum::<u64>();
    let mut candidates = work.into_iter().flatten().chain(chosen).chain(own);
    candidates.find(|(column, _, least)| total(*column) >= *least).map(|(column, words, _)| (column, words))
}

/// What is known of every function: its holds, and its name.
fn fixed(costs: &[FunctionCost<'_>], profile: &Profile) -> (Filled, Filled) {
    let holds = costs.iter().map(|cost| holds_of(profile, cost.seen.holds)).collect();
    let names = costs.iter().map(|cost| place(cost.function, cost.file)).collect();
    (
        Filled { heading: "holds\nseen".to_owned(), lean: Lean::Right, cells: holds },
        Filled { heading: "function".to_owned(), lean: Lean::Left, cells: names },
    )
}

/// What was counted of them, the most telling first, as far as it happened.
fn counted(costs: &[FunctionCost<'_>], profile: &Profile, known: Known<'_>) -> Vec<Filled> {
    let right = |heading: String, cells| Filled { heading, lean: Lean::Right, cells };
    let happened = |column: &Column| costs.iter().any(|cost| column.count(&cost.seen.counts, known) > 0);
    let columns = Column::of(known).into_iter().filter(happened);
    let cells = |column: Column| costs.iter().map(|cost| column.cell(&cost.seen.counts, known)).collect();
    let mut filled: Vec<Filled> =
        columns.map(|column| right(column.heading(&profile.measured), cells(column))).collect();
    if let Some(cycles) = known.counter(Meaning::Cycles).filter(|_| profile.counted.holds()) {
        let each = |cost: &FunctionCost<'_>| per_hold(cost.seen.counts.get(cycles), cost.seen.holds);
        let each = |cost| each(cost).map_or_else(|| "–".to_owned(), |cycles| amount(cycles.round() as u64));
        filled.insert(0, right("cycles\na hold".to_owned(), costs.iter().map(each).collect()));
    }
    if profile.counters.has(Counter::TaskClock) {
        let on_cpu = costs.iter().map(|cost| cost.states.get(State::HeldRunning).to_string()).collect();
        filled.push(right("CPU time\ninside".to_owned(), on_cpu));
    }
    filled
}
