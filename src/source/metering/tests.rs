//! Synthetic records, as a processor's counters would make them: this is where they are replayed.

use proptest::prelude::{any, prop_assert_eq, proptest};

use super::{Metering, Presence};
use crate::{
    model::{
        counts::{Counters, Measures},
        event::{Event, LostEvents, MeasuredSince, OffCpu, What},
        ids::{Pid, Tid},
        time::MonoNanos,
    },
    perf::{
        events::CountedEvent,
        reading::GroupReading,
        record::{Body, Naming},
        stream::{PlacedReading, Record},
    },
};

const HIT: Body = Body::Hit { register: None };
const OUT: Body = Body::SwitchedOut(OffCpu::Preempted);

fn tid(number: i32) -> Tid {
    Tid::from_raw(number).unwrap()
}

/// Of one event of the processor's.
fn cycles() -> Metering {
    Metering::of(Vec::leak(vec![CountedEvent::named("cycles").unwrap()]))
}

/// Of one that the kernel counts.
fn clock() -> Metering {
    Metering::of(Vec::leak(vec![CountedEvent::named("cpu-clock").unwrap()]))
}

/// The group of a CPU: what it has counted, and its two clocks in milliseconds.
fn says(group: usize, cpu: usize, value: u64, (enabled, running): (u64, u64)) -> Option<Box<PlacedReading>> {
    let (enabled, running) = (enabled * 1_000_000, running * 1_000_000);
    let mut said = GroupReading { enabled, running, count: 1, ..GroupReading::default() };
    said.values[0] = value;
    Some(Box::new(PlacedReading { group, cpu, said }))
}

#[test]
fn a_thread_begins_with_what_is_its_own() {
    let mut metering = clock();
    // It had created a thread that counted 1000 in a group that it inherited.
    let (told, _) = play(
        &mut metering,
        vec![
            (10, 1, Body::CountersBegan, says(0, 0, 1005, (0, 0))),
            (20, 1, HIT, says(0, 0, 6, (0, 0))),
            (30, 1, HIT, says(0, 0, 9, (0, 0))),
        ],
    );
    let last = Event { at: MonoNanos::from_monotonic(30), tid: tid(1), what: told.last().unwrap().what.clone() };
    assert_eq!(told.last(), Some(&last));
    assert!(!told.iter().any(|event| matches!(event.what, What::Unmeasured(_))), "{told:?}");
    let counted: u64 =
        told.iter().map(|event| if let What::Measured(measures, _) = &event.what { measures.0[0] } else { 0 }).sum();
    assert_eq!(counted, 3);
}

#[test]
fn after_the_end_of_all_groups_no_switch_tells_of_lost_steps() {
    let mut metering = cycles();
    play(&mut metering, vec![(10, 1, Body::CountersBegan, says(0, 0, 5, (1, 1)))]);
    metering.end_all();
    let (told, presences) = play(&mut metering, vec![(20, 1, Body::SwitchedIn, None), (30, 1, OUT, None)]);
    assert_eq!((told, presences), (vec![], vec![Presence::On; 2]));
}

fn play(
    metering: &mut Metering,
    records: Vec<(u64, i32, Body, Option<Box<PlacedReading>>)>,
) -> (Vec<Event>, Vec<Presence>) {
    let mut out = Vec::new();
    let pid = Pid::from_raw(1).unwrap();
    let presences = records.into_iter().map(|(at, thread, body, reading)| {
        let at = MonoNanos::from_monotonic(at);
        metering.on_record(&Record { at, pid, tid: tid(thread), body, probe: None, reading }, &mut out)
    });
    let presences = presences.collect();
    (out, presences)
}

fn measured(at: u64, thread: i32, count: u64) -> Event {
    let mut measures = Measures::default();
    measures.0[0] = count;
    event(at, thread, What::Measured(Box::new(measures), MeasuredSince::LastStep))
}

fn event(at: u64, thread: i32, what: What) -> Event {
    Event { at: MonoNanos::from_monotonic(at), tid: tid(thread), what }
}

/// ```text
/// CPU 0   1 ── hit ── out        2 in ──────── ended
/// CPU 1           1 in ── hit
/// ```
#[test]
fn what_nobody_has_told_at_the_end_is_that_of_the_thread_that_runs() {
    let mut metering = clock();
    let records = vec![
        (0, 1, Body::CountersBegan, says(0, 0, 5, (1, 1))),
        (10, 1, HIT, says(0, 0, 25, (2, 2))),
        (20, 1, Body::Counted, says(0, 0, 30, (3, 3))),
        (30, 1, HIT, says(0, 1, 7, (4, 1))),
        (40, 2, HIT, says(0, 0, 4, (1, 1))),
        // Without its times.
        (45, 2, HIT, says(0, 0, 4, (0, 0))),
        (50, 2, Body::CountersEnded, says(0, 0, 44, (9, 5))),
    ];
    let (told, presences) = play(&mut metering, records);
    assert_eq!(
        told,
        [measured(10, 1, 20), measured(20, 1, 5), measured(30, 1, 7), measured(40, 2, 4), measured(50, 2, 10)]
    );
    assert!(presences.iter().all(|presence| *presence == Presence::On));
}

#[test]
fn from_one_set_of_groups_to_the_next_everything_counts_once() {
    let mut metering = clock();
    let records = vec![
        (0, 1, Body::CountersBegan, says(0, 0, 0, (0, 0))),
        (10, 1, HIT, says(0, 0, 20, (2, 2))),
        (20, 1, Body::CountersEnded, says(0, 0, 26, (3, 3))),
        // It had been opened before the other one was closed.
        (21, 1, Body::CountersBegan, says(1, 0, 3, (1, 1))),
        (30, 1, HIT, says(1, 0, 8, (2, 2))),
    ];
    let mut later = measured(30, 1, 5);
    if let What::Measured(_, since) = &mut later.what {
        // Steps may have been missed when the one took over from the other.
        *since = MeasuredSince::Unknown;
    }
    assert_eq!(play(&mut metering, records).0, [measured(10, 1, 20), measured(20, 1, 6), later]);
}

#[test]
fn a_thread_that_loses_the_cpu_in_silence_had_its_group_off() {
    let mut metering = cycles();
    let (told, presences) = play(
        &mut metering,
        vec![
            (0, 2, Body::CountersBegan, says(0, 0, 0, (0, 0))),
            (10, 2, Body::SwitchedIn, None),
            (12, 2, HIT, says(0, 0, 100, (2, 2))),
            (20, 2, Body::Counted, says(0, 0, 150, (3, 3))),
            (20, 2, OUT, None),
            (30, 2, Body::SwitchedIn, None),
            (40, 2, OUT, None),
        ],
    );
    let lost = What::LostLock(LostEvents { count: 0 });
    let missing = What::Unmeasured(Counters::measured(1));
    // Since it was last heard of.
    assert_eq!(told, [measured(12, 2, 100), measured(20, 2, 50), event(20, 2, lost), event(40, 2, missing)]);
    assert_eq!(presences.iter().filter(|presence| **presence == Presence::Off).count(), 1);
    assert_eq!(presences.last(), Some(&Presence::Off));
}

/// ```text
/// 2   in ─ hit ──────── out, and its group was off
/// 3   in ───── hit ───────────────
/// 4            in ─ out
/// ```
#[test]
fn a_thread_that_still_runs_may_have_its_group_off_when_that_of_another_was() {
    let mut metering = cycles();
    let (_, presences) = play(
        &mut metering,
        vec![
            (0, 2, Body::CountersBegan, says(0, 0, 0, (0, 0))),
            (0, 3, Body::CountersBegan, says(0, 1, 0, (0, 0))),
            (10, 2, Body::SwitchedIn, None),
            (11, 3, Body::SwitchedIn, None),
            (12, 2, HIT, says(0, 0, 100, (2, 2))),
            (14, 3, HIT, says(0, 1, 100, (2, 2))),
            (15, 4, Body::SwitchedIn, None),
            (16, 4, Body::Counted, says(0, 2, 150, (3, 3))),
            (16, 4, OUT, None),
            (40, 2, OUT, None),
        ],
    );
    assert_eq!(presences.last(), Some(&Presence::Off));
    let doubted = |metering: &Metering| {
        let mut out = Vec::new();
        metering.doubt_runners(&mut out);
        out
    };
    let lost = |at| event(at, 3, What::LostLock(LostEvents { count: 0 }));
    assert_eq!(doubted(&metering), [lost(14)]);
    // What has been delivered stays as it is.
    metering.on_watermark(MonoNanos::from_monotonic(20));
    assert_eq!(doubted(&metering), [lost(20)]);
    assert_eq!(doubted(&clock()), []);
}

#[test]
fn a_lost_record_is_no_group_that_was_off_and_what_the_kernel_counts_never_is() {
    let records = |lost: bool| {
        let mut records = vec![
            (0, 2, Body::CountersBegan, says(0, 0, 0, (0, 0))),
            (10, 2, Body::SwitchedIn, None),
            (20, 1, Body::Lost { count: 3 }, None),
            (40, 2, OUT, None),
        ];
        if !lost {
            records.remove(2);
        }
        records
    };
    for (mut metering, lost, expected) in
        [(cycles(), true, Presence::On), (clock(), false, Presence::On), (cycles(), false, Presence::Off)]
    {
        assert_eq!(play(&mut metering, records(lost)).1.last(), Some(&expected));
    }
}

/// The clock of each group goes on every CPU, what it counts on one.
#[test]
fn time_on_another_cpu_is_none_in_which_the_group_was_off() {
    let mut metering = cycles();
    let begin = vec![
        (0, 2, Body::CountersBegan, says(0, 0, 0, (3, 3))),
        (0, 2, Body::CountersBegan, says(0, 1, 0, (3, 0))),
        (10, 2, HIT, says(0, 0, 100, (7, 7))),
        (20, 2, HIT, says(0, 1, 60, (12, 5))),
        (30, 2, HIT, says(0, 0, 140, (14, 9))),
    ];
    let (told, presences) = play(&mut metering, begin);
    assert_eq!(told, [measured(10, 2, 100), measured(20, 2, 60), measured(30, 2, 40)]);
    assert!(presences.iter().all(|presence| *presence == Presence::On));
    assert_eq!(metering.remark(), None);
    // Five more on this CPU, in two of which others had the counters: what it counted is made up for.
    let (told, presences) = play(&mut metering, vec![(40, 2, HIT, says(0, 0, 170, (19, 12)))]);
    assert_eq!(told, [event(30, 2, What::LostLock(LostEvents { count: 0 })), measured(40, 2, 50)]);
    assert_eq!(presences, [Presence::Off]);
    let remark = metering.remark().unwrap();
    assert!(remark.contains("cycles"), "{remark}");
}

#[test]
fn a_counter_of_another_thread_says_nothing_of_the_one_that_takes_its_number() {
    let mut metering = clock();
    let named = Body::Named { pid: Pid::from_raw(1).unwrap(), tid: tid(1), name: "sh".into(), cause: Naming::Exec };
    let records = vec![
        (0, 1, Body::CountersBegan, says(0, 0, 0, (0, 0))),
        (10, 1, Body::Exited, None),
        (20, 1, named.clone(), None),
    ];
    let missing = event(20, 1, What::Unmeasured(Counters::measured(1)));
    assert_eq!(play(&mut metering, records).0, [missing]);
    assert_eq!(play(&mut metering, vec![(30, 1, named, None)]).0, []);
}

#[test]
fn a_group_that_is_not_complete_yet_says_nothing() {
    let mut reading = says(0, 0, 20, (1, 1)).unwrap();
    reading.said.count = 0;
    assert_eq!(play(&mut clock(), vec![(5, 1, HIT, Some(reading))]).0, []);
}

proptest! {
    /// Whatever threads do on which CPUs, all that the groups have counted in the end has been told of somebody.
    #[test]
    fn everything_is_told_of_somebody(steps in proptest::collection::vec((1_i32..4, 0_usize..2, 1_u64..100, any::<bool>()), 1..80)) {
        let mut metering = clock();
        let (mut values, mut all, mut running) = ([[0_u64; 2]; 4], [0_u64; 2], [1; 2]);
        let mut records = Vec::new();
        for (at, (thread, cpu, more, is_told)) in (0..).zip(steps) {
            // Whoever runs there tells at the end of its turn what it has counted.
            let before = running[cpu];
            records.push((at, before, Body::Counted, says(0, cpu, values[before as usize][cpu], (0, 0))));
            running[cpu] = thread;
            let own = &mut values[thread as usize][cpu];
            *own += more;
            all[cpu] += more;
            if is_told {
                records.push((at, thread, HIT, says(0, cpu, *own, (0, 0))));
            }
        }
        records.extend((0..2).map(|cpu| (1000, running[cpu], Body::CountersEnded, says(0, cpu, all[cpu], (0, 0)))));
        let told = play(&mut metering, records).0.into_iter().map(|event| match event.what {
            What::Measured(measures, _) => measures.0[0],
            what => panic!("{what:?}"),
        });
        prop_assert_eq!(told.sum::<u64>(), all.iter().sum::<u64>());
    }

    /// Any readings are survived.
    #[test]
    fn any_readings_are_survived(all in proptest::collection::vec((0_u8..6, any::<(u64, u64, u64)>(), 1_i32..4), 1..60)) {
        let mut metering = cycles();
        let records = all.into_iter().map(|(kind, (value, enabled, running), thread)| {
            let mut reading = says(usize::from(kind) % 2, 0, value, (0, 0)).unwrap();
            (reading.said.enabled, reading.said.running) = (enabled, running);
            let kinds = [HIT, Body::Counted, Body::CountersBegan, Body::CountersEnded, OUT, Body::Exited];
            let body = kinds[usize::from(kind)].clone();
            (enabled % 100, thread, body, (kind < 4).then_some(reading))
        });
        play(&mut metering, records.collect());
    }
}
