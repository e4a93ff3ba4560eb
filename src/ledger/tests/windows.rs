//! Recordings in windows: what is known, what is estimated from that, and what the edges of windows cut off. Whether the estimates
//! are those of a naive implementation is in `naive_windows`.

use std::collections::BTreeMap;

use super::{LOCK, apply, assert_sound, at, created_running, ledger, states, step};
use crate::{
    ledger::{Ledger, LockStart},
    model::{
        counts::{Counter, Measures, Slot},
        estimate::Estimate,
        event::{CountedSteps, LockStep, MeasuredSince, SeenRelation, Sighting, What, WindowStep},
        ids::LockId,
        profile::CountedLock,
        state::StateClass,
        time::Nanos,
    },
};

pub(super) fn window(ledger: &mut Ledger, when: u64, step: WindowStep) {
    apply(ledger, when, 1, What::Window(step));
}

/// All that had been taken, and the first cell, of which nothing is at first.
fn first_cell(ledger: &mut Ledger, when: u64) {
    window(ledger, when, WindowStep::Cell);
    window(ledger, when, WindowStep::Ended);
}

/// The beginning of a window, when all threads have been looked at.
fn window_begins(ledger: &mut Ledger, when: u64, seen: &[(i32, SeenRelation)]) {
    window(ledger, when, WindowStep::Armed);
    look_at(ledger, when, seen);
    window(ledger, when, WindowStep::Began);
}

pub(super) fn look_at(ledger: &mut Ledger, when: u64, seen: &[(i32, SeenRelation)]) {
    for (thread, relation) in seen {
        apply(ledger, when, *thread, What::Seen(Sighting { relation: Some(*relation), cpu: None }));
    }
    if seen.iter().all(|(_, relation)| *relation != SeenRelation::Inside(LOCK)) {
        apply(ledger, when, 1, What::SeenFree(LOCK));
    }
}

fn value(estimate: Option<Estimate<Nanos>>) -> u64 {
    estimate.unwrap().value.as_nanos()
}

/// ```text
/// t     0        100              200       250       300              400       450       500
/// cell  |        |first                               |second
///       |all taken        :       |window   |         :       :        |window   |         |
/// 1     |  40 in |?               |in for 20|?                         |in, all  |?
/// ```
#[test]
fn a_window_speaks_for_its_cell_and_for_nothing_exact() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    step(&mut ledger, 10, 1, LockStep::Acquired);
    step(&mut ledger, 50, 1, LockStep::Released);
    first_cell(&mut ledger, 100);
    window_begins(&mut ledger, 200, &[(1, SeenRelation::Outside)]);
    step(&mut ledger, 230, 1, LockStep::Acquired);
    window(&mut ledger, 250, WindowStep::Ended);
    window(&mut ledger, 300, WindowStep::Cell);
    window_begins(&mut ledger, 400, &[(1, SeenRelation::Inside(LOCK))]);
    window(&mut ledger, 450, WindowStep::Ended);
    let result = ledger.finish(at(500));
    assert_sound(&result);
    let exact = [("held_running", 40 + 20 + 50), ("outside_running", 60 + 30), ("unknown", 300)];
    assert_eq!(states(&result, 1), BTreeMap::from(exact));
    let lock = &result.locks[0];
    assert_eq!([lock.held, lock.free, lock.unknown].map(Nanos::as_nanos), [110, 90, 300]);
    // The two that edges cut off count by their time alone.
    assert_eq!((lock.holds, result.long_holds.len(), result.tally.unmatched), (1, 1, 0));
    let estimates = result.estimates.unwrap();
    assert_eq!((estimates.parts, estimates.observed.as_nanos()), (2, 100 + 50 + 50));
    assert_eq!(value(estimates.locks[0].held), 40 + 20 * 200 / 50 + 200);
    // Of a hold that is found only the end is in its window.
    assert_eq!(estimates.locks[0].holds.unwrap().value, 1 + 200 / 50);
}

/// A cell of which everything was taken leaves nothing to be estimated.
#[test]
fn what_was_observed_from_end_to_end_is_no_estimate() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    window(&mut ledger, 50, WindowStep::Cell);
    step(&mut ledger, 60, 1, LockStep::Acquired);
    step(&mut ledger, 90, 1, LockStep::Released);
    let all_taken = ledger.clone().finish(at(100));
    assert_eq!(all_taken.estimates, None);
    window(&mut ledger, 100, WindowStep::Ended);
    let estimates = ledger.finish(at(100)).estimates.unwrap();
    let thirty = Nanos::from_nanos(30);
    assert_eq!(estimates.locks[0].held, Some(Estimate { value: thirty, low: thirty, high: thirty }));
    assert_eq!(estimates.locks[0].holds, Some(Estimate { value: 1, low: 1, high: 1 }));
}

/// ```text
/// t     0        100   110   120   130      200
/// cell  |        |first
/// 1     |all taken|wants |has it|gives it up     steps that are told though the window is over
/// ```
#[test]
fn steps_after_a_window_are_counted_and_tell_nothing() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    first_cell(&mut ledger, 100);
    for (when, late) in [(110, LockStep::Want), (115, LockStep::Want), (120, LockStep::Acquired)] {
        step(&mut ledger, when, 1, late);
    }
    step(&mut ledger, 130, 1, LockStep::Released);
    // A thread that is born between windows may do whatever it likes.
    created_running(&mut ledger, 150, 2);
    apply(&mut ledger, 180, 1, What::Counted(LOCK, CountedSteps { holds: 7, waits: 3 }));
    let result = ledger.finish(at(200));
    assert_sound(&result);
    assert_eq!(states(&result, 1), BTreeMap::from([("outside_running", 100), ("unknown", 100)]));
    assert_eq!(states(&result, 2), BTreeMap::from([("unknown", 50)]));
    let lock = &result.locks[0];
    assert_eq!((lock.holds, lock.waits, lock.free.as_nanos(), lock.unknown.as_nanos()), (0, 0, 100, 100));
    assert_eq!(lock.counted, Some(CountedLock { holds: 8, waits: Some(4) }));
}

/// The look at all threads takes so long that the window is over before it is told; and a lock is found meanwhile.
#[test]
fn between_windows_no_lock_is_known_to_be_free() {
    let other = LockId::from_index(1);
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    first_cell(&mut ledger, 100);
    window(&mut ledger, 110, WindowStep::Armed);
    window(&mut ledger, 120, WindowStep::Ended);
    look_at(&mut ledger, 130, &[(1, SeenRelation::Outside)]);
    ledger.declare_lock(other, "late", Some(1), LockStart::Free);
    window(&mut ledger, 200, WindowStep::Cell);
    window(&mut ledger, 250, WindowStep::Armed);
    look_at(&mut ledger, 250, &[(1, SeenRelation::Inside(LOCK))]);
    apply(&mut ledger, 250, 2, What::Seen(Sighting { relation: Some(SeenRelation::Inside(other)), cpu: None }));
    window(&mut ledger, 250, WindowStep::Began);
    window(&mut ledger, 300, WindowStep::Ended);
    let result = ledger.finish(at(400));
    assert_sound(&result);
    let times = [0, 1].map(|lock: usize| &result.locks[lock]).map(|lock| [lock.held, lock.free, lock.unknown]);
    // The one that was found at 130 had belonged to nobody until then.
    assert_eq!(times.map(|times| times.map(Nanos::as_nanos)), [[50, 100, 250], [50, 130, 220]]);
}

/// ```text
/// t     0        100          200       250          300
///       |outside |?           |inside   |?
///          5          70 (since the last step), 900    3   40
/// ```
#[test]
fn what_is_measured_between_windows_belongs_to_no_class() {
    let slot = Slot::at(0).unwrap();
    let measured = |times, since| {
        let mut measures = Measures::default();
        measures.0[slot.index()] = times;
        What::Measured(Box::new(measures), since)
    };
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    apply(&mut ledger, 50, 1, measured(5, MeasuredSince::LastStep));
    first_cell(&mut ledger, 100);
    apply(&mut ledger, 150, 1, measured(70, MeasuredSince::LastStep));
    window_begins(&mut ledger, 200, &[(1, SeenRelation::Inside(LOCK))]);
    // It is told at the first step in the window and has begun before.
    apply(&mut ledger, 210, 1, measured(900, MeasuredSince::Unknown));
    apply(&mut ledger, 240, 1, measured(3, MeasuredSince::LastStep));
    window(&mut ledger, 250, WindowStep::Ended);
    apply(&mut ledger, 280, 1, measured(40, MeasuredSince::LastStep));
    let result = ledger.finish(at(300));
    assert_sound(&result);
    let counts = result.threads[0].counts.unwrap();
    let of = |class| counts.class(class).get(Counter::Measured(slot));
    assert_eq!(StateClass::ALL.map(of), [3, 0, 5, 1010]);
    // The hold was cut off, and has what was counted in its part.
    assert_eq!(result.locks[0].unseen.counts.get(Counter::Measured(slot)), 3);
}
