//! Per thread: its nine states in four columns, those who waited longest first.

use std::cmp::Reverse;

use crate::{
    model::{
        profile::{Profile, ThreadProfile},
        state::{State, StateClass},
    },
    report::{
        names::{clean, shortened},
        text::{
            table::{Lean, omitted, titled},
            words::{bare_share, count, share},
        },
    },
};

/// More threads than this make a summary unreadable; JSON has them all.
const MOST: usize = 20;

const COLUMNS: [(&str, Lean); 6] = [
    ("thread", Lean::Left),
    ("lifetime\nholds/waits", Lean::Right),
    ("inside\nrun/pre/blk", Lean::Right),
    ("waiting\nqueue/hand", Lean::Right),
    ("outside\nrun/pre/blk", Lean::Right),
    ("unknown", Lean::Right),
];

/// The section; empty without threads.
pub(super) fn section(profile: &Profile, width: u16) -> String {
    if profile.threads.is_empty() {
        return String::new();
    }
    let mut threads: Vec<&ThreadProfile> = profile.threads.iter().collect();
    threads.sort_by_key(|thread| Reverse((thread.states.class(StateClass::Waiting), thread.lifetime)));
    let rows = threads.iter().take(MOST).map(|thread| row(thread)).collect();
    let estimated = if profile.estimates.is_some() { ", estimated" } else { "" };
    let heading = format!(
        "Threads: share of each one's lifetime{estimated}, longest waiting first\n\
                   inside: run = on a CPU, pre = runnable without a CPU, blk = asleep; outside: the same\n\
                   waiting: queue = another thread owned the lock, hand = nobody did (handoff)"
    );
    titled(&heading, &COLUMNS, rows, width) + &omitted(threads.len(), MOST, "thread")
}

fn row(thread: &ThreadProfile) -> Vec<String> {
    let name = if thread.name.is_empty() { "unknown".to_owned() } else { shortened(&clean(&thread.name), 24) };
    vec![
        format!("{name}\ntid {}", thread.tid),
        format!("{}\n{}/{}", thread.lifetime, count(thread.holds), count(thread.waits)),
        states_of(thread, StateClass::Inside),
        states_of(thread, StateClass::Waiting),
        states_of(thread, StateClass::Outside),
        share(thread.states.class(StateClass::Unknown), thread.lifetime),
    ]
}

/// The class's share, and below it that of each of its states.
fn states_of(thread: &ThreadProfile, class: StateClass) -> String {
    let whole = thread.lifetime;
    let part = thread.states.class(class);
    let states = State::ALL.iter().filter(|state| state.class() == class);
    let parts: Vec<String> = states.map(|state| bare_share(thread.states.get(*state), whole)).collect();
    format!("{}\n{}", share(part, whole), parts.join("/"))
}
