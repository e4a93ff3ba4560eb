//! What was counted beside time: of all threads by class of states, of single threads and functions, and what could not be.

mod columns;
mod functions;
mod threads;

use crate::{
    model::{
        counts::{ClassCounts, Counter, GoneEvent},
        profile::Profile,
        state::StateClass,
        time::Nanos,
    },
    report::{
        names::clean,
        ratios::{Known, Ratio},
        text::{
            counters::columns::Column,
            table::{Lean, titled},
            words::{amount, count, wrapped},
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

/// The section; empty when nothing was to be counted.
pub(super) fn section(profile: &Profile, width: u16) -> String {
    let counted = match profile.counts() {
        _ if profile.counters.is_empty() => Vec::new(),
        None => vec!["Counters: unknown, since records of some threads were lost.".to_owned()],
        Some(counts) => tables(profile, &counts, width),
    };
    let parts = counted.into_iter().chain([gone(profile, width)]);
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn tables(profile: &Profile, counts: &ClassCounts, width: u16) -> Vec<String> {
    let known = Known::of(profile, counts.missing());
    let holds: u64 = profile.threads.iter().map(|thread| thread.holds).sum();
    let holds = Some(holds).filter(|holds| *holds > 0 && profile.counted.holds());
    let counters = profile.counters.iter().map(|counter| row((counts, counter), holds, profile));
    let ratios = Ratio::ALL.into_iter().filter(|ratio| !ratio.counters(known).is_empty());
    let rows = counters.chain(ratios.map(|ratio| ratio_row(ratio, counts, known))).collect();
    let classes = titled("Counters", &COLUMNS, rows, width);
    vec![classes, threads::section(profile, known, width), functions::section(profile, known, width)]
}

fn row((counts, counter): (&ClassCounts, Counter), holds: Option<u64>, profile: &Profile) -> Vec<String> {
    let name = clean(counter.name(&profile.measured));
    if counts.missing().has(counter) {
        return [name].into_iter().chain(std::iter::repeat_n("unknown".to_owned(), 5)).collect();
    }
    let amount = |number: u64| match counter {
        Counter::TaskClock => Nanos::from_nanos(number).to_string(),
        Counter::Measured(_) => amount(number),
        _ => count(number),
    };
    let classes = StateClass::ALL.map(|class| counts.class(class).get(counter));
    let each = holds.map(|holds| u128::from(classes[0]) * 1000 / u128::from(holds));
    let each = each.and_then(|each| u64::try_from(each).ok()).map_or_else(|| "–".to_owned(), amount);
    std::iter::once(name).chain(classes.map(amount)).chain([each]).collect()
}

fn ratio_row(ratio: Ratio, counts: &ClassCounts, known: Known<'_>) -> Vec<String> {
    let classes = StateClass::ALL.map(|class| columns::ratio(ratio, counts.class(class), known));
    let name = Column::Ratio(ratio).heading(&[]).replace('\n', " ");
    std::iter::once(name).chain(classes).chain(["–".to_owned()]).collect()
}

/// What could not be counted, by reasons, and what was instead; empty when there was nothing.
fn gone(profile: &Profile, width: u16) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for GoneEvent { name, why } in &profile.gone {
        match reasons.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    if reasons.is_empty() {
        return String::new();
    }
    let each: Vec<String> = reasons.iter().map(|(why, names)| format!("{}: {why}", names.join(", "))).collect();
    let counted: Vec<&str> = profile.counters.iter().map(|counter| counter.name(&profile.measured)).collect();
    let is_replaced = profile.measured.is_empty() && !counted.is_empty();
    let instead = if is_replaced { format!("; counted instead: {}", counted.join(", ")) } else { String::new() };
    wrapped("", &clean(&format!("Not counted: {}{instead}", each.join("; "))), width.into())
}
