//! What each function cost while its threads owned the lock, and in which functions threads waited.

use std::cmp::Reverse;

use crate::{
    model::{
        profile::{HoldTally, Profile},
        time::Nanos,
    },
    report::{
        functions::{FunctionCost, function_costs},
        text::{
            table::{Lean, omitted, titled},
            words::{count, holds_of, place, share, wrapped},
        },
    },
};

/// Rows of the table of costs.
const MOST: usize = 10;
/// Rows of the table of victims.
const MOST_WAITING: usize = 5;

const COLUMNS: [(&str, Lean); 8] = [
    ("others\nwaited", Lean::Right),
    ("time\nheld", Lean::Right),
    ("off\nCPU", Lean::Right),
    ("holds\nseen", Lean::Right),
    ("longest\nhold", Lean::Right),
    ("contended\nhold", Lean::Right),
    ("forced :\nown wish", Lean::Right),
    ("function", Lean::Left),
];

/// The functions that owned the lock, those that made others wait longest first.
pub(super) fn costs_section(profile: &Profile, width: u16) -> String {
    let costs = function_costs(profile);
    let owners: Vec<_> = costs.iter().filter(|cost| cost.owned()).collect();
    if owners.is_empty() {
        return String::new();
    }
    let heading = "Functions by what they cost: how long others waited for them, how long they held the lock, how much\n\
                   of that without a CPU; and, of the holds they were seen in, number, longest, contended time, releases";
    let rows = owners.iter().take(MOST).map(|cost| row(cost, profile)).collect();
    titled(heading, &COLUMNS, rows, width) + &omitted(owners.len(), MOST, "function") + &unseen(profile, width)
}

fn row(cost: &FunctionCost<'_>, profile: &Profile) -> Vec<String> {
    let HoldTally { holds, longest, contended, forced, .. } = cost.seen;
    let of_seen = |shown: String| if holds == 0 { "–".to_owned() } else { shown };
    vec![
        cost.inflicted.to_string(),
        cost.held().to_string(),
        share(cost.held_off_cpu(), cost.held()),
        holds_of(profile, holds),
        of_seen(longest.to_string()),
        of_seen(contended.to_string()),
        of_seen(format!("{} : {}", count(forced), count(holds.saturating_sub(forced)))),
        place(cost.function, cost.file),
    ]
}

/// The line that owns up to the holds without a stack.
fn unseen(profile: &Profile, width: u16) -> String {
    let mut unseen = HoldTally::default();
    profile.locks.iter().for_each(|lock| unseen.absorb(lock.unseen));
    let all: u64 = profile.locks.iter().map(|lock| lock.holds).sum();
    let HoldTally { holds, held, contended, longest, .. } = unseen;
    let words = format!(
        "{} of {} holds were seen by nobody: {held} held, {contended} of it contended, the longest {longest}",
        count(holds),
        count(all)
    );
    if holds == 0 { String::new() } else { format!("\n{}", wrapped("", &words, width.into())) }
}

/// The functions that waited, the victims.
pub(super) fn victims_section(profile: &Profile, width: u16) -> String {
    let mut costs = function_costs(profile);
    costs.retain(|cost| cost.waited() > Nanos::ZERO);
    costs.sort_by_key(|cost| Reverse(cost.waited()));
    if costs.is_empty() {
        return String::new();
    }
    let whole: Nanos = costs.iter().map(FunctionCost::waited).sum();
    let row = |cost: &FunctionCost<'_>| {
        vec![cost.waited().to_string(), share(cost.waited(), whole), place(cost.function, cost.file)]
    };
    let rows = costs.iter().take(MOST_WAITING).map(row).collect();
    let columns = [("waited", Lean::Right), ("share", Lean::Right), ("function", Lean::Left)];
    titled("Functions that waited for the lock", &columns, rows, width)
        + &omitted(costs.len(), MOST_WAITING, "function")
}
