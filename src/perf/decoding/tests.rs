//! Records made by hand, and any bytes at all.

use perf_event_open_sys::bindings;
use proptest::prelude::{Strategy, any, proptest};

use super::{Malformed, Records};
use crate::{
    model::{
        event::OffCpu,
        ids::{Pid, Tid},
        time::MonoNanos,
    },
    perf::{
        reading::{GroupReading, ReadFormat},
        record::{Body, EventId, Layout, Naming, RawRecord, Taken},
    },
};

fn record(kind: u32, misc: u32, body: &[u8]) -> Vec<u8> {
    let size = u16::try_from(8 + body.len()).unwrap();
    let misc = u16::try_from(misc).unwrap();
    [&kind.to_ne_bytes()[..], &misc.to_ne_bytes(), &size.to_ne_bytes(), body].concat()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Process 7, thread 8, time 1000, event 42.
fn stamp() -> Vec<u8> {
    [words(&[7, 8]), 1000_u64.to_ne_bytes().to_vec(), 42_u64.to_ne_bytes().to_vec()].concat()
}

fn stamped(kind: u32, misc: u32, body: &[u8]) -> Vec<u8> {
    record(kind, misc, &[body, &stamp()].concat())
}

fn decoded(body: Body) -> RawRecord {
    let (pid, tid) = (Pid::from_raw(7), Tid::from_raw(8));
    RawRecord { event: EventId::from_kernel(42), at: MonoNanos::from_monotonic(1000), pid, tid, body, reading: None }
}

/// As if all samples were of one kind.
fn records(bytes: &[u8], read: Option<ReadFormat>, taken: Taken) -> Vec<Result<RawRecord, Malformed>> {
    Records::new(bytes, |event| (event == EventId::from_kernel(42)).then_some(Layout { read, taken })).collect()
}

fn only(bytes: &[u8], taken: Taken) -> RawRecord {
    let [record] = &records(bytes, None, taken)[..] else { panic!("one record") };
    record.clone().unwrap()
}

#[test]
fn switches_tell_preemption_from_sleep() {
    let out = bindings::PERF_RECORD_MISC_SWITCH_OUT;
    let preempted = out | bindings::PERF_RECORD_MISC_SWITCH_OUT_PREEMPT;
    for (misc, body) in [
        (0, Body::SwitchedIn),
        (out, Body::SwitchedOut(OffCpu::Blocked)),
        (preempted, Body::SwitchedOut(OffCpu::Preempted)),
    ] {
        assert_eq!(only(&stamped(bindings::PERF_RECORD_SWITCH, misc, &[]), Taken::NothingOrWeight), decoded(body));
    }
}

#[test]
fn names_end_at_the_first_nul() {
    let bytes = [words(&[7, 9]), b"worker\0\0".to_vec()].concat();
    let name = |cause| Body::Named {
        pid: Pid::from_raw(7).unwrap(),
        tid: Tid::from_raw(9).unwrap(),
        name: "worker".into(),
        cause,
    };
    let kind = bindings::PERF_RECORD_COMM;
    assert_eq!(only(&stamped(kind, 0, &bytes), Taken::NothingOrWeight), decoded(name(Naming::Rename)));
    let exec = bindings::PERF_RECORD_MISC_COMM_EXEC;
    assert_eq!(only(&stamped(kind, exec, &bytes), Taken::NothingOrWeight), decoded(name(Naming::Exec)));
}

#[test]
fn births_deaths_and_losses() {
    let task = [words(&[7, 7, 9, 8]), 999_u64.to_ne_bytes().to_vec()].concat();
    let born = Body::Forked { child_pid: Pid::from_raw(7).unwrap(), child: Tid::from_raw(9).unwrap() };
    assert_eq!(only(&stamped(bindings::PERF_RECORD_FORK, 0, &task), Taken::NothingOrWeight), decoded(born));
    assert_eq!(only(&stamped(bindings::PERF_RECORD_EXIT, 0, &task), Taken::NothingOrWeight), decoded(Body::Exited));
    let lost = [42_u64.to_ne_bytes(), 3_u64.to_ne_bytes()].concat();
    assert_eq!(
        only(&stamped(bindings::PERF_RECORD_LOST, 0, &lost), Taken::NothingOrWeight),
        decoded(Body::Lost { count: 3 })
    );
}

#[test]
fn a_hit_carries_its_register_unless_the_kernel_had_none() {
    let hit = |abi: u64, rest: &[u8]| {
        let front = [42_u64.to_ne_bytes().to_vec(), words(&[7, 8]), 1000_u64.to_ne_bytes().to_vec()].concat();
        record(bindings::PERF_RECORD_SAMPLE, 2, &[&front, &abi.to_ne_bytes()[..], rest].concat())
    };
    let register = 0x7fff_1234_u64;
    let taken = Taken::Register;
    assert_eq!(only(&hit(2, &register.to_ne_bytes()), taken), decoded(Body::Hit { register: Some(register) }));
    assert_eq!(only(&hit(0, &[]), taken), decoded(Body::Hit { register: None }));
    assert_eq!(records(&hit(2, &[]), None, taken), [Err(Malformed { offset: 0 })]);
}

#[test]
fn what_the_counters_say_stands_before_what_is_taken_along() {
    let front = [42_u64.to_ne_bytes().to_vec(), words(&[7, 8]), 1000_u64.to_ne_bytes().to_vec()].concat();
    let numbers = [3_u64, 50, 40, 9, 11, 22, 2, 0x1234];
    let rest = |count: usize| numbers[..count].iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let sample = |count| record(bindings::PERF_RECORD_SAMPLE, 2, &[&front[..], &rest(count)].concat());
    let read = Some(ReadFormat::TimesAndValues);
    let [hit] = &records(&sample(8), read, Taken::Register)[..] else { panic!("one record") };
    let mut reading = GroupReading { events: 3, enabled: 50, running: 40, count: 2, ..GroupReading::default() };
    reading.values[..2].copy_from_slice(&[11, 22]);
    let expected = decoded(Body::Hit { register: Some(0x1234) });
    assert_eq!(*hit, Ok(RawRecord { reading: Some(Box::new(reading)), ..expected }));
    assert_eq!(records(&sample(5), read, Taken::NothingOrWeight), [Err(Malformed { offset: 0 })]);
    // Of an event that is not ours.
    assert_eq!(Records::new(&sample(8), |_| None).count(), 0);
}

#[test]
fn a_sample_with_nothing_but_its_stamp_counts_one() {
    let stamp = [42_u64.to_ne_bytes().to_vec(), words(&[7, 8]), 1000_u64.to_ne_bytes().to_vec()].concat();
    assert_eq!(only(&record(bindings::PERF_RECORD_SAMPLE, 2, &stamp), Taken::NothingOrWeight), decoded(Body::Counted));
}

#[test]
fn a_sample_with_three_words_more_tells_its_weight() {
    let stamp = [42_u64.to_ne_bytes().to_vec(), words(&[7, 8]), 1000_u64.to_ne_bytes().to_vec()].concat();
    let body = [stamp, [0, 3, 77_u64].map(u64::to_ne_bytes).concat()].concat();
    let sample = record(bindings::PERF_RECORD_SAMPLE, 2, &body);
    assert_eq!(only(&sample, Taken::NothingOrWeight), decoded(Body::Sampling { weight: 77 }));
}

#[test]
fn kinds_of_no_use_are_skipped_and_short_ones_reported() {
    let throttle = record(bindings::PERF_RECORD_THROTTLE, 0, &[0; 48]);
    let short = record(bindings::PERF_RECORD_SWITCH, 0, &[0; 16]);
    let whole = stamped(bindings::PERF_RECORD_SWITCH, 0, &[]);
    let all = records(&[throttle, short, whole].concat(), None, Taken::NothingOrWeight);
    assert_eq!(all, [Err(Malformed { offset: 56 }), Ok(decoded(Body::SwitchedIn))]);
}

#[test]
fn an_impossible_length_ends_the_reading() {
    let mut bytes = stamped(bindings::PERF_RECORD_SWITCH, 0, &[]);
    bytes.extend([0; 16]);
    let all = records(&bytes, None, Taken::NothingOrWeight);
    assert_eq!(all, [Ok(decoded(Body::SwitchedIn)), Err(Malformed { offset: 32 })]);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>().prop_map(|byte| byte % 32), 0..400)) {
        for layout in Layout::all() {
            assert!(Records::new(&bytes, |_| Some(layout)).count() <= bytes.len() / 8 + 1);
        }
    }
}
