//! What the lock was held for, by kind; and which C code kept it, called from where.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    model::{profile::Profile, stack::Frame, time::Nanos},
    report::{
        kind::{CCode, HoldKind},
        kinds::{KindCost, Kinds},
        names::clean,
        native::{file_name, short_name},
        text::{
            table::{Lean, omitted, titled},
            words::{share, wrapped},
        },
    },
};

/// Rows of the table.
const MOST: usize = 10;
/// Single functions told below it.
const MOST_LINES: usize = 5;
/// Less than this share of the held time is not worth a line.
const WORTH_A_LINE: f64 = 0.01;

const COLUMNS: [(&str, Lean); 4] =
    [("time held", Lean::Right), ("share", Lean::Right), ("others waited", Lean::Right), ("for", Lean::Left)];

/// The section; empty when no lock was held.
pub(super) fn section(profile: &Profile, width: u16) -> String {
    let kinds = Kinds::of(profile);
    let costs = kinds.costs();
    let whole: Nanos = costs.iter().map(|cost| cost.held).sum();
    if whole == Nanos::ZERO {
        return String::new();
    }
    let sums = by_words(&costs);
    let row = |(words, held, inflicted): &(String, Nanos, Nanos)| {
        vec![held.to_string(), share(*held, whole), inflicted.to_string(), clean(words)]
    };
    let rows = sums.iter().take(MOST).map(row).collect();
    let called = by_call(&costs);
    let worthy = called.iter().filter(|cost| cost.held.share_of(whole) >= WORTH_A_LINE);
    let lines: String = worthy
        .filter_map(line)
        .take(MOST_LINES)
        .map(|line| format!("\n{}", wrapped("", &line, width.into())))
        .collect();
    titled(heading(&kinds), &COLUMNS, rows, width) + &omitted(sums.len(), MOST, "kind") + &lines
}

fn heading(kinds: &Kinds<'_>) -> &'static str {
    match kinds.show_machine_code() {
        true => "What the lock was held for",
        false => "What the lock was held for (--native tells bytecode from C code)",
    }
}

/// Kinds that read the same, summed up, longest held first.
fn by_words(costs: &[KindCost<'_>]) -> Vec<(String, Nanos, Nanos)> {
    let mut sums: BTreeMap<String, (Nanos, Nanos)> = BTreeMap::new();
    for cost in costs {
        let sum = sums.entry(cost.kind.words()).or_default();
        *sum = (sum.0 + cost.held, sum.1 + cost.inflicted);
    }
    let mut sums: Vec<_> = sums.into_iter().map(|(words, (held, inflicted))| (words, held, inflicted)).collect();
    sums.sort_by_key(|(_, held, inflicted)| Reverse((*held, *inflicted)));
    sums
}

/// The same whatever C code called in turn, longest held first.
fn by_call<'a>(costs: &[KindCost<'a>]) -> Vec<KindCost<'a>> {
    let mut calls: BTreeMap<(HoldKind<'a>, Option<&Frame>), KindCost<'a>> = BTreeMap::new();
    for cost in costs {
        let kind = match cost.kind {
            HoldKind::CCode(code) => HoldKind::CCode(CCode { innermost: code.function, ..code }),
            kind => kind,
        };
        let none = KindCost { kind, held: Nanos::ZERO, inflicted: Nanos::ZERO, ..*cost };
        let sum = calls.entry((kind, cost.caller)).or_insert(none);
        sum.held += cost.held;
        sum.inflicted += cost.inflicted;
    }
    let mut calls: Vec<_> = calls.into_values().collect();
    calls.sort_by_key(|cost| Reverse((cost.held, cost.inflicted)));
    calls
}

/// `libfoo.so: bar() held the lock 41.0 ms, called from json_load() app.py:12`, for what keeps the lock on the spot.
fn line(cost: &KindCost<'_>) -> Option<String> {
    let who = match cost.kind {
        HoldKind::CCode(code) => format!("{}: {}", short_name(code.object), called(code.function)),
        HoldKind::BlockedIn(Some(call)) => format!("asleep in {}", called(call)),
        HoldKind::OnOtherLock => "asleep for another lock".to_owned(),
        _ => return None,
    };
    let from = cost.caller.map(|frame| format!(", called from {}", place(frame))).unwrap_or_default();
    Some(clean(&format!("{who} held the lock {}{from}", cost.held)))
}

fn place(frame: &Frame) -> String {
    let file = file_name(&frame.file);
    match frame.line {
        Some(line) => format!("{} {file}:{line}", called(&frame.function)),
        None => format!("{} {file}", called(&frame.function)),
    }
}

/// `bar()`; names that show their parameters already, and such as `<module>`, stay.
fn called(function: &str) -> String {
    if function.ends_with([')', '>']) { function.to_owned() } else { format!("{function}()") }
}
