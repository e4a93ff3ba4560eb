//! The longest single holds: when, how long, who, whom it kept waiting, and where.

use crate::{
    model::{
        profile::{LockProfile, LongHold, Profile},
        time::Nanos,
    },
    report::{
        charge::acting_frame,
        kinds::Kinds,
        names::{ThreadNames, clean},
        text::{
            table::{Lean, omitted, titled},
            words::count,
        },
    },
};

/// Rows of the table.
const MOST: usize = 5;

const COLUMNS: [(&str, Lean); 7] = [
    ("at", Lean::Right),
    ("held", Lean::Right),
    ("kept\nwaiting", Lean::Right),
    ("for", Lean::Right),
    ("mostly", Lean::Left),
    ("thread", Lean::Left),
    ("in", Lean::Left),
];

/// The section; empty when there was no hold at all.
pub(super) fn section(profile: &Profile, names: &ThreadNames<'_>, width: u16) -> String {
    let sum = |number: fn(&LockProfile) -> u64| profile.locks.iter().map(number).sum::<u64>();
    let (long, all) = (sum(|lock| lock.long_holds), sum(|lock| lock.holds));
    let threshold = profile.long_hold_threshold;
    match (long, all) {
        (_, 0) => String::new(),
        (0, _) => format!("No hold lasted {threshold} or longer (--long-hold)."),
        _ => {
            let heading =
                format!("Long holds: {} of {} lasted {threshold} or longer (--long-hold)", count(long), count(all));
            let kinds = Kinds::of(profile);
            let rows: Vec<_> =
                profile.long_holds.iter().take(MOST).map(|hold| row(&kinds, (profile, names), hold)).collect();
            let more = omitted(usize::try_from(long).unwrap_or(usize::MAX), rows.len(), "long hold");
            titled(&heading, &COLUMNS, rows, width) + &more
        }
    }
}

fn row(kinds: &Kinds<'_>, (profile, names): (&Profile, &ThreadNames<'_>), hold: &LongHold) -> Vec<String> {
    let waited = if hold.waited == Nanos::ZERO { "–".to_owned() } else { hold.waited.to_string() };
    vec![
        format!("+{}", hold.start),
        hold.duration.to_string(),
        hold.waiters.to_string(),
        waited,
        clean(&kinds.long_hold(hold).words()),
        names.short(Some(hold.tid), 12, " "),
        clean(&acting_frame(&profile.stacks, Some(hold.stack)).to_string()),
    ]
}
