//! What was estimated, with its intervals: all threads, each thread, each lock.

use std::cmp::Reverse;

use crate::{
    model::{
        estimate::{ClassEstimate, Estimate, Estimates, LockEstimate, Method, ThreadEstimate},
        profile::{Counted, Profile},
        state::StateClass,
        time::Nanos,
    },
    report::{
        names::{ThreadNames, clean},
        text::{
            table::{Lean, omitted, titled},
            words::{bare_share, count, counted, share},
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
    let all_waited = profile.threads.iter().map(|thread| thread.class(StateClass::Waiting)).sum();
    let mut rows =
        vec![row("all threads".to_owned(), &estimates.total, Whole { lifetimes, waited: all_waited, profile })];
    let mut threads: Vec<&ThreadEstimate> = estimates.threads.iter().collect();
    threads.sort_by_key(|thread| Reverse(waited(thread)));
    rows.extend(threads.iter().take(MOST).map(|thread| {
        let known = || profile.threads.iter().filter(|known| known.tid == thread.tid);
        let lifetimes = known().map(|known| known.lifetime).sum();
        let waited = known().map(|known| known.class(StateClass::Waiting)).sum();
        row(names.label(thread.tid), &thread.classes, Whole { lifetimes, waited, profile })
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

/// Some threads' lives, and what of them is known exactly.
#[derive(Debug, Clone, Copy)]
struct Whole<'a> {
    lifetimes: Nanos,
    waited: Nanos,
    profile: &'a Profile,
}

fn row(name: String, classes: &[ClassEstimate], whole: Whole<'_>) -> Vec<String> {
    let cell = |class: StateClass| {
        if class == StateClass::Waiting && whole.profile.counted == Counted::Waits {
            return format!("{}\nexact", share(whole.waited, whole.lifetimes));
        }
        let found = classes.iter().find(|part| part.class == class);
        found.map_or("unknown".to_owned(), |part| interval(part.time, whole.lifetimes))
    };
    vec![name, cell(StateClass::Inside), cell(StateClass::Waiting), cell(StateClass::Outside)]
}

fn interval(time: Estimate<Nanos>, whole: Nanos) -> String {
    format!("{}\n{}–{}", share(time.value, whole), bare_share(time.low, whole), share(time.high, whole))
}

fn lock_row(lock: &LockEstimate, profile: &Profile) -> Vec<String> {
    let known = profile.locks.iter().find(|known| known.id == lock.lock);
    let name = known.map_or_else(String::new, |known| clean(&known.name));
    let part = |time: Option<Estimate<Nanos>>| time.map_or("unknown".to_owned(), |time| interval(time, profile.window));
    let exact = |shown: String| format!("{shown}\nexact");
    let counted = known.filter(|_| profile.counted == Counted::Waits);
    let waited = lock.waited.map_or("unknown".to_owned(), |time| format!("{}\n{}–{}", time.value, time.low, time.high));
    let waited = counted.map_or(waited, |known| exact(known.wait_total.to_string()));
    let number = |count: Option<Estimate<u64>>| {
        count.map_or("unknown".to_owned(), |count| format!("{}\n{}–{}", count.value, count.low, count.high))
    };
    let waits = counted.map_or_else(|| number(lock.waits), |known| exact(count(known.waits)));
    vec![name, part(lock.held), part(lock.contended), waited, number(lock.holds), waits]
}

fn waited(thread: &ThreadEstimate) -> Nanos {
    let waiting = thread.classes.iter().find(|part| part.class == StateClass::Waiting);
    waiting.map_or(Nanos::ZERO, |part| part.time.value)
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
