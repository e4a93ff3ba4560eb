//! Samples of an event: to which class they go, and that none gets lost.

use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{LOCK, apply, created_running, ledger, stack, step};
use crate::{
    ledger::Attribution,
    model::{
        event::{EventSample, LockStep, LostEvents, OffCpu, What},
        stack::StackId,
        state::StateClass,
    },
};

fn sample(weight: u64) -> What {
    sample_at(Some(stack("work")), weight)
}

fn sample_at(stack: Option<StackId>, weight: u64) -> What {
    What::EventSample(EventSample { stack, weight })
}

/// Inside, waiting, outside, unknown.
fn classes(result: &Attribution) -> [u64; 4] {
    assert_eq!(result.invariants_broken, Vec::<String>::new());
    StateClass::ALL.map(|class| result.events.class(class))
}

/// ```text
/// t     0        10         30       40          60
/// 1     |outside |held      |outside |wait       |held
///          1          10        100       1000
/// ```
#[test]
fn a_sample_belongs_to_the_class_of_its_moment() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    apply(&mut ledger, 5, 1, sample(1));
    step(&mut ledger, 10, 1, LockStep::Acquired);
    apply(&mut ledger, 20, 1, sample(10));
    step(&mut ledger, 30, 1, LockStep::Released);
    apply(&mut ledger, 35, 1, sample(100));
    step(&mut ledger, 36, 2, LockStep::Acquired);
    step(&mut ledger, 40, 1, LockStep::Want);
    apply(&mut ledger, 41, 1, sample_at(None, 1000));
    step(&mut ledger, 59, 2, LockStep::Released);
    step(&mut ledger, 60, 1, LockStep::Acquired);
    let result = ledger.finish(super::at(70));
    assert_eq!(classes(&result), [10, 1000, 101, 0]);
    assert_eq!((result.events.samples, result.events.without_stack), (4, 1));
    let first = result.events.rows[0];
    assert_eq!((first.class, first.stack, first.weight), (StateClass::Waiting, stack("no stack"), 1000));
}

/// The release at 30 turns out to have been forced: what came after it belongs to the wait, and nothing before it does.
#[test]
fn a_sample_after_a_forced_release_belongs_to_the_wait() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    apply(&mut ledger, 5, 1, sample(1));
    step(&mut ledger, 10, 1, LockStep::Acquired);
    step(&mut ledger, 20, 2, LockStep::Want);
    step(&mut ledger, 30, 1, LockStep::Released);
    apply(&mut ledger, 31, 1, sample(10));
    step(&mut ledger, 32, 1, LockStep::Yielded);
    apply(&mut ledger, 33, 1, What::SwitchedOut(OffCpu::Blocked));
    step(&mut ledger, 34, 2, LockStep::Acquired);
    apply(&mut ledger, 50, 1, What::SwitchedIn);
    step(&mut ledger, 51, 1, LockStep::Want);
    assert_eq!(classes(&ledger.finish(super::at(60))), [0, 10, 1, 0]);
}

#[test]
fn what_is_not_known_is_unknown_and_what_was_before_is_nothing() {
    let mut ledger = ledger(100);
    apply(&mut ledger, 50, 1, sample(1));
    apply(&mut ledger, 110, 3, sample(10));
    created_running(&mut ledger, 120, 1);
    apply(&mut ledger, 130, 1, What::LostLock(LostEvents { count: 1 }));
    apply(&mut ledger, 140, 1, sample(100));
    let result = ledger.finish(super::at(200));
    assert_eq!((classes(&result), result.events.samples), ([0, 0, 0, 110], 2));
}

fn anything() -> impl Strategy<Value = What> {
    let lock = |step| Just(What::Lock(LOCK, step));
    let stacks = [None, Some(stack("work")), Some(stack("spin"))];
    prop_oneof![
        lock(LockStep::Want),
        lock(LockStep::Acquired),
        lock(LockStep::Released),
        lock(LockStep::Yielded),
        Just(What::SwitchedIn),
        Just(What::Exited),
        Just(What::LostLock(LostEvents { count: 1 })),
        any::<bool>().prop_map(|slept| What::SwitchedOut(if slept { OffCpu::Blocked } else { OffCpu::Preempted })),
        (0..3_usize, 0..1000_u64).prop_map(move |(place, weight)| sample_at(stacks[place], weight)),
        (0..3_usize, 0..1000_u64).prop_map(move |(place, weight)| sample_at(stacks[place], weight)),
    ]
}

proptest! {
    #[test]
    fn whatever_is_sampled_is_in_exactly_one_row(events in proptest::collection::vec((1..4_i32, 1..40_u64, anything()), 0..200)) {
        let mut ledger = ledger(0);
        let (mut now, mut samples, mut weight) = (0, 0, 0);
        (1..4).for_each(|thread| created_running(&mut ledger, 0, thread));
        for (thread, gap, what) in events {
            now += gap;
            if let What::EventSample(sample) = &what {
                samples += 1;
                weight += sample.weight;
            }
            apply(&mut ledger, now, thread, what);
        }
        let result = ledger.finish(super::at(now));
        prop_assert_eq!((result.events.samples, result.events.total()), (samples, weight));
        prop_assert!(result.invariants_broken.is_empty());
        prop_assert!(result.events.rows.iter().all(|row| row.weight > 0));
    }
}
