//! Who made it cost that: functions, and pairs of waiter and holder.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    model::{ids::Tid, profile::Profile, stack::StackId, time::Nanos},
    report::{
        charge::acting_frame,
        functions::{FunctionCost, function_costs},
        names::{ThreadNames, clean},
        text::{
            table::{Lean, omitted, titled},
            words::share,
        },
    },
};

/// Rows of each table.
const MOST: usize = 10;

/// By what functions are ranked.
#[derive(Debug, Clone, Copy)]
enum Measure {
    Held,
    Waited,
    Inflicted,
}

impl Measure {
    fn heading(self) -> &'static str {
        match self {
            Self::Held => "Functions that owned the lock (time held in them)",
            Self::Waited => "Functions that waited for the lock (time waited in them)",
            Self::Inflicted => "Functions that made others wait (waiting of others while they owned the lock)",
        }
    }

    fn of(self, cost: &FunctionCost<'_>) -> Nanos {
        match self {
            Self::Held => cost.held(),
            Self::Waited => cost.waited(),
            Self::Inflicted => cost.inflicted,
        }
    }
}

/// Top functions by waiting inflicted on others, by time held and by time waited.
pub(super) fn functions_section(profile: &Profile, width: u16) -> String {
    let costs = function_costs(profile);
    let measures = [Measure::Inflicted, Measure::Held, Measure::Waited];
    let tables = measures.into_iter().filter_map(|measure| ranking(measure, &costs, width));
    tables.collect::<Vec<_>>().join("\n\n")
}

fn ranking(measure: Measure, costs: &[FunctionCost<'_>], width: u16) -> Option<String> {
    let mut ranked: Vec<_> = costs.iter().filter(|cost| measure.of(cost) > Nanos::ZERO).collect();
    ranked.sort_by_key(|cost| Reverse(measure.of(cost)));
    let whole: Nanos = ranked.iter().map(|cost| measure.of(cost)).sum();
    let row = |cost: &&FunctionCost<'_>| {
        let time = measure.of(cost);
        vec![time.to_string(), share(time, whole), place(cost.function, cost.file)]
    };
    let rows: Vec<_> = ranked.iter().take(MOST).map(row).collect();
    let columns = [("time", Lean::Right), ("share", Lean::Right), ("function", Lean::Left)];
    let more = omitted(ranked.len(), MOST, "functions");
    (!rows.is_empty()).then(|| titled(measure.heading(), &columns, rows, width) + &more)
}

/// All waiting of one thread for another one.
struct Pair {
    waiter: Option<Tid>,
    holder: Option<Tid>,
    wait: Nanos,
    worst_place: String,
}

/// Who waited for whom, and for which of the holder's functions most.
pub(super) fn blame_section(profile: &Profile, names: &ThreadNames<'_>, width: u16) -> String {
    let pairs = pairs(profile);
    let whole: Nanos = pairs.iter().map(|pair| pair.wait).sum();
    let row = |pair: &Pair| {
        let (waiter, holder) = (names.label(pair.waiter), names.label(pair.holder));
        vec![pair.wait.to_string(), share(pair.wait, whole), waiter, holder, pair.worst_place.clone()]
    };
    let columns = [
        ("time", Lean::Right),
        ("share", Lean::Right),
        ("waiter", Lean::Left),
        ("waited for", Lean::Left),
        ("mostly in its", Lean::Left),
    ];
    let rows: Vec<_> = pairs.iter().take(MOST).map(row).collect();
    match rows.is_empty() {
        true => String::new(),
        false => titled("Who waited for whom", &columns, rows, width) + &omitted(pairs.len(), MOST, "pairs"),
    }
}

/// Longest waiting first.
fn pairs(profile: &Profile) -> Vec<Pair> {
    let mut by_pair: BTreeMap<(Option<Tid>, Option<Tid>), BTreeMap<String, Nanos>> = BTreeMap::new();
    for blame in &profile.blame {
        let places = by_pair.entry((blame.waiter, blame.holder)).or_default();
        *places.entry(stack_place(profile, blame.stack)).or_default() += blame.wait;
    }
    let pair = |((waiter, holder), places): (_, BTreeMap<String, Nanos>)| Pair {
        waiter,
        holder,
        wait: places.values().copied().sum(),
        worst_place: places.into_iter().max_by_key(|(_, wait)| *wait).map(|(place, _)| place).unwrap_or_default(),
    };
    let mut pairs: Vec<Pair> = by_pair.into_iter().map(pair).collect();
    pairs.sort_by_key(|pair| Reverse(pair.wait));
    pairs
}

fn stack_place(profile: &Profile, stack: StackId) -> String {
    let frame = acting_frame(&profile.stacks, Some(stack));
    place(&frame.function, &frame.file)
}

fn place(function: &str, file: &str) -> String {
    match file.rsplit('/').next() {
        Some(file) if !file.is_empty() => clean(&format!("{function} ({file})")),
        _ => clean(function),
    }
}
