//! What is counted of a thread, and to which class it goes.

use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::{LOCK, apply, at, created_running, ledger, step, tid};
use crate::{
    ledger::Attribution,
    model::{
        counts::{ClassCounts, Counter},
        event::{LockStep, LostEvents, OffCpu, What},
        state::StateClass,
    },
};

fn counts(attribution: &Attribution, thread: i32) -> Option<ClassCounts> {
    attribution.threads.iter().find(|profile| profile.tid == tid(thread)).unwrap().counts
}

/// Inside, waiting, outside.
fn by_class(counts: &ClassCounts, counter: Counter) -> [u64; 3] {
    [StateClass::Inside, StateClass::Waiting, StateClass::Outside].map(|class| counts.class(class).get(counter))
}

const FAULT: What = What::Happened(Counter::MinorFaults, 1);

/// ```text
/// t     0        10             30       40      45      60       70
/// 1     |outside |held, 2 faults|outside |wait 1 |asleep |held    |
///          fault                   fault           1
/// ```
#[test]
fn what_happens_belongs_to_the_class_of_its_moment() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    apply(&mut ledger, 5, 1, FAULT);
    step(&mut ledger, 10, 1, LockStep::Acquired);
    apply(&mut ledger, 20, 1, FAULT);
    apply(&mut ledger, 25, 1, FAULT);
    step(&mut ledger, 30, 1, LockStep::Released);
    apply(&mut ledger, 35, 1, FAULT);
    step(&mut ledger, 36, 2, LockStep::Acquired);
    step(&mut ledger, 40, 1, LockStep::Want);
    apply(&mut ledger, 41, 1, FAULT);
    apply(&mut ledger, 45, 1, What::SwitchedOut(OffCpu::Blocked));
    step(&mut ledger, 59, 2, LockStep::Released);
    apply(&mut ledger, 60, 1, What::Happened(Counter::Migrations, 1));
    apply(&mut ledger, 60, 1, What::SwitchedIn);
    step(&mut ledger, 60, 1, LockStep::Acquired);
    let result = ledger.finish(at(70));
    // Nobody saw the stack of that hold.
    assert_eq!(result.locks[0].unseen.counts.get(Counter::MinorFaults), 2);
    let counts = counts(&result, 1).unwrap();
    assert_eq!(by_class(&counts, Counter::MinorFaults), [2, 1, 2]);
    assert_eq!(by_class(&counts, Counter::ContextSwitches), [0, 1, 0]);
    assert_eq!(by_class(&counts, Counter::Migrations), [0, 1, 0]);
    assert_eq!(by_class(&counts, Counter::TaskClock), [30, 5, 20]);
    assert_eq!(counts.total().get(Counter::TaskClock), 55);
}

/// The release at 30 turns out to have been forced: what came after it belongs to the wait, and nothing before it does.
#[test]
fn what_happens_after_a_forced_release_belongs_to_the_wait() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    apply(&mut ledger, 5, 1, FAULT);
    step(&mut ledger, 10, 1, LockStep::Acquired);
    step(&mut ledger, 20, 2, LockStep::Want);
    step(&mut ledger, 30, 1, LockStep::Released);
    apply(&mut ledger, 31, 1, FAULT);
    step(&mut ledger, 32, 1, LockStep::Yielded);
    apply(&mut ledger, 33, 1, What::SwitchedOut(OffCpu::Blocked));
    step(&mut ledger, 34, 2, LockStep::Acquired);
    apply(&mut ledger, 50, 1, What::SwitchedIn);
    step(&mut ledger, 51, 1, LockStep::Want);
    let result = ledger.finish(at(60));
    assert_eq!(result.locks[0].forced_releases, 1);
    let counts = counts(&result, 1).unwrap();
    assert_eq!(by_class(&counts, Counter::MinorFaults), [0, 1, 1]);
    assert_eq!(by_class(&counts, Counter::ContextSwitches), [0, 1, 0]);
    assert_eq!(by_class(&counts, Counter::TaskClock), [20, 13, 10]);
}

#[test]
fn after_a_loss_nothing_is_claimed() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    apply(&mut ledger, 5, 1, FAULT);
    apply(&mut ledger, 6, 1, What::LostSwitch(LostEvents { count: 1 }));
    assert_eq!(counts(&ledger.finish(at(10)), 1), None);
}

fn anything() -> impl Strategy<Value = What> {
    let lock = |step| Just(What::Lock(LOCK, step));
    prop_oneof![
        lock(LockStep::Want),
        lock(LockStep::Acquired),
        lock(LockStep::Released),
        lock(LockStep::Yielded),
        Just(What::SwitchedIn),
        any::<bool>().prop_map(|slept| What::SwitchedOut(if slept { OffCpu::Blocked } else { OffCpu::Preempted })),
        Just(FAULT),
        Just(What::Happened(Counter::Migrations, 1)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_is_counted_exactly_once(events in proptest::collection::vec((1..4_i32, 1..40_u64, anything()), 0..200)) {
        let mut ledger = ledger(0);
        let mut now = 0;
        let mut expected = [[0; 3]; 3];
        for (thread, gap, what) in events {
            if now == 0 {
                (1..4).for_each(|thread| created_running(&mut ledger, 0, thread));
            }
            now += gap;
            let kind = match what {
                What::Happened(Counter::MinorFaults, 1) => Some(0),
                What::Happened(..) => Some(1),
                What::SwitchedOut(_) => Some(2),
                _ => None,
            };
            kind.into_iter().for_each(|kind| expected[usize::try_from(thread).unwrap() - 1][kind] += 1);
            apply(&mut ledger, now, thread, what);
        }
        let result = ledger.finish(at(now));
        for thread in &result.threads {
            let total = thread.counts.unwrap().total();
            let counted = [Counter::MinorFaults, Counter::Migrations, Counter::ContextSwitches].map(|counter| total.get(counter));
            prop_assert_eq!(counted, expected[usize::try_from(thread.tid.raw()).unwrap() - 1]);
        }
    }
}
