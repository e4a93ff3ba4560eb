//! Threads: what is known of one when it is found, when it executes another program, and when its id is another's.

use std::collections::BTreeMap;

use super::{GIVING_WAY, LOCK, apply, assert_sound, at, created_running, ledger, stack, states, step};
use crate::{
    ledger::{Ledger, LedgerOptions, LockStart},
    model::{
        event::{LockStep, OffCpu, SeenCpu, SeenRelation, Sighting, What},
        time::Nanos,
    },
};

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
