//! Who waited for whom.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    model::{ids::Tid, profile::Profile, stack::StackId, time::Nanos},
    report::{
        charge::acting_frame,
        names::ThreadNames,
        text::{
            table::{Lean, omitted, titled},
            words::{place, share},
        },
    },
};

/// Rows of the table.
const MOST: usize = 5;

/// All waiting of one thread for another one.
struct Pair {
    waiter: Option<Tid>,
    holder: Option<Tid>,
    wait: Nanos,
    worst_place: String,
}

/// Who waited for whom, and for which of the holder's functions most.
pub(super) fn section(profile: &Profile, names: &ThreadNames<'_>, width: u16) -> String {
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
        false => titled("Pairs that waited longest", &columns, rows, width) + &omitted(pairs.len(), MOST, "pair"),
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
