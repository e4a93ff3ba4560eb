//! Holds that are over: which are long, what their owners did meanwhile, and under which stack they are filed.

use super::{LOCK, apply, assert_sound, at, created_running, ledger, stack, step, tid};
use crate::model::{
    event::{LockStep, OffCpu, SampleCause, StackSample, What},
    profile::HoldSite,
    state::{State, StateTimes},
    time::Nanos,
};

fn sample(name: &str, cause: SampleCause) -> What {
    What::Stack(StackSample { until: at(0), stack: Some(stack(name)), cause })
}

/// ```text
/// t     0       49   60               110  120      170
/// 1     |49: short|  |50: long         |    |50: long |
///                     run 20, asleep 30
/// ```
#[test]
fn every_long_hold_is_counted_with_what_its_owner_did() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    for (from, until) in [(0, 49), (60, 110), (120, 170)] {
        step(&mut ledger, from, 1, LockStep::Acquired);
        if from == 60 {
            apply(&mut ledger, 80, 1, What::SwitchedOut(OffCpu::Blocked));
            apply(&mut ledger, 110, 1, What::SwitchedIn);
        }
        step(&mut ledger, until, 1, LockStep::Released);
    }
    let result = ledger.finish(at(200));
    assert_sound(&result);
    assert_eq!((result.locks[0].long_holds, result.long_hold_threshold), (2, Nanos::from_nanos(50)));
    let mut asleep = StateTimes::default();
    asleep.add(State::HeldRunning, Nanos::from_nanos(20));
    asleep.add(State::HeldBlocked, Nanos::from_nanos(30));
    let mut running = StateTimes::default();
    running.add(State::HeldRunning, Nanos::from_nanos(50));
    assert_eq!(result.long_holds.iter().map(|hold| hold.states).collect::<Vec<_>>(), [asleep, running]);
}

/// Nobody has seen the owner on or off a CPU when its hold is over: that is not known, and not guessed.
#[test]
fn a_long_hold_of_a_thread_without_switches_is_unknown() {
    let mut ledger = ledger(0);
    step(&mut ledger, 0, 1, LockStep::Acquired);
    step(&mut ledger, 70, 1, LockStep::Released);
    let result = ledger.finish(at(80));
    assert_eq!(result.long_holds[0].states.get(State::Unknown), Nanos::from_nanos(70));
}

#[test]
fn only_the_longest_are_listed_but_all_are_counted() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    let mut now = 0;
    for length in 50..200 {
        step(&mut ledger, now, 1, LockStep::Acquired);
        step(&mut ledger, now + length, 1, LockStep::Released);
        now += length + 10;
    }
    let result = ledger.finish(at(now));
    let listed: Vec<u64> = result.long_holds.iter().map(|hold| hold.duration.as_nanos()).collect();
    assert_eq!(listed, (100..200).rev().collect::<Vec<_>>());
    assert_eq!(result.locks[0].long_holds, 150);
}

/// ```text
/// t     0        30   40            100  105        145
/// 1     |unseen  |    |work, spin, work |wants, waits |held, parse at release
/// 2          |waits (20) to 30          |held (105)   |
///                     |waits (50) to 100: forced, since the wait at 95 goes on
/// ```
#[test]
fn holds_are_filed_under_the_stack_seen_most_often() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    step(&mut ledger, 0, 1, LockStep::Acquired);
    step(&mut ledger, 30, 1, LockStep::Released);
    step(&mut ledger, 40, 1, LockStep::Acquired);
    step(&mut ledger, 50, 2, LockStep::Want);
    apply(&mut ledger, 50, 2, sample("work", SampleCause::Contended));
    apply(&mut ledger, 60, 1, sample("spin", SampleCause::Tick));
    step(&mut ledger, 70, 2, LockStep::Want);
    apply(&mut ledger, 70, 2, sample("work", SampleCause::Contended));
    apply(&mut ledger, 100, 1, sample("parse", SampleCause::AtRelease));
    step(&mut ledger, 100, 1, LockStep::Released);
    step(&mut ledger, 100, 1, LockStep::Yielded);
    apply(&mut ledger, 100, 1, What::SwitchedOut(OffCpu::Blocked));
    step(&mut ledger, 105, 2, LockStep::Acquired);
    apply(&mut ledger, 106, 1, What::SwitchedIn);
    step(&mut ledger, 106, 1, LockStep::Want);
    step(&mut ledger, 135, 2, LockStep::Released);
    step(&mut ledger, 145, 1, LockStep::Acquired);
    apply(&mut ledger, 150, 1, sample("parse", SampleCause::AtRelease));
    step(&mut ledger, 150, 1, LockStep::Released);
    let result = ledger.finish(at(160));
    assert_sound(&result);
    let filed = |site: &HoldSite| {
        let tally = site.tally;
        let [held, longest, contended] = [tally.held, tally.longest, tally.contended].map(Nanos::as_nanos);
        (site.lock, site.stack, (tally.holds, tally.forced), (held, longest, contended))
    };
    let expected = [(LOCK, stack("work"), (1, 1), (60, 60, 50)), (LOCK, stack("parse"), (1, 0), (5, 5, 0))];
    assert_eq!(result.hold_sites.iter().map(filed).collect::<Vec<_>>(), expected);
    let unseen = result.locks[0].unseen;
    // The 1 of contended time in the second thread's hold before the first asks again is part of that hold, too.
    assert_eq!((unseen.holds, unseen.forced, unseen.contended.as_nanos()), (2, 0, 30));
    assert_eq!(result.threads.iter().find(|thread| thread.tid == tid(1)).unwrap().forced_releases, 1);
}

/// The releaser that was forced asks again only when the hold it waited for is over: nobody knows any more which it was.
#[test]
fn contended_time_found_late_counts_as_unseen() {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    step(&mut ledger, 0, 1, LockStep::Acquired);
    step(&mut ledger, 5, 1, LockStep::Released);
    step(&mut ledger, 5, 1, LockStep::Yielded);
    apply(&mut ledger, 5, 1, What::SwitchedOut(OffCpu::Blocked));
    step(&mut ledger, 10, 2, LockStep::Acquired);
    apply(&mut ledger, 12, 2, sample("work", SampleCause::Tick));
    step(&mut ledger, 40, 2, LockStep::Released);
    apply(&mut ledger, 41, 1, What::SwitchedIn);
    step(&mut ledger, 42, 1, LockStep::Acquired);
    let result = ledger.finish(at(50));
    assert_sound(&result);
    let lock = &result.locks[0];
    assert_eq!((lock.contended.as_nanos(), lock.unseen.contended.as_nanos()), (30, 30));
    assert_eq!((result.hold_sites[0].tally.contended.as_nanos(), result.hold_sites[0].tally.holds), (0, 1));
}
