//! Calls in, steps out; and which lock each step is with.

use super::{Call, FindLocks, Translator, Verdict};
use crate::{
    model::{
        address::LiveAddress,
        event::{Event, LockStep, What},
        ids::Tid,
        time::MonoNanos,
    },
    target::{
        lock::{LockLayout, LockSeat},
        site::CondFunction,
    },
};

const LOCK: LiveAddress = LiveAddress::in_target(0x1000);
const COND: LiveAddress = LOCK.plus(32);
const SWITCH: LiveAddress = LOCK.plus(120);

struct OneLock;

impl FindLocks for OneLock {
    fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
        let seat =
            LockSeat { address: LOCK, layout: LockLayout::DEFAULT, interpreter: Some(0), name: "GIL".to_owned() };
        Some(vec![seat])
    }
}

fn steps(calls: &[(i32, CondFunction, LiveAddress)]) -> (Vec<(i32, LockStep)>, Translator) {
    let mut translator = Translator::new(Some(Box::new(OneLock)));
    let mut out = Vec::new();
    for (at, (tid, function, cond)) in (0..).zip(calls) {
        let tid = Tid::from_raw(*tid).unwrap();
        let call = Call { at: MonoNanos::from_monotonic(at), tid, function: *function, cond: *cond };
        translator.translate(call, &mut out);
    }
    let step = |event: Event| match event.what {
        What::Lock(_, step) => (event.tid.raw(), step),
        other => panic!("not a lock step: {other:?}"),
    };
    (out.into_iter().map(step).collect(), translator)
}

#[test]
fn a_contended_hand_over_reads_as_want_release_yield_acquire() {
    let (steps, _) = steps(&[
        (1, CondFunction::Signal, SWITCH),
        (2, CondFunction::TimedWait, COND),
        (1, CondFunction::Signal, COND),
        (1, CondFunction::Wait, SWITCH),
        (2, CondFunction::Signal, SWITCH),
    ]);
    let expected = [
        (1, LockStep::Acquired),
        (2, LockStep::Want),
        (1, LockStep::Released),
        (1, LockStep::Yielded),
        (2, LockStep::Acquired),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn a_signal_passed_on_inside_a_timed_wait_is_no_release() {
    let (steps, translator) = steps(&[
        (1, CondFunction::Signal, SWITCH),
        (2, CondFunction::TimedWait, COND),
        (2, CondFunction::Signal, COND),
        (2, CondFunction::Signal, COND),
        (1, CondFunction::Signal, COND),
        (2, CondFunction::Signal, SWITCH),
        (2, CondFunction::Signal, COND),
    ]);
    let expected = [
        (1, LockStep::Acquired),
        (2, LockStep::Want),
        (1, LockStep::Released),
        (2, LockStep::Acquired),
        (2, LockStep::Released),
    ];
    assert_eq!(steps, expected);
    assert_eq!(translator.passed_on(), 2);
}

/// A number is used again sooner or later, and there may be millions.
#[test]
fn nothing_is_kept_of_threads_that_do_not_wait() {
    let one_life = |tid| [(tid, CondFunction::TimedWait, COND), (tid, CondFunction::Signal, SWITCH)];
    let calls: Vec<_> = (1..1000).flat_map(one_life).chain([(1000, CondFunction::TimedWait, COND)]).collect();
    let (_, translator) = steps(&calls);
    assert_eq!(translator.in_timed_wait.keys().map(|tid| tid.raw()).collect::<Vec<_>>(), [1000]);
}

/// Interpreters that follow each other at one address, as far as the list still shows them.
struct Successive(Vec<Option<i64>>);

impl FindLocks for Successive {
    fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
        let main = OneLock.find_locks()?;
        let listed = self.0.pop().flatten().map(|id| LockSeat {
            address: LiveAddress::in_target(0x5000),
            interpreter: Some(id),
            ..main[0].clone()
        });
        Some(main.into_iter().chain(listed).collect())
    }
}

/// ```text
/// made  taken  given back │ made again  taken … │ made again, gone before the list is read
/// ```
#[test]
fn a_lock_made_anew_at_the_same_address_is_another() {
    let (cond, switch) = (LiveAddress::in_target(0x5020), LiveAddress::in_target(0x5078));
    // Read from the end.
    let listed = vec![None, None, Some(2), Some(1), None];
    let mut translator = Translator::new(Some(Box::new(Successive(listed))));
    let mut out = Vec::new();
    let life = [
        (CondFunction::Init, cond),
        (CondFunction::Init, switch),
        (CondFunction::Signal, switch),
        (CondFunction::Signal, cond),
    ];
    let calls = [(CondFunction::Signal, SWITCH)].into_iter().chain([life; 3].concat());
    for (at, (function, cond)) in (0..).zip(calls) {
        let call = Call { at: MonoNanos::from_monotonic(at), tid: Tid::from_raw(1).unwrap(), function, cond };
        translator.translate(call, &mut out);
    }
    let lock = |event: &Event| match event.what {
        What::Lock(lock, _) => Some(lock.index()),
        _ => None,
    };
    let locks: Vec<u32> = out.iter().filter_map(lock).collect();
    assert_eq!(locks, [0, 1, 1, 2, 2, 3, 3]);
    let interpreters: Vec<_> = translator.seats().iter().map(|seat| seat.interpreter).collect();
    assert_eq!(interpreters, [Some(0), Some(1), Some(2), None]);
}

#[test]
fn other_condition_variables_are_foreign() {
    let mut translator = Translator::new(Some(Box::new(OneLock)));
    let tid = Tid::from_raw(7).unwrap();
    let cond = LiveAddress::in_target(0x9999);
    let call = Call { at: MonoNanos::from_monotonic(1), tid, function: CondFunction::Signal, cond };
    let mut out = Vec::new();
    assert_eq!(translator.translate(call, &mut out), Verdict::Foreign);
    assert_eq!(out, []);
}
