//! Per thread: its nine states in four columns, those who waited longest first.

use std::cmp::Reverse;

use crate::{
    model::{
        ids::Tid,
        profile::{Counted, Profile, ThreadProfile},
        state::{State, StateClass},
        surroundings::Surroundings,
    },
    report::{
        names::{clean, shortened},
        text::{
            table::{Lean, omitted, titled},
            words::{bare_share, holds_of, share, waits_of},
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
    let rows = threads.iter().take(MOST).map(|thread| row(thread, profile)).collect();
    let estimated = match profile.counted {
        Counted::Waits => ", estimated but for waiting",
        _ if profile.estimates.is_some() => ", estimated",
        _ => "",
    };
    let heading = format!(
        "Threads: share of each one's lifetime{estimated}, longest waiting first\n\
                   inside: run = on a CPU, pre = runnable without a CPU, blk = asleep; outside: the same\n\
                   waiting: queue = another thread owned the lock, hand = nobody did (handoff)"
    );
    titled(&heading, &COLUMNS, rows, width) + &omitted(threads.len(), MOST, "thread")
}

fn row(thread: &ThreadProfile, profile: &Profile) -> Vec<String> {
    let counts = match profile.counted {
        Counted::Nothing => "unknown".to_owned(),
        _ => format!("{}/{}", holds_of(profile, thread.holds), waits_of(profile, thread.waits)),
    };
    let name = if thread.name.is_empty() { "unknown".to_owned() } else { shortened(&clean(&thread.name), 24) };
    vec![
        format!("{name}\n{}", numbers(thread.tid, &profile.target.surroundings)),
        format!("{}\n{counts}", thread.lifetime),
        states_of(thread, StateClass::Inside),
        states_of(thread, StateClass::Waiting),
        states_of(thread, StateClass::Outside),
        share(thread.class(StateClass::Unknown), thread.lifetime),
    ]
}

/// Our number and, where it differs, the thread's own.
fn numbers(tid: Tid, surroundings: &Surroundings) -> String {
    match surroundings.inner_tid(tid).filter(|inner| *inner != tid.raw()) {
        Some(inner) => format!("tid {tid} = {inner}"),
        None => format!("tid {tid}"),
    }
}

/// The class's share, and below it that of each of its states.
fn states_of(thread: &ThreadProfile, class: StateClass) -> String {
    let whole = thread.lifetime;
    let part = thread.class(class);
    if thread.is_undivided() && class != StateClass::Waiting {
        return format!("{}\nunknown", share(part, whole));
    }
    let states = State::ALL.iter().filter(|state| state.class() == class);
    let parts: Vec<String> = states.map(|state| bare_share(thread.states.get(*state), whole)).collect();
    format!("{}\n{}", share(part, whole), parts.join("/"))
}
