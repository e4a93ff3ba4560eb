//! Programs of which every nanosecond is known, recorded in windows: each estimate is what the windows show, scaled to their cells.

use std::collections::BTreeMap;

use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::{
    LOCK, at, created_running, ledger, step, tid,
    windows::{look_at, window},
};
use crate::{
    ledger::Attribution,
    model::{
        estimate::Estimate,
        event::{LockStep, SeenRelation, WindowStep},
        state::{State, StateClass},
        time::Nanos,
    },
};

/// What both threads are doing, nanosecond by nanosecond; the second may wait.
type Moment = [State; 2];

const KINDS: [Moment; 5] = [
    [State::OutsideRunning, State::OutsideRunning],
    [State::HeldRunning, State::OutsideRunning],
    [State::HeldRunning, State::WaitQueued],
    [State::OutsideRunning, State::WaitHandoff],
    [State::OutsideRunning, State::HeldRunning],
];

/// A program of stretches, in which whoever waits gets the lock in the end.
fn program(stretches: &[(usize, u64)]) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut waits = false;
    for (kind, length) in stretches {
        let kind = match kind {
            0 if waits => 3,
            1 if waits => 2,
            kind => *kind,
        };
        waits = KINDS[kind][1].class() == StateClass::Waiting;
        moments.extend((0..*length).map(|_| KINDS[kind]));
    }
    moments
}

/// What the threads do between two moments: whoever lets go comes first.
fn steps(before: Moment, after: Moment) -> Vec<(usize, LockStep)> {
    let mut steps = Vec::new();
    for thread in [0, 1] {
        match (before[thread].class(), after[thread].class()) {
            (one, other) if one == other => {}
            (StateClass::Inside, StateClass::Waiting) => {
                steps.extend([(thread, LockStep::Released), (thread, LockStep::Want)]);
            }
            (StateClass::Inside, _) => steps.push((thread, LockStep::Released)),
            (_, StateClass::Inside) => steps.push((thread, LockStep::Acquired)),
            _ => steps.push((thread, LockStep::Want)),
        }
    }
    steps.sort_by_key(|(_, step)| *step != LockStep::Released);
    steps
}

fn seen(moment: Moment) -> Vec<(i32, SeenRelation)> {
    let relation = |state: State| match state.class() {
        StateClass::Inside => SeenRelation::Inside(LOCK),
        StateClass::Waiting => SeenRelation::Waiting(LOCK),
        StateClass::Outside | StateClass::Unknown => SeenRelation::Outside,
    };
    let mut seen: Vec<_> = [1, 2].into_iter().zip(moment.map(relation)).collect();
    seen.sort_by_key(|(_, relation)| !matches!(relation, SeenRelation::Inside(_)));
    seen
}

/// A cell by the lengths of its parts: nothing is taken, only the looks are told, the window, nothing again.
type Cell = [u64; 4];

/// The moments at which something begins, before what happens there.
fn edges(first: u64, cells: &[Cell]) -> BTreeMap<u64, Vec<WindowStep>> {
    let mut edges: BTreeMap<u64, Vec<WindowStep>> = BTreeMap::new();
    let mut now = first;
    for [before, armed, window, after] in cells {
        edges.entry(now).or_default().push(WindowStep::Cell);
        edges.entry(now + before).or_default().push(WindowStep::Armed);
        edges.entry(now + before + armed).or_default().push(WindowStep::Began);
        edges.entry(now + before + armed + window).or_default().push(WindowStep::Ended);
        now += before + armed + window + after;
    }
    edges.entry(first).or_default().push(WindowStep::Ended);
    edges
}

fn record(moments: &[Moment], first: u64, cells: &[Cell]) -> Attribution {
    let mut ledger = ledger(0);
    [1, 2].into_iter().for_each(|thread| created_running(&mut ledger, 0, thread));
    let mut edges = edges(first, cells);
    let mut before = KINDS[0];
    let mut taken = true;
    for (now, moment) in (0..).zip(moments) {
        for edge in edges.remove(&now).unwrap_or_default() {
            taken = match edge {
                WindowStep::Cell => taken,
                WindowStep::Armed | WindowStep::Began => true,
                WindowStep::Ended => false,
            };
            window(&mut ledger, now, edge);
            if edge == WindowStep::Armed {
                look_at(&mut ledger, now, &seen(before));
            }
        }
        for (thread, what) in steps(before, *moment).into_iter().filter(|_| taken) {
            step(&mut ledger, now, [1, 2][thread], what);
        }
        before = *moment;
    }
    ledger.finish(at(moments.len() as u64))
}

/// The amount before the first cell, and that in each window, scaled to its cell.
fn scaled(first: u64, cells: &[Cell], amount: impl Fn(usize) -> u64) -> f64 {
    let sum = |from: u64, to: u64| (from..to).map(|now| amount(usize::try_from(now).unwrap())).sum::<u64>() as f64;
    let mut now = first;
    let mut total = sum(0, first);
    for [before, armed, window, after] in cells {
        let begins = now + before + armed;
        let length = before + armed + window + after;
        total += sum(begins, begins + window) / *window as f64 * length as f64;
        now += length;
    }
    total
}

proptest! {
    #[test]
    fn estimates_are_what_windows_show_scaled_to_their_cells(
        stretches in proptest::collection::vec((0..KINDS.len(), 1..30_u64), 1..60),
        first in 1..50_u64,
        cells in proptest::collection::vec([1..40_u64, 1..10_u64, 1..40_u64, 1..40_u64], 2..6),
    ) {
        let mut moments = program(&stretches);
        let length = first + cells.iter().flatten().sum::<u64>();
        moments.resize(usize::try_from(length).unwrap(), *moments.last().unwrap());
        let result = record(&moments, first, &cells);
        prop_assert_eq!(&result.invariants_broken, &Vec::<String>::new());
        prop_assert_eq!(result.tally.unmatched, 0);
        let known = first + cells.iter().map(|[_, armed, window, _]| armed + window).sum::<u64>();
        prop_assert_eq!(result.unknown.as_nanos(), 2 * (length - known));

        let estimates = result.estimates.unwrap();
        let near = |estimate: u64, amount: &dyn Fn(usize) -> u64| {
            let expected = scaled(first, &cells, amount);
            prop_assert!((estimate as f64 - expected).abs() <= 1.0, "{} instead of {}", estimate, expected);
            Ok(())
        };
        for (index, thread) in [1, 2].map(tid).into_iter().enumerate() {
            let of_thread = estimates.threads.iter().find(|thread_estimate| thread_estimate.tid == thread).unwrap();
            prop_assert_eq!(of_thread.states.len(), State::ALL.len() - 1);
            for one in &of_thread.states {
                near(one.time.value.as_nanos(), &|now| u64::from(moments[now][index] == one.state))?;
            }
        }
        for one in &estimates.total {
            let number = |now: usize| moments[now].iter().filter(|state| state.class() == one.class).count() as u64;
            near(one.time.value.as_nanos(), &number)?;
        }
        let has = |now: usize, state| moments[now].contains(&state);
        let waits = |now: usize| moments[now][1].class() == StateClass::Waiting;
        let told = |now: usize, wanted| {
            let before = if now == 0 { KINDS[0] } else { moments[now - 1] };
            steps(before, moments[now]).iter().filter(|(_, step)| *step == wanted).count() as u64
        };
        let lock = estimates.locks[0];
        let time = |estimate: Option<Estimate<Nanos>>| estimate.unwrap().value.as_nanos();
        near(time(lock.held), &|now| u64::from(has(now, State::HeldRunning)))?;
        near(time(lock.contended), &|now| u64::from(has(now, State::WaitQueued)))?;
        near(time(lock.waited), &|now| u64::from(waits(now)))?;
        near(lock.holds.unwrap().value, &|now| told(now, LockStep::Acquired))?;
        near(lock.waits.unwrap().value, &|now| told(now, LockStep::Want))?;
    }
}
