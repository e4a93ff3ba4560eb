//! Whatever comes in, legal or not, the invariants hold: those that the books check themselves, and those of what stands beside.

use proptest::{
    prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest},
    test_runner::TestCaseError,
};

use super::{
    at,
    drawn::{Choices, OTHER, anything},
    ledger, tid,
};
use crate::{
    ledger::{Attribution, LockStart},
    model::{
        estimate::{Estimate, Estimates},
        event::Event,
        parking::{Parking, Stretches},
        profile::ThreadProfile,
        state::State,
        time::Nanos,
    },
};

/// How long the moments are that events are apart: mostly as short as can be, or so long that the kernel's counters keep up.
fn moment() -> impl Strategy<Value = u64> {
    prop_oneof![9 => Just(1), 1 => Just(5_000_000)]
}

proptest! {
    // One costs little, and there are many kinds of events to meet.
    #![proptest_config(ProptestConfig::with_cases(4 * ProptestConfig::default().cases))]
    #[test]
    fn no_input_breaks_an_invariant(
        script in proptest::collection::vec((1_i32..5, any::<u64>(), 0..40_u64, 0..200_u64), 0..300),
        (moment, cost) in (moment(), 0..30_u64),
        (declared, told) in (0..300_usize, 0..300_usize),
    ) {
        let mut ledger = ledger(100);
        ledger.set_event_cost(Nanos::from_nanos(cost));
        let mut now = 0;
        for (index, (thread, choices, gap, late)) in script.into_iter().enumerate() {
            now += gap * moment;
            ledger.apply(&Event { at: at(now.saturating_sub(late.saturating_sub(150))), tid: tid(thread), what: anything(Choices(choices)) });
            if index == declared {
                ledger.declare_lock(OTHER, "other", Some(1), LockStart::Unknown);
            }
            if index == told {
                // As they would be if the recording ended now.
                sound(&ledger.clone().finish(at(now)))?;
            }
        }
        sound(&ledger.finish(at(now)))?;
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), TestCaseError> {
    if holds { Ok(()) } else { Err(TestCaseError::fail(what())) }
}

fn sound(result: &Attribution) -> Result<(), TestCaseError> {
    ensure(result.invariants_broken.is_empty(), || result.invariants_broken.join("; "))?;
    for lock in &result.locks {
        ensure(lock.contended <= lock.held, || format!("contended for longer than held: {lock:?}"))?;
    }
    result.threads.iter().try_for_each(undivided_fits)?;
    parks_add_up(&result.parking)?;
    result.estimates.iter().try_for_each(intervals_are_in_order)
}

/// Time inside and outside that is divided by no CPU is part of what is unknown.
fn undivided_fits(thread: &ThreadProfile) -> Result<(), TestCaseError> {
    let undivided = thread.undivided.inside + thread.undivided.outside;
    ensure(undivided <= thread.states.get(State::Unknown), || format!("more undivided than unknown: {thread:?}"))
}

fn parks_add_up(parking: &Parking) -> Result<(), TestCaseError> {
    let sum = |parts: &mut dyn Iterator<Item = Stretches>| {
        parts.fold(Stretches::default(), |mut sum, part| {
            sum.absorb(part);
            sum
        })
    };
    for mutex in &parking.mutexes {
        let threads = sum(&mut mutex.threads.iter().map(|(_, part)| *part));
        let stacks = sum(&mut mutex.stacks.iter().map(|(_, part)| *part).chain([mutex.unseen]));
        ensure((threads, stacks) == (mutex.parks, mutex.parks), || format!("{mutex:?}"))?;
    }
    let requests = sum(&mut parking.stops.requesters.iter().map(|(_, request)| request.pauses));
    ensure(requests == parking.stops.pauses, || format!("{:?}", parking.stops))
}

fn intervals_are_in_order(estimates: &Estimates) -> Result<(), TestCaseError> {
    let classes = estimates.total.iter().chain(estimates.threads.iter().flat_map(|thread| &thread.classes));
    let states = estimates.threads.iter().flat_map(|thread| &thread.states);
    let of_threads = classes.map(|one| one.time).chain(states.map(|one| one.time));
    let times = |one: &Estimate<Nanos>| [one.low, one.value, one.high].map(Nanos::as_nanos);
    let of_locks = estimates.locks.iter().flat_map(|lock| [lock.held, lock.contended, lock.waited]).flatten();
    let counts = estimates.locks.iter().flat_map(|lock| [lock.holds, lock.waits]).flatten();
    let all = of_threads.chain(of_locks).map(|one| times(&one)).chain(counts.map(|one| [one.low, one.value, one.high]));
    let mut unordered = all.filter(|one| !one.is_sorted());
    ensure(unordered.next().is_none(), || format!("{estimates:?}"))
}
