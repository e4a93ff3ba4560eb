//! One account: what each switch and each moved nanosecond does to it.

use super::{Contention, Cpu, Relation, ThreadAccount};
use crate::{
    ledger::relation::Ownership,
    model::{
        event::{OffCpu, SeenCpu},
        ids::{LockId, Tid},
        state::State,
        time::{MonoNanos, Nanos},
    },
};

fn account(relation: Relation, cpu: Cpu) -> ThreadAccount {
    ThreadAccount::new(Tid::from_raw(1).unwrap(), MonoNanos::from_monotonic(0), relation, cpu)
}

fn charge(thread: &mut ThreadAccount, at: u64) {
    thread.charge(MonoNanos::from_monotonic(at), Ownership::Free);
}

/// ```text
/// 0        10        20
/// |--??----|         |      first switch: out -> it had been running
/// ```
#[test]
fn the_first_switch_tells_what_the_time_before_it_was() {
    let cases = [
        (Some(SeenCpu::Runnable), true, State::OutsidePreempted),
        (Some(SeenCpu::Asleep), true, State::OutsideBlocked),
        (None, true, State::Unknown),
        (Some(SeenCpu::Runnable), false, State::OutsideRunning),
        (None, false, State::OutsideRunning),
    ];
    for (seen, switched_in, expected) in cases {
        let mut thread = account(Relation::Outside, Cpu::Unresolved(seen));
        charge(&mut thread, 10);
        if switched_in {
            thread.on_switched_in(None)
        } else {
            thread.on_switched_out(OffCpu::Blocked, Contention::None)
        }
        assert_eq!(thread.times.get(expected), Nanos::from_nanos(10), "{seen:?} {switched_in}");
    }
}

/// ```text
/// 0    10                  110  120        the kernel's run delay grew by 30:
/// |run |------asleep--------|run|          70 asleep, 30 waiting for a CPU
/// ```
#[test]
fn run_delay_turns_the_tail_of_a_sleep_into_preemption() {
    let mut thread = account(Relation::Inside(LockId::from_index(0)), Cpu::Running);
    thread.on_run_delay(Nanos::from_nanos(1000));
    charge(&mut thread, 10);
    thread.on_switched_out(OffCpu::Blocked, Contention::None);
    charge(&mut thread, 110);
    thread.on_switched_in(None);
    charge(&mut thread, 120);
    thread.on_run_delay(Nanos::from_nanos(1030));
    assert_eq!(thread.times.get(State::HeldRunning), Nanos::from_nanos(20));
    assert_eq!(thread.times.get(State::HeldBlocked), Nanos::from_nanos(70));
    assert_eq!(thread.times.get(State::HeldPreempted), Nanos::from_nanos(30));
}

/// ```text
/// 0                    100  110               610  620      the counter grew by 30 until 110 and not since:
/// |asleep when first seen |run |-----asleep-----|run|       the first sleep's, and no part of the second
/// ```
#[test]
fn the_latency_of_the_first_sleep_is_not_charged_to_the_next() {
    let mut thread = account(Relation::Outside, Cpu::Unresolved(Some(SeenCpu::Asleep)));
    thread.on_run_delay(Nanos::from_nanos(7));
    charge(&mut thread, 100);
    thread.on_switched_in(None);
    charge(&mut thread, 110);
    thread.on_run_delay(Nanos::from_nanos(37));
    assert_eq!(thread.times.get(State::OutsidePreempted), Nanos::from_nanos(30));
    assert_eq!(thread.times.get(State::OutsideBlocked), Nanos::from_nanos(70));
    thread.on_switched_out(OffCpu::Blocked, Contention::None);
    charge(&mut thread, 610);
    thread.on_switched_in(None);
    charge(&mut thread, 620);
    thread.on_run_delay(Nanos::from_nanos(37));
    assert_eq!(thread.times.get(State::OutsidePreempted), Nanos::from_nanos(30));
}

#[test]
fn run_delay_of_preemptions_already_seen_moves_nothing() {
    let mut thread = account(Relation::Outside, Cpu::Running);
    thread.on_run_delay(Nanos::ZERO);
    thread.on_switched_out(OffCpu::Preempted, Contention::None);
    charge(&mut thread, 40);
    thread.on_switched_in(None);
    thread.on_switched_out(OffCpu::Blocked, Contention::None);
    charge(&mut thread, 100);
    thread.on_switched_in(None);
    thread.on_run_delay(Nanos::from_nanos(40));
    assert_eq!(thread.times.get(State::OutsidePreempted), Nanos::from_nanos(40));
    assert_eq!(thread.times.get(State::OutsideBlocked), Nanos::from_nanos(60));
}

#[test]
fn after_lost_switches_time_is_unknown_until_the_next_one() {
    let mut thread = account(Relation::Outside, Cpu::Running);
    charge(&mut thread, 5);
    thread.on_switches_lost();
    charge(&mut thread, 25);
    thread.on_switched_out(OffCpu::Blocked, Contention::None);
    charge(&mut thread, 30);
    assert_eq!(thread.times.get(State::OutsideRunning), Nanos::from_nanos(5));
    assert_eq!(thread.times.get(State::Unknown), Nanos::from_nanos(20));
    assert_eq!(thread.times.get(State::OutsideBlocked), Nanos::from_nanos(5));
}
