//! Steps that no event tells: what is known without those that got lost, and with those that were counted.

use std::collections::BTreeMap;

use super::{LOCK, apply, assert_sound, at, created_running, ledger, states, step};
use crate::model::{
    event::{CountedSteps, LockStep, LostEvents, What},
    profile::CountedLock,
};

#[test]
fn lost_lock_events_make_the_affected_time_unknown() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    step(&mut ledger, 10, 1, LockStep::Acquired);
    step(&mut ledger, 20, 1, LockStep::Released);
    apply(&mut ledger, 30, 1, What::LostLock(LostEvents { count: 7 }));
    step(&mut ledger, 60, 1, LockStep::Released);
    step(&mut ledger, 70, 2, LockStep::Acquired);
    let result = ledger.finish(at(80));
    assert_sound(&result);
    let first = [("held_running", 10), ("outside_running", 40), ("unknown", 30)];
    assert_eq!(states(&result, 1), BTreeMap::from(first));
    assert_eq!(result.tally.lost, 7);
    assert_eq!(result.tally.unmatched, 0);
    assert_eq!(result.locks[0].unknown.as_nanos(), 30);
}

#[test]
fn what_was_counted_is_exact_only_if_all_was() {
    let counted = |more: &[What]| {
        let mut ledger = ledger(0);
        created_running(&mut ledger, 0, 1);
        step(&mut ledger, 10, 1, LockStep::Acquired);
        let steps = CountedSteps { holds: 5, waits: 2 };
        apply(&mut ledger, 20, 1, What::Counted(LOCK, steps));
        more.iter().for_each(|what| apply(&mut ledger, 30, 1, what.clone()));
        apply(&mut ledger, 40, 1, What::Counted(LOCK, steps));
        ledger.finish(at(80)).locks[0].counted
    };
    assert_eq!(counted(&[]), Some(CountedLock { holds: 11, waits: Some(4) }));
    // Whether the next wait is a new one is not known.
    assert_eq!(counted(&[What::LostLock(LostEvents { count: 7 })]), Some(CountedLock { holds: 11, waits: None }));
    assert_eq!(counted(&[What::Uncounted]), None);
}
