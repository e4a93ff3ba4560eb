//! What was counted of the threads that used the CPUs most, by class.

use std::cmp::Reverse;

use crate::{
    model::{
        profile::{Profile, ThreadProfile},
        state::{State, StateClass},
        time::Nanos,
    },
    report::{
        names::{clean, shortened},
        ratios::{Known, cpu_share},
        text::{
            counters::columns::{Column, Filled, fitted},
            table::{Lean, omitted},
            words::percent,
        },
    },
};

/// Rows of the table; each is three lines.
const MOST: usize = 5;
/// Threads with a smaller part of all time on the CPUs are left out.
const WORTH_SHOWING: f64 = 0.01;
const CLASSES: [StateClass; 3] = [StateClass::Inside, StateClass::Waiting, StateClass::Outside];

/// The section; empty where one thread is all threads.
pub(super) fn section(profile: &Profile, known: Known<'_>, width: u16) -> String {
    let whole: Nanos = profile.threads.iter().map(busy).sum();
    let mut threads: Vec<&ThreadProfile> = profile.threads.iter().collect();
    threads.retain(|thread| busy(thread).share_of(whole) >= WORTH_SHOWING);
    threads.sort_by_key(|thread| Reverse(busy(thread)));
    let (all, columns) = (threads.len(), Column::of(known));
    threads.truncate(MOST);
    if profile.threads.len() < 2 || threads.is_empty() || columns.is_empty() {
        return String::new();
    }
    let mut others: Vec<Filled> = Vec::new();
    for column in columns {
        let happened =
            |thread: &&ThreadProfile| thread.counts.is_some_and(|counts| column.count(&counts.total(), known) > 0);
        if threads.iter().any(happened) {
            let cells = threads.iter().map(|thread| counted(thread, column, known)).collect();
            others.push(Filled { heading: column.heading(&profile.measured), lean: Lean::Right, cells });
        }
    }
    let heading = "Threads by time on the CPUs, and what was counted of each";
    fitted(heading, fixed(&threads, profile), others, None, width) + &omitted(all, MOST, "thread")
}

/// What is of every thread.
fn fixed(threads: &[&ThreadProfile], profile: &Profile) -> Vec<Filled> {
    let name = |thread: &ThreadProfile| if thread.name.is_empty() { "unknown" } else { &thread.name }.to_owned();
    let names = threads.iter().map(|thread| format!("{}\ntid {}", shortened(&clean(&name(thread)), 18), thread.tid));
    let classes = threads.iter().map(|_| CLASSES.map(StateClass::name).join("\n"));
    let share =
        |thread: &ThreadProfile, class| cpu_share(thread, class, profile).map_or_else(|| "unknown".to_owned(), percent);
    let shares = threads.iter().map(|thread| CLASSES.map(|class| share(thread, class)).join("\n"));
    let heading = |words: &str| words.to_owned();
    vec![
        Filled { heading: heading("thread"), lean: Lean::Left, cells: names.collect() },
        Filled { heading: heading(""), lean: Lean::Left, cells: classes.collect() },
        Filled { heading: heading("on a CPU,\nof its life"), lean: Lean::Right, cells: shares.collect() },
    ]
}

/// A column's cell: a line a class.
fn counted(thread: &ThreadProfile, column: Column, known: Known<'_>) -> String {
    let line = |class: StateClass| {
        thread.counts.map_or_else(|| "unknown".to_owned(), |counts| column.cell(counts.class(class), known))
    };
    CLASSES.map(line).join("\n")
}

/// Time on a CPU; where that is not known, inside.
fn busy(thread: &ThreadProfile) -> Nanos {
    if thread.is_undivided() {
        return thread.class(StateClass::Inside);
    }
    thread.states.get(State::HeldRunning) + thread.states.get(State::OutsideRunning)
}
