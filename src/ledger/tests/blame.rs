//! Blame: whom a wait is charged to, and under which of the owner's stacks.

use super::{apply, assert_sound, at, created_running, ledger, stack, step};
use crate::model::event::{LockStep, SampleCause, StackSample, What};

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
