//! Counters in one group with probes, and without them again.

use std::{thread::sleep, time::Duration};

use gilscope::{
    perf::{
        clock,
        events::CountedEvent,
        limits::RingSize,
        measured::Measuring,
        record::Body,
        stream::{PerfStream, Probe, Record},
    },
    source::uprobe::{group::ProbeGroup, tracefs::Tracefs},
};

use crate::{
    live::interpreters::usual,
    probes::{signal_site, sweeper},
};

const NAPS: &str = "import time\nprint('ready')\nwhile True: time.sleep(0.001)";

/// What is recorded in a while: hits that bring what the counter says, and those that do not.
fn hits(stream: &mut PerfStream) -> (usize, usize) {
    sleep(Duration::from_millis(150));
    let mut records = Vec::new();
    stream.drain(clock::now(), &mut records);
    let is_hit = |record: &&Record| matches!(record.body, Body::Hit { .. });
    let with = records.iter().filter(is_hit).filter(|record| record.reading.is_some()).count();
    (with, records.iter().filter(is_hit).count() - with)
}

#[test]
fn probes_go_on_without_counters_that_are_given_up() {
    let mut program = usual().start(NAPS);
    program.line();
    let site = signal_site(program.pid());
    let mut group = permitted!(ProbeGroup::create(permitted!(Tracefs::find()), &sweeper()));
    let tracepoint = group.define(std::slice::from_ref(&site)).unwrap()[0];
    let probes = [Probe { number: 0, tracepoint, register: site.argument.perf_number() }];
    let events = Vec::leak(vec![CountedEvent::named("cpu-clock").unwrap()]);
    let mut stream = PerfStream::open_with_probes(program.pid(), &probes, events, RingSize::Ordinary).unwrap();
    assert_eq!(*stream.measuring(), Measuring::These(events));
    let (with, without) = hits(&mut stream);
    // Until all groups were open some brought nothing.
    assert!(with > 20 && without < 20, "{with} {without}");
    stream.stop_measuring("a test").unwrap();
    assert_eq!(*stream.measuring(), Measuring::Ended("a test".to_owned()));
    hits(&mut stream);
    let (with, without) = hits(&mut stream);
    assert!(with == 0 && without > 20, "{with} {without}");
    stream.stop(&mut Vec::new());
    program.child.kill().unwrap();
    program.child.wait().unwrap();
}
