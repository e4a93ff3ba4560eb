//! Per lock: how much of the window it was held, and how long its holds and waits were.

use crate::{
    model::{
        estimate::{Estimates, Method},
        profile::{Counted, LockProfile, Profile, Spread},
    },
    report::{
        names::clean,
        text::{
            table::{Lean, titled},
            words::{holds_of, share, waits_of},
        },
    },
};

const COLUMNS: [(&str, Lean); 8] = [
    ("lock", Lean::Left),
    ("held", Lean::Right),
    ("contended", Lean::Right),
    ("free", Lean::Right),
    ("unknown", Lean::Right),
    ("holds", Lean::Right),
    ("forced", Lean::Right),
    ("waits", Lean::Right),
];

const SPREAD_COLUMNS: [(&str, Lean); 6] = [
    ("lock", Lean::Left),
    ("", Lean::Left),
    ("p50", Lean::Right),
    ("p90", Lean::Right),
    ("p99", Lean::Right),
    ("max", Lean::Right),
];

/// The section.
pub(super) fn section(profile: &Profile, width: u16) -> String {
    if profile.locks.is_empty() {
        return "No global lock was seen.".to_owned();
    }
    let shares = profile.locks.iter().map(|lock| shares_row(lock, profile)).collect();
    let spreads = profile.locks.iter().flat_map(|lock| spread_rows(lock, profile.counted)).collect();
    let (estimated, whole) = match &profile.estimates {
        Some(Estimates { method: Method::Windows, .. }) => (", estimated", ", of those seen from beginning to end"),
        _ => ("", ""),
    };
    let first = titled(&format!("Locks: share of the window{estimated}"), &COLUMNS, shares, width);
    let what = match profile.counted {
        Counted::Everything => "one hold and of one wait",
        Counted::Waits => "one wait",
        Counted::Nothing => return first,
    };
    let second = titled(&format!("Length of {what}{whole}"), &SPREAD_COLUMNS, spreads, width);
    format!("{first}\n\n{second}")
}

fn shares_row(lock: &LockProfile, profile: &Profile) -> Vec<String> {
    let number = |of: u64| holds_of(profile, of);
    vec![
        clean(&lock.name),
        share(lock.held, profile.window),
        share(lock.contended, profile.window),
        share(lock.free, profile.window),
        share(lock.unknown, profile.window),
        number(lock.holds),
        number(lock.forced_releases),
        waits_of(profile, lock.waits),
    ]
}

fn spread_rows(lock: &LockProfile, counted: Counted) -> Vec<Vec<String>> {
    let row = |what: &str, number: u64, spread: Spread| {
        let shown = [spread.p50, spread.p90, spread.p99, spread.max];
        let shown = shown.map(|time| if number == 0 { "–".to_owned() } else { time.to_string() });
        [vec![clean(&lock.name), what.to_owned()], shown.to_vec()].concat()
    };
    let holds = counted.holds().then(|| row("hold", lock.holds, lock.hold_spread));
    let waits = counted.waits().then(|| row("wait", lock.waits, lock.wait_spread));
    holds.into_iter().chain(waits).collect()
}
