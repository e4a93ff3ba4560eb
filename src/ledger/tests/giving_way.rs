//! Releases: which were forced, so that the wait began there, and which were the thread's own wish.

use std::collections::BTreeMap;

use super::{
    LONGEST_GIVING_WAY, LONGEST_MUTEX_SLEEP, LONGEST_STEP, apply, assert_sound, at, created_running, ledger, states,
    step,
};
use crate::model::{
    event::{LockStep, OffCpu, What},
    state::{State, StateClass},
    time::Nanos,
};

/// ```text
/// t     0    5 6               20     28  30   35
/// 1     |held|rel, yields, asleep      |in|wants|acquired: the wait began at 5
/// 2     |outside     |held (10 to 31)     |
/// ```
#[test]
fn a_wait_after_a_forced_release_began_at_the_release() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    step(&mut ledger, 0, 1, LockStep::Acquired);
    step(&mut ledger, 5, 1, LockStep::Released);
    step(&mut ledger, 6, 1, LockStep::Yielded);
    apply(&mut ledger, 7, 1, What::SwitchedOut(OffCpu::Blocked));
    step(&mut ledger, 10, 2, LockStep::Acquired);
    apply(&mut ledger, 28, 1, What::SwitchedIn);
    step(&mut ledger, 30, 1, LockStep::Want);
    step(&mut ledger, 31, 2, LockStep::Released);
    step(&mut ledger, 35, 1, LockStep::Acquired);
    let result = ledger.finish(at(40));
    assert_sound(&result);
    let first = [("held_running", 10), ("wait_handoff", 9), ("wait_queued", 21)];
    assert_eq!(states(&result, 1), BTreeMap::from(first));
    let lock = &result.locks[0];
    assert_eq!((lock.contended.as_nanos(), lock.wait_spread.max.as_nanos()), (21, 30));
    assert_eq!((lock.forced_releases, result.threads[0].forced_releases), (1, 1));
    assert_eq!(result.blame[0].wait.as_nanos(), 21);
}

/// A release that yields because somebody has asked, but for the sake of its own sleep: it does not want the lock back.
#[test]
fn a_release_before_sleeping_was_its_own_wish() {
    for yields in [false, true] {
        let mut ledger = ledger(0);
        created_running(&mut ledger, 0, 1);
        step(&mut ledger, 0, 1, LockStep::Acquired);
        step(&mut ledger, 5, 1, LockStep::Released);
        if yields {
            step(&mut ledger, 5, 1, LockStep::Yielded);
            apply(&mut ledger, 5, 1, What::SwitchedOut(OffCpu::Blocked));
            apply(&mut ledger, 5, 1, What::SwitchedIn);
        }
        apply(&mut ledger, 6, 1, What::SwitchedOut(OffCpu::Blocked));
        apply(&mut ledger, 16, 1, What::SwitchedIn);
        step(&mut ledger, 17, 1, LockStep::Acquired);
        let result = ledger.finish(at(20));
        assert_sound(&result);
        let expected = [("held_running", 8), ("outside_blocked", 10), ("outside_running", 2)];
        assert_eq!(states(&result, 1), BTreeMap::from(expected), "yields: {yields}");
        assert_eq!(result.locks[0].forced_releases, 0);
    }
}

/// ```text
/// t     0    5 6               10   12 13  16 17  19      20
/// 1     |held|rel, yields, asleep   |in|out|in|out |in     |wants: the wait began at 5
/// 2     |outside, asleep       |acquired, preempted  …       its mutexes are still locked: it has run for 2
/// ```
#[test]
fn a_sleep_for_the_mutexes_of_a_step_is_part_of_giving_way() {
    for (ran_since_step, forced) in [(2, 1), (LONGEST_STEP + 1, 0)] {
        let mut ledger = ledger(0);
        created_running(&mut ledger, 0, 1);
        created_running(&mut ledger, 0, 2);
        step(&mut ledger, 0, 1, LockStep::Acquired);
        step(&mut ledger, 5, 1, LockStep::Released);
        step(&mut ledger, 6, 1, LockStep::Yielded);
        apply(&mut ledger, 6, 1, What::SwitchedOut(OffCpu::Blocked));
        step(&mut ledger, 10, 2, LockStep::Acquired);
        let woken = 10 + ran_since_step;
        apply(&mut ledger, woken, 2, What::SwitchedOut(OffCpu::Preempted));
        apply(&mut ledger, woken, 1, What::SwitchedIn);
        for slept in [3, 2] {
            apply(&mut ledger, woken + slept, 1, What::SwitchedOut(OffCpu::Blocked));
            apply(&mut ledger, woken + 2 * slept, 1, What::SwitchedIn);
        }
        step(&mut ledger, woken + 10, 1, LockStep::Want);
        let result = ledger.finish(at(woken + 20));
        assert_sound(&result);
        assert_eq!((result.locks[0].forced_releases, result.locks[0].waits), (forced, 1));
        let waited = if forced == 1 { 5 + 22 } else { 10 };
        assert_eq!(result.threads[0].states.class(StateClass::Waiting).as_nanos(), waited);
    }
}

/// ```text
/// t     0                 5        6                     100    101
/// 1     |held, asked for   |released|asleep for the mutex  |in     |wants: the wait began at 5
/// 2     |wants, and again          |woken, preempted with the mutex locked
/// ```
#[test]
fn whoever_is_asked_sleeps_for_a_mutex_as_long_as_it_takes() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    step(&mut ledger, 0, 1, LockStep::Acquired);
    step(&mut ledger, 1, 2, LockStep::Want);
    step(&mut ledger, 2, 2, LockStep::Want);
    step(&mut ledger, 5, 1, LockStep::Released);
    apply(&mut ledger, 6, 1, What::SwitchedOut(OffCpu::Blocked));
    apply(&mut ledger, 100, 1, What::SwitchedIn);
    step(&mut ledger, 101, 1, LockStep::Want);
    let result = ledger.finish(at(110));
    assert_sound(&result);
    assert_eq!(result.locks[0].forced_releases, 1);
    assert_eq!(states(&result, 1), BTreeMap::from([("held_running", 5), ("wait_handoff", 105)]));
}

#[test]
fn a_sleep_too_long_for_a_mutex_was_its_own_wish() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    step(&mut ledger, 0, 1, LockStep::Acquired);
    step(&mut ledger, 5, 1, LockStep::Released);
    step(&mut ledger, 6, 1, LockStep::Yielded);
    apply(&mut ledger, 6, 1, What::SwitchedOut(OffCpu::Blocked));
    step(&mut ledger, 10, 2, LockStep::Acquired);
    apply(&mut ledger, 11, 1, What::SwitchedIn);
    apply(&mut ledger, 12, 1, What::SwitchedOut(OffCpu::Blocked));
    apply(&mut ledger, 13 + LONGEST_MUTEX_SLEEP, 1, What::SwitchedIn);
    step(&mut ledger, 14 + LONGEST_MUTEX_SLEEP, 1, LockStep::Want);
    let result = ledger.finish(at(60));
    assert_sound(&result);
    assert_eq!(result.locks[0].forced_releases, 0);
    assert_eq!(result.threads[0].states.get(State::OutsideBlocked).as_nanos(), 5 + 1 + LONGEST_MUTEX_SLEEP);
}

/// ```text
/// t     0    5                  25  26        the kernel's counter, read at 25, has grown by 8
/// 1     |held|rel, yields, asleep|in |wants: all of it was waiting, and no part of it preemption
/// ```
#[test]
fn latency_read_before_a_release_turns_out_forced_leaves_with_it() {
    for read_at_wake in [true, false] {
        let mut ledger = ledger(0);
        created_running(&mut ledger, 0, 1);
        created_running(&mut ledger, 0, 2);
        apply(&mut ledger, 0, 1, What::RunDelay(Nanos::ZERO));
        step(&mut ledger, 0, 1, LockStep::Acquired);
        step(&mut ledger, 5, 1, LockStep::Released);
        step(&mut ledger, 5, 1, LockStep::Yielded);
        apply(&mut ledger, 5, 1, What::SwitchedOut(OffCpu::Blocked));
        step(&mut ledger, 10, 2, LockStep::Acquired);
        apply(&mut ledger, 25, 1, What::SwitchedIn);
        let reading = What::RunDelay(Nanos::from_nanos(8));
        if read_at_wake {
            apply(&mut ledger, 25, 1, reading.clone());
        }
        step(&mut ledger, 26, 1, LockStep::Want);
        apply(&mut ledger, 27, 1, reading);
        let result = ledger.finish(at(30));
        assert_sound(&result);
        let expected = BTreeMap::from([("held_running", 5), ("wait_handoff", 5), ("wait_queued", 20)]);
        assert_eq!(states(&result, 1), expected, "read at the wake-up: {read_at_wake}");
    }
}

/// The waiter that is woken by the release may take the lock before the releaser can yield; that the release was forced
/// shows by the waiter's second slice, which began with a request.
#[test]
fn a_release_on_request_is_forced_even_without_a_yield() {
    for slices in [1, 2] {
        let mut ledger = ledger(0);
        created_running(&mut ledger, 0, 1);
        created_running(&mut ledger, 0, 2);
        step(&mut ledger, 0, 1, LockStep::Acquired);
        for slice in 0..slices {
            step(&mut ledger, 1 + slice, 2, LockStep::Want);
        }
        step(&mut ledger, 5, 1, LockStep::Released);
        apply(&mut ledger, 6, 1, What::SwitchedOut(OffCpu::Preempted));
        step(&mut ledger, 8, 2, LockStep::Acquired);
        apply(&mut ledger, 18, 1, What::SwitchedIn);
        step(&mut ledger, 20, 1, LockStep::Want);
        let result = ledger.finish(at(30));
        assert_sound(&result);
        let forced = u64::from(slices == 2);
        assert_eq!(result.locks[0].forced_releases, forced);
        let expected = if forced == 1 { (3, 22) } else { (0, 10) };
        let found = |state| result.threads[0].states.get(state).as_nanos();
        assert_eq!((found(State::WaitHandoff), found(State::WaitQueued)), expected);
    }
}

#[test]
fn computing_for_long_after_a_release_was_its_own_wish() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    step(&mut ledger, 0, 1, LockStep::Acquired);
    step(&mut ledger, 5, 1, LockStep::Released);
    step(&mut ledger, 6, 1, LockStep::Yielded);
    step(&mut ledger, 6 + LONGEST_GIVING_WAY, 1, LockStep::Want);
    let result = ledger.finish(at(100));
    assert_sound(&result);
    assert_eq!(result.threads[0].states.get(State::OutsideRunning).as_nanos(), 1 + LONGEST_GIVING_WAY);
}
