//! What was estimated, with its intervals: all threads, each thread, each lock.

use std::cmp::Reverse;

use crate::{
    model::{
        estimate::{ClassEstimate, Estimate, Estimates, LockEstimate, Method, ThreadEstimate},
        profile::Profile,
        state::StateClass,
        time::Nanos,
    },
    report::{
        names::{ThreadNames, clean},
        text::{
            table::{Lean, omitted, titled},
            words::{bare_share, counted, share},
        },
    },
};

/// More threads than this make a summary unreadable; JSON has them all.
const MOST: usize = 10;

const THREADS: [(&str, Lean); 4] =
    [("thread", Lean::Left), ("inside", Lean::Right), ("waiting", Lean::Right), ("outside", Lean::Right)];

const LOCKS: [(&str, Lean); 6] = [
    ("lock", Lean::Left),
    ("held", Lean::Right),
    ("contended", Lean::Right),
    ("waited", Lean::Right),
    ("holds", Lean::Right),
    ("waits", Lean::Right),
];

/// The section; empty when nothing was estimated.
pub(super) fn section(profile: &Profile, names: &ThreadNames, width: u16) -> String {
    let Some(estimates) = &profile.estimates else { return String::new() };
    let lifetimes: Nanos = profile.threads.iter().map(|thread| thread.lifetime).sum();
    let mut rows = vec![row("all threads".to_owned(), &estimates.total, lifetimes)];
    let mut threads: Vec<&ThreadEstimate> = estimates.threads.iter().collect();
    threads.sort_by_key(|thread| Reverse(waited(thread)));
    rows.extend(threads.iter().take(MOST).map(|thread| {
        let lifetime = profile.threads.iter().filter(|known| known.tid == thread.tid).map(|known| known.lifetime).sum();
        row(names.label(thread.tid), &thread.classes, lifetime)
    }));
    let first = titled(&heading(estimates), &THREADS, rows, width) + &omitted(threads.len(), MOST, "thread");
    if estimates.locks.is_empty() {
        return first;
    }
    let locks = estimates.locks.iter().map(|lock| lock_row(lock, profile)).collect();
    format!("{first}\n\n{}", titled("Locks, estimated", &LOCKS, locks, width))
}

fn heading(estimates: &Estimates) -> String {
    let how = match estimates.method {
        Method::Looks { rate } => format!("from {rate} looks a second"),
        Method::Windows => {
            format!("from {} of {} in all", counted(to_usize(estimates.parts), "window"), estimates.observed)
        }
    };
    format!("Estimated {how}: share of the lifetime, and the interval that holds the truth 95 times in 100")
}

fn row(name: String, classes: &[ClassEstimate], whole: Nanos) -> Vec<String> {
    let cell = |class: StateClass| {
        let found = classes.iter().find(|part| part.class == class);
        found.map_or("unknown".to_owned(), |part| interval(part.time, whole))
    };
    vec![name, cell(StateClass::Inside), cell(StateClass::Waiting), cell(StateClass::Outside)]
}

fn interval(time: Estimate<Nanos>, whole: Nanos) -> String {
    format!("{}\n{}–{}", share(time.value, whole), bare_share(time.low, whole), share(time.high, whole))
}

fn lock_row(lock: &LockEstimate, profile: &Profile) -> Vec<String> {
    let name =
        profile.locks.iter().find(|known| known.id == lock.lock).map_or_else(String::new, |known| clean(&known.name));
    let part = |time: Option<Estimate<Nanos>>| time.map_or("unknown".to_owned(), |time| interval(time, profile.window));
    let waited = lock.waited.map_or("unknown".to_owned(), |time| format!("{}\n{}–{}", time.value, time.low, time.high));
    let number = |count: Option<Estimate<u64>>| {
        count.map_or("unknown".to_owned(), |count| format!("{}\n{}–{}", count.value, count.low, count.high))
    };
    vec![name, part(lock.held), part(lock.contended), waited, number(lock.holds), number(lock.waits)]
}

fn waited(thread: &ThreadEstimate) -> Nanos {
    let waiting = thread.classes.iter().find(|part| part.class == StateClass::Waiting);
    waiting.map_or(Nanos::ZERO, |part| part.time.value)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
