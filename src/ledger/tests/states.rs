//! Time: which state it goes to, and which of the stacks seen in that state.

use std::collections::BTreeMap;

use super::{apply, assert_sound, at, created_running, ledger, stack, states, step, tid};
use crate::model::{
    event::{LockStep, OffCpu, SampleCause, StackSample, What},
    stack::StackId,
    state::State,
};

/// ```text
/// t     0        10       30   35       60      70
/// 1     |outside |held    |rel |outside          |
/// 2     |outside     |wait(20) |held(35) |outside(60)
/// ```
#[test]
fn a_wait_is_queued_while_another_owns_and_handoff_while_nobody_does() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    step(&mut ledger, 10, 1, LockStep::Acquired);
    step(&mut ledger, 20, 2, LockStep::Want);
    step(&mut ledger, 25, 2, LockStep::Want);
    step(&mut ledger, 30, 1, LockStep::Released);
    step(&mut ledger, 35, 2, LockStep::Acquired);
    step(&mut ledger, 60, 2, LockStep::Released);
    let result = ledger.finish(at(70));
    assert_sound(&result);
    assert_eq!(states(&result, 1), BTreeMap::from([("held_running", 20), ("outside_running", 50)]));
    let second = [("held_running", 25), ("outside_running", 30), ("wait_handoff", 5), ("wait_queued", 10)];
    assert_eq!(states(&result, 2), BTreeMap::from(second));
    let lock = &result.locks[0];
    assert_eq!((lock.held.as_nanos(), lock.free.as_nanos(), lock.contended.as_nanos()), (45, 25, 10));
    assert_eq!((lock.holds, lock.waits, lock.handoff.as_nanos()), (2, 1, 5));
    assert_eq!(result.blame.len(), 1);
    assert_eq!((result.blame[0].holder, result.blame[0].wait.as_nanos()), (Some(tid(1)), 10));
    assert_eq!(result.tally.unmatched, 0);
}

#[test]
fn inside_splits_into_running_preempted_and_blocked() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    step(&mut ledger, 0, 1, LockStep::Acquired);
    apply(&mut ledger, 10, 1, What::SwitchedOut(OffCpu::Preempted));
    apply(&mut ledger, 30, 1, What::SwitchedIn);
    apply(&mut ledger, 35, 1, What::SwitchedOut(OffCpu::Blocked));
    apply(&mut ledger, 75, 1, What::SwitchedIn);
    let result = ledger.finish(at(80));
    assert_sound(&result);
    let expected = [("held_blocked", 40), ("held_preempted", 20), ("held_running", 20)];
    assert_eq!(states(&result, 1), BTreeMap::from(expected));
}

#[test]
fn time_is_spread_over_the_stacks_seen_in_each_state() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    let tick =
        |stack, until| What::Stack(StackSample { until: at(until), stack: Some(stack), cause: SampleCause::Tick });
    step(&mut ledger, 0, 1, LockStep::Acquired);
    step(&mut ledger, 10, 2, LockStep::Want);
    apply(&mut ledger, 20, 1, tick(stack("work"), 21));
    apply(&mut ledger, 30, 1, tick(stack("work"), 31));
    apply(&mut ledger, 40, 1, tick(stack("spin"), 41));
    let read = StackSample { until: at(45), stack: Some(stack("parse")), cause: SampleCause::WaitBegan };
    apply(&mut ledger, 44, 2, What::Stack(read));
    step(&mut ledger, 100, 1, LockStep::Released);
    step(&mut ledger, 100, 2, LockStep::Acquired);
    let result = ledger.finish(at(100));
    assert_sound(&result);
    let spread = |thread: usize, state| -> Vec<(StackId, u64)> {
        let parts = result.threads[thread].stacks.iter().filter(|part| part.state == state);
        parts.map(|part| (part.stack, part.time.as_nanos())).collect()
    };
    assert_eq!(spread(0, State::HeldRunning), [(stack("work"), 67), (stack("spin"), 33)]);
    assert_eq!(spread(1, State::WaitQueued), [(stack("parse"), 90)]);
    let blame: Vec<_> = result.blame.iter().map(|entry| (entry.stack, entry.wait.as_nanos())).collect();
    assert_eq!(blame, [(stack("work"), 60), (stack("spin"), 30)]);
    assert_eq!(result.long_holds[0].stack, stack("work"));
}
