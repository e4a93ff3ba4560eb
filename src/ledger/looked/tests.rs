//! Relations and CPUs that only looks tell, and where they meet steps and switches.

use crate::{
    ledger::{Attribution, GivingWayLimits, Ledger, LedgerOptions, LockStart},
    model::{
        event::{
            CpuSight, CpuTime, Event, LockStep, LostEvents, OffCpu, Pause, SeenCpu, SeenOwner, SeenRelation, What,
        },
        ids::{LockId, Tid},
        stack::{Frame, StackTable},
        state::{State, StateClass, StateTimes},
        time::{MonoNanos, Nanos},
    },
};

const LOCK: LockId = LockId::from_index(0);

fn book(end: u64, events: &[(u64, i32, What)]) -> Attribution {
    let no_stack = StackTable::default().intern(&[Frame::marker("no stack read")]);
    let most = Nanos::from_nanos(60);
    let mut ledger = Ledger::new(LedgerOptions {
        start: MonoNanos::from_monotonic(0),
        long_hold: Nanos::from_millis(10),
        giving_way: GivingWayLimits { computing: most, step: most, mutex_sleep: most },
        no_stack,
    });
    ledger.declare_lock(LOCK, "GIL", None, LockStart::Unknown);
    for (at, tid, what) in events {
        let at = MonoNanos::from_monotonic(*at);
        ledger.apply(&Event { at, tid: Tid::from_raw(*tid).unwrap(), what: what.clone() });
    }
    ledger.finish(MonoNanos::from_monotonic(end))
}

fn seen(relation: SeenRelation) -> What {
    What::RelationSeen(Some(relation))
}

fn cpu(cpu: SeenCpu, ran: u64, delayed: u64) -> What {
    let spent = CpuTime { ran: Nanos::from_nanos(ran), delayed: Nanos::from_nanos(delayed) };
    What::CpuSeen(CpuSight { cpu, pause: Pause::Unknown, spent: Some(spent) })
}

/// ```text
/// lock   |of 1        |free  |of 2        |nobody knows
///        0           100    140          200           250
/// 1      |inside      |outside             |
/// 2      |waiting            |inside       |outside
/// ```
#[test]
fn relations_that_looks_tell_fit_together() {
    let attribution = book(
        250,
        &[
            (0, 1, seen(SeenRelation::Inside(LOCK))),
            (0, 2, seen(SeenRelation::Waiting(LOCK))),
            (100, 1, What::OwnerSeen(LOCK, SeenOwner::Nobody)),
            (100, 1, seen(SeenRelation::Outside)),
            (140, 2, seen(SeenRelation::Inside(LOCK))),
            (200, 1, What::OwnerSeen(LOCK, SeenOwner::Unknown)),
        ],
    );
    assert_eq!(attribution.invariants_broken, Vec::<String>::new());
    let lock = &attribution.locks[0];
    let times = [lock.held, lock.free, lock.unknown, lock.contended, lock.blamed, lock.handoff];
    assert_eq!(times.map(Nanos::as_nanos), [160, 40, 50, 100, 100, 40]);
}

/// Two looks in a row that see another owner each: the first has let go, though nobody saw it outside.
#[test]
fn there_is_never_a_second_owner() {
    let attribution = book(100, &[(0, 1, seen(SeenRelation::Inside(LOCK))), (60, 2, seen(SeenRelation::Inside(LOCK)))]);
    assert_eq!(attribution.invariants_broken, Vec::<String>::new());
    let inside: Vec<u64> =
        attribution.threads.iter().map(|thread| thread.class(StateClass::Inside).as_nanos()).collect();
    assert_eq!(inside, [60, 40]);
}

#[test]
fn counters_divide_what_lock_events_leave_open() {
    let acquired = What::Lock(LOCK, LockStep::Acquired);
    let released = What::Lock(LOCK, LockStep::Released);
    let attribution = book(
        1_000,
        &[
            (0, 1, cpu(SeenCpu::Asleep, 5_000, 0)),
            (100, 1, acquired),
            (400, 1, cpu(SeenCpu::Runnable, 5_200, 0)),
            (500, 1, released),
            (1_000, 1, cpu(SeenCpu::Asleep, 5_300, 100)),
        ],
    );
    let states = attribution.threads[0].states;
    assert_eq!(attribution.invariants_broken, Vec::<String>::new());
    assert_eq!(states.get(State::HeldRunning).as_nanos() + states.get(State::OutsideRunning).as_nanos(), 300);
    assert!(states.get(State::HeldRunning) > Nanos::from_nanos(200), "{states:?}");
}

/// ```text
/// 0        100          400   500       600                 1000
/// |outside |inside      |     |outside  | as switches tell  |
/// asleep                awake           ↑ the first of them: the looks divide what was before
/// ```
#[test]
fn where_switches_go_on_looks_divide_the_time_before() {
    let switches = [
        (What::SwitchedIn, State::OutsideRunning),
        (What::SwitchedOut(OffCpu::Preempted), State::OutsidePreempted),
        (What::SwitchedOut(OffCpu::Blocked), State::OutsideBlocked),
        (What::LostSwitch(LostEvents { count: 1 }), State::Unknown),
    ];
    for (switch, after) in switches {
        let attribution = book(
            1_000,
            &[
                (0, 1, cpu(SeenCpu::Asleep, 5_000, 0)),
                (100, 1, What::Lock(LOCK, LockStep::Acquired)),
                (400, 1, cpu(SeenCpu::Runnable, 5_000, 0)),
                (500, 1, What::Lock(LOCK, LockStep::Released)),
                (600, 1, switch.clone()),
            ],
        );
        assert_eq!(attribution.invariants_broken, Vec::<String>::new(), "{switch:?}");
        let mut expected = StateTimes::default();
        for (state, nanos) in [
            (State::HeldRunning, 380),
            (State::HeldBlocked, 20),
            (State::OutsideRunning, 50),
            (State::OutsideBlocked, 150),
            (after, 400),
        ] {
            expected.add(state, Nanos::from_nanos(nanos));
        }
        assert_eq!(attribution.threads[0].states, expected, "{switch:?}");
    }
}

/// Nothing tells whether it ran; what it did with the lock is known to the nanosecond.
#[test]
fn without_any_evidence_of_cpus_classes_stay_exact() {
    let attribution =
        book(100, &[(0, 1, What::Lock(LOCK, LockStep::Acquired)), (30, 1, What::Lock(LOCK, LockStep::Released))]);
    let thread = &attribution.threads[0];
    assert_eq!(thread.states.get(State::Unknown).as_nanos(), 100);
    let classes = StateClass::ALL.map(|class| thread.class(class).as_nanos());
    assert_eq!(classes, [30, 0, 70, 0]);
}
