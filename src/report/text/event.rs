//! The event that was sampled: how it divides over inside, waiting and outside, and which functions it comes in.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    model::{
        profile::Profile,
        sampled_event::{EventProfile, EventUnit, Pace},
        state::StateClass,
        time::Nanos,
    },
    report::{
        charge::acting_frame,
        names::clean,
        text::{
            table::{Lean, omitted, titled},
            words::{count, place, share_of, wrapped},
        },
    },
};

/// Rows of the table, beside that of all functions.
const MOST: usize = 8;

const COLUMNS: [(&str, Lean); 6] = [
    ("inside", Lean::Right),
    ("share", Lean::Right),
    ("waiting", Lean::Right),
    ("outside", Lean::Right),
    ("unknown", Lean::Right),
    ("function", Lean::Left),
];

/// By class, in customary order.
type Amounts = [u64; StateClass::ALL.len()];

/// The section; empty when nothing was sampled.
pub(super) fn section(profile: &Profile, width: u16) -> String {
    let Some(event) = &profile.event else { return String::new() };
    let heading = wrapped("", &heading(event), width.into());
    let mut functions: BTreeMap<(&str, &str), Amounts> = BTreeMap::new();
    for row in &event.sums.rows {
        let frame = acting_frame(&profile.stacks, Some(row.stack));
        let amounts = functions.entry((&frame.function, &frame.file)).or_default();
        StateClass::ALL
            .iter()
            .zip(amounts)
            .filter(|(class, _)| **class == row.class)
            .for_each(|(_, amount)| *amount += row.weight);
    }
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by_key(|(_, amounts)| Reverse((amounts[0], amounts.iter().sum::<u64>())));
    let all = StateClass::ALL.map(|class| event.sums.class(class));
    let unit = event.event.unit;
    let rows =
        functions.iter().take(MOST).map(|((function, file), amounts)| row(unit, *amounts, &place(function, file)));
    let rows = std::iter::once(row(unit, all, "(all)")).chain(rows).collect();
    titled(&heading, &COLUMNS, rows, width) + &omitted(functions.len(), MOST, "function")
}

fn row(unit: EventUnit, amounts: Amounts, name: &str) -> Vec<String> {
    let [inside, waiting, outside, unknown] = amounts.map(|amount| unit.shown(amount, count));
    vec![inside, share_of(amounts[0], amounts.iter().sum()), waiting, outside, unknown, name.to_owned()]
}

fn heading(profile: &EventProfile) -> String {
    let EventProfile { event, sums, counted } = profile;
    let unit = event.unit;
    let pace = match (event.pace, unit) {
        (Pace::Period(1), EventUnit::Times) => "each sampled".to_owned(),
        (Pace::Period(period), EventUnit::Times) => format!("every {} sampled", ordinal(period)),
        (Pace::Period(period), EventUnit::Nanos) => format!("sampled every {}", Nanos::from_nanos(period)),
        (Pace::Frequency(hertz), _) => format!("sampled {} times a second", count(hertz.into())),
    };
    let instead = event.instead_of.as_ref().map(|gone| format!(" (in place of {}: {})", clean(&gone.name), gone.why));
    let counted = counted.map(|counted| format!("; the kernel counted {}", unit.shown(counted, count)));
    format!(
        "{}{}, {pace}: {} samples stand for {}{}",
        clean(&event.name),
        instead.unwrap_or_default(),
        count(sums.samples),
        unit.shown(sums.total(), count),
        counted.unwrap_or_default()
    )
}

/// `1 000th`, `22nd`.
fn ordinal(number: u64) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{}{ending}", count(number))
}

#[cfg(test)]
mod tests {
    use super::ordinal;

    #[test]
    fn numbers_are_ordered_as_people_say_it() {
        let said = [1, 2, 3, 4, 11, 12, 21, 100, 1003].map(ordinal);
        assert_eq!(said, ["1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "100th", "1 003rd"]);
    }
}
