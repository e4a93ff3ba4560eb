//! Readings of counters among the records of calls.

use std::sync::atomic::Ordering;

use super::{Stage, own_pid, stage_telling};
use crate::{
    model::{
        counts::{Counter, Counters, Measured, Measures, Slot},
        event::{Event, LockStep, MeasuredSince, What},
        ids::LockId,
    },
    perf::events::CountedEvent,
    source::{
        Pausing, Source,
        preload::{
            clock::{ProbeClock, RawTime},
            layout::{
                KIND_FILLER, KIND_INIT, KIND_LOST, KIND_READINGS, KIND_SIGNAL, RECORDS, TIMES_BITS, TIMES_SAME,
                TIMES_SHARED, TIMES_UNKNOWN,
            },
            readings::request,
        },
    },
};

pub(super) fn two_events() -> [Measured; 2] {
    ["cycles", "instructions"].map(|name| CountedEvent::named(name).unwrap().described())
}

/// Measures two events, and tells each call as an acquisition.
fn stage() -> Stage {
    stage_telling(&two_events(), |call, out| {
        let what = What::Lock(LockId::from_index(0), LockStep::Acquired);
        out.push(Event { at: call.at, tid: call.tid, what });
    })
}

/// A record in the form of [`Stage::write`] whose word is this one.
fn raw(first: u64, word: u64) -> (u64, u64, u64) {
    (first, word & 15, word >> 4)
}

/// That a counter has counted `value` in all the time that it was to.
fn alone(value: u64, enabled: u64) -> (u64, u64, u64) {
    raw(value, enabled << TIMES_BITS | TIMES_SAME)
}

fn head(at: u64, count: u64, records: u64) -> (u64, u64, u64) {
    (at, KIND_READINGS, records << 8 | count)
}

fn measured(counts: [u64; 2], since: MeasuredSince) -> What {
    let mut measures = Measures::default();
    measures.0[..2].copy_from_slice(&counts);
    What::Measured(Box::new(measures), since)
}

fn missing(slot: usize) -> What {
    What::Unmeasured(Counters::these(&[Counter::Measured(Slot::at(slot).unwrap())]))
}

fn call() -> What {
    What::Lock(LockId::from_index(0), LockStep::Acquired)
}

fn told(events: Vec<Event>) -> Vec<What> {
    events.into_iter().map(|event| event.what).collect()
}

const LAST: MeasuredSince = MeasuredSince::LastStep;

/// The numbers are those of `linux/perf_event.h`.
#[test]
fn the_probe_is_asked_for_events_as_the_kernel_knows_them() {
    let stage = stage();
    let header = stage.probe.header();
    let events = ["cycles", "instructions:u", "r01c2:k"].map(|name| CountedEvent::named(name).unwrap());
    request((&header.measured, &header.events), &events);
    let asked = header.events.each_ref().map(|event| {
        let [kind, exclusions] = [&event.kind, &event.exclusions].map(|word| word.load(Ordering::Relaxed));
        (kind, event.config.load(Ordering::Relaxed), exclusions)
    });
    assert_eq!(header.measured.load(Ordering::Relaxed), 3);
    let (user, kernel, hypervisor) = (1 << 4, 1 << 5, 1 << 6);
    assert_eq!(asked[..4], [(0, 0, 0), (0, 1, kernel | hypervisor), (4, 0x1c2, user | hypervisor), (0, 0, 0)]);
}

#[test]
fn what_was_counted_comes_before_its_call_at_the_same_time() {
    let mut stage = stage();
    stage.claim(own_pid().raw()).first.store(1, Ordering::Relaxed);
    let shared = [raw(130, 500 << TIMES_BITS | TIMES_SHARED), (300, 0, 0)];
    let records = [
        head(1, 2, 2),
        alone(100, 200),
        alone(7, 200),
        (1, KIND_SIGNAL, 77),
        head(2, 2, 3),
        shared[0],
        shared[1],
        alone(17, 500),
        (2, KIND_SIGNAL, 77),
        // The last look of a thread that ends the process.
        head(3, 2, 3),
        shared[0],
        shared[1],
        alone(18, 501),
        (3, KIND_FILLER, 0),
    ];
    stage.write(1, &records);
    let mut out = Vec::new();
    stage.poll(&mut out);
    assert_eq!(stage.source.counters(), Counters::measured(2));
    assert!(out.chunks(2).take(2).all(|pair| pair[0].at == pair[1].at && pair[0].tid == own_pid().main_thread()));
    // 30 in a third of the time.
    let expected = [measured([100, 7], LAST), call(), measured([90, 10], LAST), call(), measured([0, 1], LAST)];
    assert_eq!(told(out), expected);
    let [remark] = &stage.source.remarks()[..] else { panic!("{:?}", stage.source.remarks()) };
    assert!(remark.contains("cycles") && !remark.contains("instructions"), "{remark}");
}

#[test]
fn a_call_may_lie_in_the_chunk_after_its_readings() {
    let mut stage = stage();
    stage.claim(own_pid().raw()).first.store(1, Ordering::Relaxed);
    let mut records = vec![(1, KIND_FILLER, 0); RECORDS - 3];
    records.extend([head(1, 2, 2), alone(5, 1), alone(6, 1)]);
    stage.write(1, &records);
    stage.write(2, &[(1, KIND_SIGNAL, 77)]);
    stage.probe.chunk(1).unwrap().next.store(2, Ordering::Relaxed);
    let mut out = Vec::new();
    stage.poll(&mut out);
    assert_eq!(told(out), [measured([5, 6], LAST), call()]);
}

#[test]
fn counters_without_an_answer_are_missing_and_said_so_once() {
    let mut stage = stage();
    stage.claim(own_pid().raw()).first.store(1, Ordering::Relaxed);
    let silent = raw(0, TIMES_UNKNOWN);
    let calls = [(1, 10), (2, 30)].map(|(at, value)| [head(at, 2, 2), silent, alone(value, at), (at, KIND_SIGNAL, 77)]);
    stage.write(1, calls.as_flattened());
    let mut out = Vec::new();
    stage.poll(&mut out);
    assert_eq!(told(out), [missing(0), measured([0, 10], LAST), call(), measured([0, 20], LAST), call()]);
}

#[test]
fn readings_that_make_no_sense_are_none_and_what_follows_is_read() {
    let mut stage = stage();
    stage.claim(own_pid().raw()).first.store(1, Ordering::Relaxed);
    let records = [
        // More counters than there can be, than there are records, and fewer.
        head(1, 9, 1),
        alone(1, 1),
        head(1, 2, 1),
        alone(1, 1),
        head(1, 1, 2),
        alone(1, 1),
        alone(1, 1),
        // Half of one that shares.
        head(1, 1, 1),
        raw(1, 5 << TIMES_BITS | TIMES_SHARED),
        head(1, 0, 0),
        (1, KIND_SIGNAL, 77),
        (1, KIND_READINGS + 1, 3),
        (2, 15, 3),
        (3, KIND_INIT, 77),
        (4, KIND_LOST, 0),
        // Longer than the chunk is.
        head(4, 2, 900),
        alone(1, 1),
        (5, KIND_SIGNAL, 77),
    ];
    stage.write(1, &records);
    let mut out = Vec::new();
    stage.poll(&mut out);
    let told = told(out);
    assert!(!told.iter().any(|what| matches!(what, What::Measured(..) | What::LostLock(_))), "{told:?}");
    assert_eq!(told.iter().filter(|what| **what == call()).count(), 2);
}

/// ```text
/// recorded │ paused, then recorded │
///    A          nothing   B      B
/// ```
#[test]
fn what_was_counted_during_a_pause_belongs_to_no_state() {
    let mut stage = stage();
    let slot = stage.claim(own_pid().raw());
    slot.first.store(1, Ordering::Relaxed);
    let now = || ProbeClock::choose().now().since(RawTime::from_record(0));
    let reading = |at, value| [head(at, 2, 2), alone(value, value), alone(0, value), (at, KIND_SIGNAL, 77)];
    // Not yet read when the pause is over.
    let before = reading(now(), 10);
    assert_eq!(stage.source.pause(), Pausing::Paused);
    stage.source.resume(&[]).unwrap();
    let after = [reading(now(), 50), reading(now(), 60)];
    stage.write(1, [before, after[0], after[1]].as_flattened());
    let mut out = Vec::new();
    stage.poll(&mut out);
    let expected = [measured([10, 0], LAST), measured([40, 0], MeasuredSince::Unknown), measured([10, 0], LAST)];
    let told: Vec<What> = told(out).into_iter().filter(|what| *what != call()).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_thread_with_the_number_of_one_that_has_ended_counts_from_nothing() {
    let mut stage = stage();
    let mut out = Vec::new();
    for value in [500, 3] {
        stage.poll(&mut out);
        let at = ProbeClock::choose().now().since(RawTime::from_record(0));
        stage.write(1, &[head(at, 2, 2), alone(value, value), alone(value, value), (at, KIND_SIGNAL, 77)]);
        // No thread has it.
        stage.claim(i32::MAX).first.store(1, Ordering::Relaxed);
        // It is looked for once it is quiet.
        (0..3).for_each(|_| _ = stage.poll(&mut out));
        assert_eq!(stage.probe.used_slots()[0].tid.load(Ordering::Relaxed), 0);
    }
    assert_eq!(told(out), [measured([500, 500], LAST), call(), measured([3, 3], LAST), call()]);
}
