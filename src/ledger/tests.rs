//! Tests of the whole ledger: every relation × step, drawn time lines, and a second implementation that counts single
//! nanoseconds.

mod counts;
mod events;
mod holds;

use std::collections::BTreeMap;

use proptest::prelude::{prop_assert_eq, proptest};

use super::{Attribution, GivingWayLimits, Ledger, LedgerOptions, LockStart, lock::Owner, thread::Relation};
use crate::model::{
    event::{
        CountedSteps, Event, LockStep, LostEvents, OffCpu, SampleCause, SeenCpu, SeenRelation, Sighting, StackSample,
        What,
    },
    ids::{LockId, Tid},
    profile::CountedLock,
    stack::{Frame, StackId, StackTable},
    state::{State, StateClass},
    time::{MonoNanos, Nanos},
};

const LOCK: LockId = LockId::from_index(0);
const LONGEST_GIVING_WAY: u64 = 60;
const LONGEST_STEP: u64 = 10;
const LONGEST_MUTEX_SLEEP: u64 = 30;
const GIVING_WAY: GivingWayLimits = GivingWayLimits {
    computing: Nanos::from_nanos(LONGEST_GIVING_WAY),
    step: Nanos::from_nanos(LONGEST_STEP),
    mutex_sleep: Nanos::from_nanos(LONGEST_MUTEX_SLEEP),
};

fn at(nanos: u64) -> MonoNanos {
    MonoNanos::from_monotonic(nanos)
}

fn tid(raw: i32) -> Tid {
    Tid::from_raw(raw).unwrap()
}

fn stack(name: &str) -> StackId {
    // Stacks of different depth get different ids without sharing a table between tests.
    let names = ["no stack", "work", "spin", "parse"];
    let mut table = StackTable::default();
    let ids = names.map(|name| table.intern(&[Frame::marker(name)]));
    ids[names.iter().position(|known| *known == name).unwrap()]
}

fn ledger(start: u64) -> Ledger {
    let no_stack = stack("no stack");
    let mut ledger = Ledger::new(LedgerOptions {
        start: at(start),
        long_hold: Nanos::from_nanos(50),
        giving_way: GIVING_WAY,
        no_stack,
    });
    ledger.declare_lock(LOCK, "GIL", Some(0), LockStart::Free);
    ledger
}

fn apply(ledger: &mut Ledger, when: u64, thread: i32, what: What) {
    ledger.apply(&Event { at: at(when), tid: tid(thread), what });
}

fn step(ledger: &mut Ledger, when: u64, thread: i32, step: LockStep) {
    apply(ledger, when, thread, What::Lock(LOCK, step));
}

fn created_running(ledger: &mut Ledger, when: u64, thread: i32) {
    apply(ledger, when, thread, What::Created);
    apply(ledger, when, thread, What::SwitchedIn);
}

fn states(attribution: &Attribution, thread: i32) -> BTreeMap<&'static str, u64> {
    let profile = attribution.threads.iter().find(|profile| profile.tid == tid(thread)).unwrap();
    let shown = profile.states.iter().filter(|(_, time)| *time > Nanos::ZERO);
    shown.map(|(state, time)| (state.name(), time.as_nanos())).collect()
}

fn assert_sound(attribution: &Attribution) {
    assert_eq!(attribution.invariants_broken, Vec::<String>::new());
}

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

/// Two holds of 90 and 60 while another waits: the first has a tick, which says more than its end; the second has none,
/// but the pair has. Without any tick both ends count, by the length of their holds.
#[test]
fn the_end_of_a_hold_stands_in_for_ticks() {
    for ticked in [true, false] {
        let mut ledger = ledger(0);
        let read = |stack, cause| What::Stack(StackSample { until: at(0), stack: Some(stack), cause });
        created_running(&mut ledger, 0, 1);
        created_running(&mut ledger, 0, 2);
        step(&mut ledger, 0, 1, LockStep::Acquired);
        step(&mut ledger, 0, 2, LockStep::Want);
        if ticked {
            apply(&mut ledger, 40, 1, read(stack("spin"), SampleCause::Tick));
        }
        for (end, name) in [(90, "work"), (160, "parse")] {
            apply(&mut ledger, end, 1, read(stack(name), SampleCause::AtRelease));
            step(&mut ledger, end, 1, LockStep::Released);
            step(&mut ledger, end + 10, 1, LockStep::Acquired);
        }
        let result = ledger.finish(at(170));
        assert_sound(&result);
        let blame: Vec<_> = result.blame.iter().map(|entry| (entry.stack, entry.wait.as_nanos())).collect();
        let long: Vec<_> = result.long_holds.iter().map(|hold| hold.stack).collect();
        if ticked {
            assert_eq!(blame, [(stack("spin"), 150)]);
            assert_eq!(long, [stack("spin"), stack("parse")]);
        } else {
            assert_eq!(blame, [(stack("work"), 90), (stack("parse"), 60)]);
            assert_eq!(long, [stack("work"), stack("parse")]);
        }
    }
}

/// One wait that spans two holders is cut at the change of owner.
#[test]
fn blame_is_cut_at_every_change_of_owner() {
    let mut ledger = ledger(0);
    for thread in 1..=3 {
        created_running(&mut ledger, 0, thread);
    }
    step(&mut ledger, 0, 1, LockStep::Acquired);
    step(&mut ledger, 0, 3, LockStep::Want);
    step(&mut ledger, 100, 1, LockStep::Released);
    step(&mut ledger, 110, 2, LockStep::Acquired);
    step(&mut ledger, 140, 2, LockStep::Released);
    step(&mut ledger, 145, 3, LockStep::Acquired);
    let result = ledger.finish(at(200));
    assert_sound(&result);
    let blame: Vec<_> = result.blame.iter().map(|entry| (entry.holder.unwrap().raw(), entry.wait.as_nanos())).collect();
    assert_eq!(blame, [(1, 100), (2, 30)]);
    assert_eq!(result.locks[0].handoff.as_nanos(), 15);
    assert_eq!(result.long_holds.len(), 2, "{:?}", result.long_holds);
    assert_eq!(result.long_holds[0].waited.as_nanos(), 100);
    assert_eq!(result.long_holds[0].waiters, 1);
}

/// `exec` is called with the lock held, and nothing ever releases it. What comes is another program's.
#[test]
fn the_books_end_where_another_program_is_executed() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    step(&mut ledger, 10, 1, LockStep::Acquired);
    step(&mut ledger, 20, 2, LockStep::Want);
    apply(&mut ledger, 30, 2, What::Exited);
    apply(&mut ledger, 30, 1, What::Executed);
    apply(&mut ledger, 40, 1, What::Named("sh".into()));
    step(&mut ledger, 50, 1, LockStep::Acquired);
    assert_eq!(ledger.replaced(), Some(at(30)));
    let result = ledger.finish(at(100));
    assert_sound(&result);
    assert_eq!(result.window.as_nanos(), 30);
    assert_eq!(states(&result, 1), BTreeMap::from([("held_running", 20), ("outside_running", 10)]));
    let lock = &result.locks[0];
    assert_eq!((lock.held.as_nanos(), lock.free.as_nanos(), lock.unknown.as_nanos()), (20, 10, 0));
    assert_eq!(result.tally.unmatched, 0);
}

/// A launcher becomes the interpreter: nothing was done with a lock before.
#[test]
fn a_program_executed_before_any_lock_is_used_changes_nothing() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    apply(&mut ledger, 30, 1, What::Executed);
    step(&mut ledger, 50, 1, LockStep::Acquired);
    let result = ledger.finish(at(100));
    assert_sound(&result);
    assert_eq!(states(&result, 1), BTreeMap::from([("held_running", 50), ("outside_running", 50)]));
}

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
fn attaching_seeds_the_owner_the_waiters_and_the_rest() {
    let mut ledger = Ledger::new(LedgerOptions {
        start: at(1000),
        long_hold: Nanos::from_nanos(50),
        giving_way: GIVING_WAY,
        no_stack: stack("no stack"),
    });
    ledger.declare_lock(LOCK, "GIL", Some(0), LockStart::Unknown);
    let sight = |relation, cpu| What::Seen(Sighting { relation: Some(relation), cpu: Some(cpu) });
    // Thread 4 acts before the window begins: that is evidence, but its time does not count.
    step(&mut ledger, 900, 4, LockStep::Want);
    apply(&mut ledger, 1000, 1, sight(SeenRelation::Inside(LOCK), SeenCpu::Runnable));
    apply(&mut ledger, 1000, 2, sight(SeenRelation::Waiting(LOCK), SeenCpu::Asleep));
    apply(&mut ledger, 1000, 3, sight(SeenRelation::Outside, SeenCpu::Asleep));
    apply(&mut ledger, 1000, 4, sight(SeenRelation::Outside, SeenCpu::Asleep));
    step(&mut ledger, 1040, 1, LockStep::Released);
    step(&mut ledger, 1050, 2, LockStep::Acquired);
    let result = ledger.finish(at(1100));
    assert_sound(&result);
    assert_eq!(states(&result, 1), BTreeMap::from([("held_running", 40), ("outside_running", 60)]));
    let second = [("held_blocked", 50), ("wait_handoff", 10), ("wait_queued", 40)];
    assert_eq!(states(&result, 2), BTreeMap::from(second));
    assert_eq!(states(&result, 3), BTreeMap::from([("outside_blocked", 100)]));
    assert_eq!(states(&result, 4), BTreeMap::from([("wait_handoff", 10), ("wait_queued", 90)]));
    assert_eq!(result.unknown, Nanos::ZERO);
}

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

#[test]
fn a_reused_thread_id_is_another_thread() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    apply(&mut ledger, 10, 1, What::Exited);
    apply(&mut ledger, 11, 1, What::SwitchedOut(OffCpu::Blocked));
    created_running(&mut ledger, 50, 1);
    let result = ledger.finish(at(60));
    assert_sound(&result);
    let lives: Vec<_> = result.threads.iter().map(|thread| thread.lifetime.as_nanos()).collect();
    assert_eq!(lives, [10, 10]);
}

/// A stack that was read at the very moment of the acquisition has no weight; the time is somebody's all the same.
#[test]
fn a_reading_without_weight_loses_no_blame() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    step(&mut ledger, 5, 1, LockStep::Acquired);
    step(&mut ledger, 5, 2, LockStep::Want);
    let read = StackSample { until: at(5), stack: Some(stack("work")), cause: SampleCause::AtRelease };
    apply(&mut ledger, 5, 1, What::Stack(read));
    step(&mut ledger, 20, 1, LockStep::Released);
    let result = ledger.finish(at(30));
    assert_sound(&result);
    assert_eq!(result.blame.iter().map(|entry| entry.wait.as_nanos()).sum::<u64>(), 15);
}

/// Each relation of a thread × each owner of the lock × each step: where it leads, and whether it is legal.
#[test]
fn every_relation_meets_every_step() {
    use LockStep::{Acquired, Released, Want, Yielded};
    let relations = ["unknown", "outside", "waiting", "inside"];
    let owners = ["free", "unknown", "other"];
    for relation in relations {
        for owner in owners {
            for taken in [Want, Acquired, Released, Yielded] {
                if relation == "inside" && owner != "free" {
                    continue; // being inside makes the thread itself the owner
                }
                let mut ledger = prepared(relation, owner);
                let before = ledger.tally.unmatched;
                step(&mut ledger, 20, 1, taken);
                let illegal = ledger.tally.unmatched - before;
                let after = name(&ledger.threads[&tid(1)].relation);
                let (expected, expected_illegal) = expectation(relation, owner, taken);
                let case = format!("{relation}, owner {owner}, {taken:?}");
                assert_eq!((after, illegal), (expected, expected_illegal), "{case}");
                assert_sound(&ledger.finish(at(30)));
            }
        }
    }
}

fn prepared(relation: &str, owner: &str) -> Ledger {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    match relation {
        "unknown" => ledger.threads.get_mut(&tid(1)).unwrap().relation = Relation::Unknown,
        "waiting" => step(&mut ledger, 5, 1, LockStep::Want),
        "inside" => step(&mut ledger, 5, 1, LockStep::Acquired),
        _ => {}
    }
    match owner {
        "other" => step(&mut ledger, 10, 2, LockStep::Acquired),
        "unknown" => {
            ledger.charge_lock(LOCK);
            ledger.locks[0].owner = Owner::Unknown;
        }
        _ => {}
    }
    ledger
}

fn expectation(relation: &str, owner: &str, taken: LockStep) -> (&'static str, u64) {
    match (taken, relation) {
        (LockStep::Want, "inside") => ("waiting", 1),
        (LockStep::Want, _) => ("waiting", 0),
        (LockStep::Yielded, "inside") => ("outside", 1),
        (LockStep::Yielded, "unknown") => ("unknown", 0),
        (LockStep::Yielded, "outside") => ("outside", 0),
        (LockStep::Yielded, _) => ("waiting", 0),
        (LockStep::Acquired, "inside") => ("inside", 1),
        (LockStep::Acquired, _) => ("inside", u64::from(owner == "other")),
        (LockStep::Released, "inside") => ("outside", 0),
        (LockStep::Released, "unknown") => ("outside", u64::from(owner != "unknown")),
        (LockStep::Released, "waiting") => ("waiting", 1),
        (LockStep::Released, _) => ("outside", 1),
    }
}

fn name(relation: &Relation) -> &'static str {
    match relation {
        Relation::Unknown => "unknown",
        Relation::Outside => "outside",
        Relation::Waiting(_) => "waiting",
        Relation::Inside(_) => "inside",
    }
}

/// A second implementation, as naive as can be: it moves time on by one nanosecond and adds one to whatever holds.
#[derive(Default)]
struct Naive {
    inside: Option<usize>,
    waiting: [bool; THREADS],
    cpu: [Option<OffCpu>; THREADS],
    states: [BTreeMap<&'static str, u64>; THREADS],
    blame: BTreeMap<(usize, usize), u64>,
    /// Nanosecond by nanosecond since a release: the state counted, and who owned the lock.
    since_release: [Option<Log>; THREADS],
    /// Whether the thread yields and has not slept since.
    yields: [bool; THREADS],
    /// Whether its release may have been forced.
    asked: [bool; THREADS],
    /// Since when it sleeps for what may be a mutex of the lock.
    in_mutex: [Option<u64>; THREADS],
    ran: [u64; THREADS],
    /// Who took the last step, and how long that thread had run before.
    last_step: Option<(usize, u64)>,
    has_yielded: [bool; THREADS],
    slept_since: [u64; THREADS],
    held_since: u64,
    requested: bool,
    /// Who waited, nanosecond by nanosecond since the last reading of the holder, and that reading.
    contended: Vec<[bool; THREADS]>,
    last_read: Option<StackId>,
    /// By waiter, holder and stack.
    near: BTreeMap<(usize, usize, StackId), u64>,
    now: u64,
}

const THREADS: usize = 4;

/// One entry a nanosecond: the state counted, and who owned the lock.
type Log = Vec<(State, Option<usize>)>;

impl Naive {
    fn advance(&mut self, nanos: u64) {
        for _ in 0..nanos {
            for thread in 0..THREADS {
                let state = self.state(thread);
                *self.states[thread].entry(state.name()).or_default() += 1;
                self.ran[thread] += u64::from(self.cpu[thread].is_none());
                if let Some(log) = &mut self.since_release[thread] {
                    log.push((state, self.inside));
                }
                if let (true, Some(holder)) = (self.waiting[thread], self.inside) {
                    *self.blame.entry((thread, holder)).or_default() += 1;
                }
            }
            self.contended.push(if self.inside.is_some() { self.waiting } else { [false; THREADS] });
        }
        self.now += nanos;
    }

    fn state(&self, thread: usize) -> State {
        match (self.waiting[thread], self.inside, self.cpu[thread]) {
            (true, Some(_), _) => State::WaitQueued,
            (true, None, _) => State::WaitHandoff,
            (false, Some(holder), None) if holder == thread => State::HeldRunning,
            (false, Some(holder), Some(OffCpu::Preempted)) if holder == thread => State::HeldPreempted,
            (false, Some(holder), Some(OffCpu::Blocked)) if holder == thread => State::HeldBlocked,
            (false, _, None) => State::OutsideRunning,
            (false, _, Some(OffCpu::Preempted)) => State::OutsidePreempted,
            (false, _, Some(OffCpu::Blocked)) => State::OutsideBlocked,
        }
    }

    /// The thread asks for the lock: if its release was forced, what was counted since then was waiting.
    fn asks(&mut self, thread: usize) {
        let log = self.since_release[thread].take().unwrap_or_default();
        let running = log.iter().filter(|(state, _)| *state == State::OutsideRunning).count();
        if !self.asked[thread] || running > usize::try_from(LONGEST_GIVING_WAY).unwrap() {
            return;
        }
        for (state, owner) in log {
            *self.states[thread].get_mut(state.name()).unwrap() -= 1;
            let waiting = if owner.is_some() { State::WaitQueued } else { State::WaitHandoff };
            *self.states[thread].entry(waiting.name()).or_default() += 1;
            if let Some(holder) = owner {
                *self.blame.entry((thread, holder)).or_default() += 1;
            }
        }
        self.states[thread].retain(|_, nanos| *nanos > 0);
    }

    /// The thread begins to sleep for a switch interval; if the hold went on during the last one, it has asked for the lock.
    fn slice(&mut self, thread: usize) {
        if self.waiting[thread] && self.held_since <= self.slept_since[thread] {
            self.requested = true;
        }
        self.slept_since[thread] = self.now;
    }

    /// The holder's stack is `next`, or its hold ends: each waiter's time since the last reading, the first half to that.
    fn read_holder(&mut self, holder: usize, next: Option<StackId>) {
        let contended = std::mem::take(&mut self.contended);
        for waiter in 0..THREADS {
            let count = contended.iter().filter(|waiting| waiting[waiter]).count();
            for index in 0..count {
                let last = self.last_read.filter(|_| next.is_none() || index < count / 2);
                if let Some(stack) = last.or(next) {
                    *self.near.entry((waiter, holder, stack)).or_default() += 1;
                }
            }
        }
        self.last_read = next;
    }

    /// Whether `thread`, which goes to sleep, may do so while it gives way.
    fn may_sleep(&mut self, thread: usize) -> bool {
        if std::mem::take(&mut self.yields[thread]) {
            return true;
        }
        let (contended, stepping) = match self.last_step {
            Some((by, _)) if by == thread => (self.asked[thread] && !self.has_yielded[thread], false),
            Some((by, ran)) => (self.ran[by] - ran <= LONGEST_STEP, true),
            None => (false, false),
        };
        let in_mutex = contended && stepping && self.since_release[thread].is_some();
        self.in_mutex[thread] = in_mutex.then_some(self.now);
        contended
    }

    /// Does what `choice` says if it is legal for `thread` now, and names the event.
    fn act(&mut self, thread: usize, choice: u8) -> Option<What> {
        let what = self.what(thread, choice);
        if let Some(What::Lock(..)) = what {
            self.last_step = Some((thread, self.ran[thread]));
        }
        what
    }

    fn what(&mut self, thread: usize, choice: u8) -> Option<What> {
        let mine = self.inside == Some(thread);
        match choice {
            0 if !mine && self.inside.is_some() => {
                self.slice(thread);
                self.asks(thread);
                self.waiting[thread] = true;
                Some(What::Lock(LOCK, LockStep::Want))
            }
            1 if self.inside.is_none() => {
                self.asks(thread);
                self.inside = Some(thread);
                (self.held_since, self.requested) = (self.now, false);
                self.contended.clear();
                self.waiting[thread] = false;
                Some(What::Lock(LOCK, LockStep::Acquired))
            }
            2 if mine => {
                self.read_holder(thread, None);
                self.inside = None;
                self.since_release[thread] = Some(Vec::new());
                (self.asked[thread], self.yields[thread]) = (self.requested, false);
                (self.has_yielded[thread], self.in_mutex[thread]) = (false, None);
                Some(What::Lock(LOCK, LockStep::Released))
            }
            3 if !mine && !self.waiting[thread] => {
                (self.asked[thread], self.yields[thread]) = (true, true);
                self.has_yielded[thread] = true;
                Some(What::Lock(LOCK, LockStep::Yielded))
            }
            4 if self.cpu[thread].is_some() => {
                self.cpu[thread] = None;
                if self.in_mutex[thread].take().is_some_and(|since| self.now - since > LONGEST_MUTEX_SLEEP) {
                    self.since_release[thread] = None;
                }
                Some(What::SwitchedIn)
            }
            5 | 6 if self.cpu[thread].is_none() => {
                let why = if choice == 5 { OffCpu::Preempted } else { OffCpu::Blocked };
                if why == OffCpu::Blocked && !self.may_sleep(thread) {
                    self.since_release[thread] = None;
                }
                self.cpu[thread] = Some(why);
                Some(What::SwitchedOut(why))
            }
            7 if self.waiting[thread] && self.inside.is_some() => {
                let read = stack(["work", "spin", "parse"][usize::try_from(self.now % 3).unwrap()]);
                self.read_holder(self.inside.unwrap(), Some(read));
                let sample = StackSample { until: at(self.now), stack: Some(read), cause: SampleCause::Contended };
                Some(What::Stack(sample))
            }
            _ => None,
        }
    }
}

/// What the books say about each pair by readings of the holder's stack.
fn near(ledger: &Ledger) -> BTreeMap<(usize, usize, StackId), u64> {
    let mut all = BTreeMap::new();
    for (waiter, holder) in (0..THREADS).flat_map(|waiter| (0..THREADS).map(move |holder| (waiter, holder))) {
        let [of_waiter, of_holder] = [waiter, holder].map(|thread| tid(i32::try_from(thread + 1).unwrap()));
        let pair = super::blame::Pair::of(LOCK, of_waiter, of_holder);
        all.extend(ledger.blame.near(pair).into_iter().map(|(stack, time)| ((waiter, holder, stack), time)));
    }
    all
}

/// ```text
/// t     0   10        30      50   54  60
/// 1     |held: slow           |.   |innocent, released at 60
/// 2     |   |waits, reads slow|reads slow   |
/// 3     |             |waits, reads slow    |
/// ```
#[test]
fn blame_goes_to_the_readings_that_waiters_took() {
    let mut ledger = ledger(0);
    for thread in 1..=3 {
        created_running(&mut ledger, 0, thread);
    }
    let sample = |name, cause| What::Stack(StackSample { until: at(0), stack: Some(stack(name)), cause });
    step(&mut ledger, 0, 1, LockStep::Acquired);
    step(&mut ledger, 10, 2, LockStep::Want);
    apply(&mut ledger, 10, 2, sample("parse", SampleCause::Contended));
    step(&mut ledger, 30, 3, LockStep::Want);
    apply(&mut ledger, 30, 3, sample("work", SampleCause::Contended));
    step(&mut ledger, 50, 2, LockStep::Want);
    apply(&mut ledger, 50, 2, sample("work", SampleCause::Contended));
    apply(&mut ledger, 60, 1, sample("spin", SampleCause::AtRelease));
    step(&mut ledger, 60, 1, LockStep::Released);
    step(&mut ledger, 60, 2, LockStep::Acquired);
    apply(&mut ledger, 65, 2, sample("spin", SampleCause::AtRelease));
    step(&mut ledger, 65, 2, LockStep::Released);
    let result = ledger.finish(at(70));
    assert_sound(&result);
    let blame: Vec<_> = result
        .blame
        .iter()
        .map(|b| (b.waiter.unwrap().raw(), b.holder.unwrap().raw(), b.stack, b.wait.as_nanos()))
        .collect();
    // Nobody read the second holder, so the stack of its release stands in; the first one's does not.
    let expected =
        [(2, 1, stack("work"), 40), (3, 1, stack("work"), 30), (2, 1, stack("parse"), 10), (3, 2, stack("spin"), 5)];
    assert_eq!(blame, expected);
}

proptest! {
    #[test]
    fn agrees_with_counting_single_nanoseconds(
        script in proptest::collection::vec((0..THREADS, 0_u8..8, 0_u64..40), 0..300),
    ) {
        let mut naive = Naive::default();
        let mut ledger = ledger(0);
        for thread in 1..=THREADS {
            created_running(&mut ledger, 0, i32::try_from(thread).unwrap());
        }
        for (thread, choice, nanos) in script {
            if let Some(what) = naive.act(thread, choice) {
                apply(&mut ledger, naive.now, i32::try_from(thread + 1).unwrap(), what);
            }
            naive.advance(nanos);
        }
        ledger.now = at(naive.now);
        ledger.charge_lock(LOCK);
        ledger.blame_owner(LOCK);
        if let Some(holder) = naive.inside {
            naive.read_holder(holder, None);
        }
        prop_assert_eq!(near(&ledger), naive.near.clone());
        let result = ledger.finish(at(naive.now));
        prop_assert_eq!(&result.invariants_broken, &Vec::<String>::new());
        prop_assert_eq!(result.tally.unmatched, 0);
        for thread in 0..THREADS {
            prop_assert_eq!(states(&result, i32::try_from(thread + 1).unwrap()), naive.states[thread].clone());
        }
        let mut blame = BTreeMap::new();
        for entry in &result.blame {
            let index = |tid: Tid| usize::try_from(tid.raw() - 1).unwrap();
            *blame.entry((index(entry.waiter.unwrap()), index(entry.holder.unwrap()))).or_default() += entry.wait.as_nanos();
        }
        prop_assert_eq!(blame, naive.blame);
    }

    /// Whatever comes in, legal or not, the invariants hold.
    #[test]
    fn no_input_breaks_an_invariant(
        script in proptest::collection::vec((1_i32..5, 0_u8..17, 0_u64..40), 0..300),
    ) {
        let mut ledger = ledger(100);
        let mut now = 0;
        for (thread, choice, nanos) in script {
            now += nanos;
            apply(&mut ledger, now, thread, anything(choice, now));
        }
        let result = ledger.finish(at(now));
        prop_assert_eq!(&result.invariants_broken, &Vec::<String>::new());
    }
}

fn anything(choice: u8, now: u64) -> What {
    let tick = |cause| What::Stack(StackSample { until: at(now + 1), stack: Some(stack("work")), cause });
    match choice {
        0 => What::Lock(LOCK, LockStep::Want),
        1 => What::Lock(LOCK, LockStep::Acquired),
        2 => What::Lock(LOCK, LockStep::Released),
        3 => What::Lock(LockId::from_index(1), LockStep::Acquired),
        4 => What::SwitchedIn,
        5 => What::SwitchedOut(OffCpu::Blocked),
        6 => What::Created,
        7 => What::Exited,
        8 => What::LostLock(LostEvents { count: 1 }),
        9 => What::LostSwitch(LostEvents { count: 1 }),
        10 => What::Seen(Sighting { relation: Some(SeenRelation::Inside(LOCK)), cpu: Some(SeenCpu::Runnable) }),
        11 => What::RunDelay(Nanos::from_nanos(now / 3)),
        12 => tick(SampleCause::Tick),
        13 => tick(SampleCause::Contended),
        14 => tick(SampleCause::AtRelease),
        15 => tick(SampleCause::OwnerSampled),
        _ => tick(SampleCause::WaitBegan),
    }
}

#[test]
fn an_owner_reads_itself_while_others_wait() {
    let mut ledger = ledger(0);
    for thread in 1..=2 {
        created_running(&mut ledger, 0, thread);
    }
    let sample = |name, cause| What::Stack(StackSample { until: at(0), stack: Some(stack(name)), cause });
    step(&mut ledger, 0, 1, LockStep::Acquired);
    apply(&mut ledger, 5, 1, sample("spin", SampleCause::OwnerSampled));
    step(&mut ledger, 10, 2, LockStep::Want);
    apply(&mut ledger, 20, 1, sample("parse", SampleCause::OwnerSampled));
    // Once somebody has read owners, a tick is one more reading.
    apply(&mut ledger, 40, 1, sample("work", SampleCause::Tick));
    step(&mut ledger, 60, 1, LockStep::Released);
    step(&mut ledger, 60, 2, LockStep::Acquired);
    // Too late: it is no owner any more, and waits for the other one.
    step(&mut ledger, 60, 1, LockStep::Want);
    apply(&mut ledger, 60, 1, sample("spin", SampleCause::OwnerSampled));
    let result = ledger.finish(at(60));
    assert_sound(&result);
    let blame: Vec<_> = result.blame.iter().map(|blame| (blame.stack, blame.wait.as_nanos())).collect();
    assert_eq!(blame, [(stack("work"), 30), (stack("parse"), 20)]);
}
