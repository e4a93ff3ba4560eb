//! Time on the CPU, births, deaths, names.

use std::process::Command;

use gilscope::{
    model::{
        event::{Event, OffCpu, What},
        ids::{Pid, Tid},
    },
    perf::error::PerfError,
    source::{
        Source,
        scheduler::{SchedulerSource, Scope},
    },
};

use crate::{
    live::{interpreters::usual, running::Running, stolen::with_stolen},
    program::record_until,
};

const COMPUTE_AND_SLEEP: &str = r"
import sys, threading, time, zlib
def schedstat(): return open('/proc/self/task/%d/schedstat' % threading.get_native_id()).read().split()[1]
def work(kind):
    gate.wait()
    before = (time.monotonic_ns(), time.thread_time_ns(), schedstat())
    end, data = time.monotonic() + 1.0, bytes(1 << 20)
    while time.monotonic() < end:
        if kind == 'sleep': time.sleep(0.002)
        elif kind == 'zlib': zlib.compress(data)
        else: sum(range(10000))
    rows.append((threading.get_native_id(), *before, time.monotonic_ns(), time.thread_time_ns(), schedstat()))
gate, rows = threading.Event(), []
threads = [threading.Thread(target=work, args=(k,)) for k in ('cpu', 'cpu', 'zlib', 'zlib', 'sleep')]
for t in threads: t.start()
print('ready'); sys.stdin.readline(); gate.set()
for t in threads: t.join()
print('done'); sys.stdin.readline()
for row in rows: print(*row)
";

/// Time on a CPU and time preempted between two moments.
fn on_and_off(events: &[Event], tid: Tid, from: u64, to: u64) -> (u64, u64) {
    let (mut running, mut preempted, mut since) = (0, 0, None::<(u64, bool)>);
    let clip = |at: u64| at.clamp(from, to);
    for event in events.iter().filter(|event| event.tid == tid) {
        let at = event.at.as_nanos();
        let next = match event.what {
            What::SwitchedIn => Some((at, true)),
            What::SwitchedOut(OffCpu::Preempted) => Some((at, false)),
            What::SwitchedOut(OffCpu::Blocked) => None,
            _ => continue,
        };
        if let Some((start, on)) = since {
            *(if on { &mut running } else { &mut preempted }) += clip(at) - clip(start);
        }
        since = next;
    }
    if let Some((start, true)) = since {
        running += to - clip(start);
    }
    (running, preempted)
}

#[test]
fn time_on_the_cpu_agrees_with_the_threads_own_clock() {
    let mut program = usual().start(COMPUTE_AND_SLEEP);
    assert_eq!(program.line(), "ready");
    let mut source = permitted!(SchedulerSource::open(program.pid(), Scope::Running));
    program.go();
    let (events, stolen) = with_stolen(|| record_until(&mut source, &mut program, "done"));
    let stolen = u64::try_from(stolen.as_nanos()).unwrap();
    program.go();
    for _ in 0..5 {
        let row = program.numbers();
        let tid = Tid::from_raw(i32::try_from(row[0]).unwrap()).unwrap();
        let row: Vec<u64> = row.iter().map(|number| number.cast_unsigned()).collect();
        let (running, preempted) = on_and_off(&events, tid, row[1], row[4]);
        let (own, delay) = (row[5] - row[2], row[6] - row[3]);
        println!("{tid}: running {running} own clock {own}, preempted {preempted} run delay {delay}");
        // The clock also counts the switching itself, some microseconds each time.
        let switches = events.iter().filter(|event| event.tid == tid && event.what == What::SwitchedIn).count() as u64;
        assert!(
            running.abs_diff(own) <= own / 100 + 10_000 * switches + stolen,
            "{running} against {own}, {switches} switches"
        );
        assert!(preempted <= delay + delay / 100 + 1_000_000, "{preempted} preempted of {delay}");
        let readings: Vec<_> = events.iter().filter(|event| event.tid == tid).collect();
        let readings: Vec<_> = readings.iter().filter(|event| matches!(event.what, What::RunDelay(_))).collect();
        assert!(readings.len() >= 2, "a baseline and at least one more");
    }
    assert!(!events.iter().any(|event| matches!(event.what, What::LostSwitch(_))));
}

#[test]
fn every_one_of_a_thousand_threads_is_created_named_and_ended() {
    let mut program = usual().start(
        r"
import os, sys, threading
print('ready'); sys.stdin.readline()
for batch in range(40):
    threads = [threading.Thread(target=lambda: None) for _ in range(25)]
    for t in threads: t.start()
    for t in threads: t.join()
# A joined thread has yet to end.
while len(os.listdir('/proc/self/task')) > 1: pass
print('done'); sys.stdin.readline()
",
    );
    program.line();
    let mut source = permitted!(SchedulerSource::open(program.pid(), Scope::Running));
    program.go();
    let events = record_until(&mut source, &mut program, "done");
    let count = |kind: fn(&What) -> bool| events.iter().filter(|event| kind(&event.what)).count();
    assert_eq!(count(|what| matches!(what, What::Created)), 1000);
    assert_eq!(count(|what| matches!(what, What::Exited)), 1000);
    assert!(count(|what| matches!(what, What::Named(_))) >= 1001);
}

#[test]
fn a_child_that_executes_a_program_gets_its_name() {
    // The shell waits before it becomes another program, as a launched child does.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read go; exec sleep 0.05"]);
    let mut program = Running::start(command);
    let mut source = permitted!(SchedulerSource::open(program.pid(), Scope::BeforeExec));
    program.go();
    program.child.wait().unwrap();
    let mut events = Vec::new();
    source.finish(&mut events);
    let names: Vec<_> = events.iter().filter(|event| matches!(event.what, What::Named(_))).collect();
    assert_eq!(names.len(), 1);
    assert_eq!((&names[0].what, Some(names[0].at)), (&What::Named("sleep".into()), source.executed()));
    assert_eq!(events.iter().filter(|event| event.what == What::Exited).count(), 1);
}

#[test]
fn a_process_of_another_user_is_refused_in_words() {
    let init = Pid::from_raw(1).unwrap();
    match SchedulerSource::open(init, Scope::Running) {
        Ok(_) => println!("skipped: this user may watch every process"),
        Err(why) => {
            assert!(matches!(why, PerfError::NotPermitted { paranoid: Some(_), .. }), "{why:?}");
            println!("{why}; {:?}", why.remedy());
        }
    }
}
