//! What was counted beside time, by class of states: page faults, context switches, migrations and time on the CPUs.

use std::cmp::Reverse;

use crate::{
    model::{
        counts::{ClassCounts, Counter, Counters},
        profile::Profile,
        state::StateClass,
        time::Nanos,
    },
    report::{
        functions::{FunctionCost, function_costs},
        text::{
            table::{Lean, omitted, titled},
            words::{count, holds_of, place},
        },
    },
};

const COLUMNS: [(&str, Lean); 6] = [
    ("of all threads", Lean::Left),
    ("inside", Lean::Right),
    ("waiting", Lean::Right),
    ("outside", Lean::Right),
    ("unknown", Lean::Right),
    ("inside, in\n1 000 holds", Lean::Right),
];

const FAULT_COLUMNS: [(&str, Lean); 4] =
    [("page faults", Lean::Right), ("major", Lean::Right), ("holds", Lean::Right), ("function", Lean::Left)];
/// Rows of that table.
const MOST: usize = 8;
/// Fewer page faults than that take no time worth a line.
const WORTH_SHOWING: u64 = 1_000;

/// The section; empty when nothing was counted.
pub(super) fn section(profile: &Profile, width: u16) -> String {
    if profile.counters.is_empty() {
        return String::new();
    }
    let Some(counts) = profile.counts() else {
        return "Counters: unknown, since records of some threads were lost.".to_owned();
    };
    let holds: u64 = profile.threads.iter().map(|thread| thread.holds).sum();
    let holds = Some(holds).filter(|holds| *holds > 0 && profile.counted.holds());
    let rows = profile.counters.iter().map(|counter| row((&counts, counter), holds, profile)).collect();
    let table = titled("Counters", &COLUMNS, rows, width);
    let faults = faults_section(profile, width);
    if faults.is_empty() { table } else { format!("{table}\n\n{faults}") }
}

/// The functions in whose holds most page faults came; empty when they are too few to matter.
fn faults_section(profile: &Profile, width: u16) -> String {
    let mut costs = function_costs(profile);
    let faults = |cost: &FunctionCost<'_>| faults(cost, profile.counters);
    costs.retain(|cost| faults(cost) >= WORTH_SHOWING);
    costs.sort_by_key(|cost| Reverse(faults(cost)));
    if costs.is_empty() {
        return String::new();
    }
    let row = |cost: &FunctionCost<'_>| {
        let major = cost.seen.counts.get(Counter::MajorFaults);
        vec![count(faults(cost)), count(major), holds_of(profile, cost.seen.holds), place(cost.function, cost.file)]
    };
    let rows = costs.iter().take(MOST).map(row).collect();
    let heading = "Functions by page faults inside, in the holds they were seen in";
    titled(heading, &FAULT_COLUMNS, rows, width) + &omitted(costs.len(), MOST, "function")
}

/// As far as they were counted.
fn faults(cost: &FunctionCost<'_>, counters: Counters) -> u64 {
    let kinds = counters.among(Counters::these(&[Counter::MinorFaults, Counter::MajorFaults]));
    kinds.iter().map(|kind| cost.seen.counts.get(kind)).sum()
}

fn row((counts, counter): (&ClassCounts, Counter), holds: Option<u64>, profile: &Profile) -> Vec<String> {
    let name = counter.name(&profile.measured).to_owned();
    if counts.missing().has(counter) {
        return [name].into_iter().chain(std::iter::repeat_n("unknown".to_owned(), 5)).collect();
    }
    let amount = |number: u64| match counter {
        Counter::TaskClock => Nanos::from_nanos(number).to_string(),
        _ => count(number),
    };
    let classes = StateClass::ALL.map(|class| counts.class(class).get(counter));
    let each = holds.map(|holds| u128::from(classes[0]) * 1000 / u128::from(holds));
    let each = each.and_then(|each| u64::try_from(each).ok()).map_or_else(|| "–".to_owned(), amount);
    std::iter::once(name).chain(classes.map(amount)).chain([each]).collect()
}
