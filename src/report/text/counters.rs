//! What was counted beside time, by class of states: page faults, context switches, migrations and time on the CPUs.

use crate::{
    model::{
        counts::{ClassCounts, Counter},
        profile::Profile,
        state::StateClass,
        time::Nanos,
    },
    report::text::{
        table::{Lean, titled},
        words::count,
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

/// The section; empty when nothing was counted.
pub(super) fn section(profile: &Profile, width: u16) -> String {
    if profile.counters.is_empty() {
        return String::new();
    }
    let Some(counts) = total(profile) else {
        return "Counters: unknown, since records of some threads were lost.".to_owned();
    };
    let holds: u64 = profile.threads.iter().map(|thread| thread.holds).sum();
    let holds = Some(holds).filter(|holds| *holds > 0 && profile.counted.holds());
    let rows = profile.counters.iter().map(|counter| row(&counts, counter, holds)).collect();
    titled("Counters", &COLUMNS, rows, width)
}

fn row(counts: &ClassCounts, counter: Counter, holds: Option<u64>) -> Vec<String> {
    let amount = |number: u64| match counter {
        Counter::TaskClock => Nanos::from_nanos(number).to_string(),
        _ => count(number),
    };
    let classes = StateClass::ALL.map(|class| counts.class(class).get(counter));
    let each = holds.map(|holds| u128::from(classes[0]) * 1000 / u128::from(holds));
    let each = each.and_then(|each| u64::try_from(each).ok()).map_or_else(|| "–".to_owned(), amount);
    std::iter::once(counter.name().to_owned()).chain(classes.map(amount)).chain([each]).collect()
}

fn total(profile: &Profile) -> Option<ClassCounts> {
    profile.threads.iter().try_fold(ClassCounts::default(), |mut sum, thread| {
        sum.add_all(&thread.counts?);
        Some(sum)
    })
}
