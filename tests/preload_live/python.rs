//! Every CPython found on this machine.

use std::process::Command;

use gilscope::{model::ids::Tid, target::site::CondFunction};

use crate::{
    live::{
        interpreters::{Interpreter, Way, interpreters_by, usual},
        outcome,
    },
    recording::{Circumstances, record, record_under},
};

/// Those of other systems by their loaders: the probe's files lie in our system.
pub fn each_python(check: impl Fn(&Interpreter)) {
    for interpreter in interpreters_by(&[Way::Loader]) {
        println!("{}", interpreter.name);
        check(&interpreter);
    }
}

#[test]
fn every_release_of_a_known_loop_is_seen() {
    let script =
        |writes: u32| format!("import os\nf = os.open('/dev/null', 1)\nfor _ in range({writes}): os.write(f, b'x')");
    each_python(|interpreter| {
        let recordings = [10_000, 20_000].map(|writes| record(interpreter.command_of(&script(writes))));
        let [once, twice] = recordings.map(|recording| {
            recording.assert_clean_success();
            assert_eq!(recording.lost, 0);
            let cost = recording.tally.cost_per_event.expect("the probe measured its cost").as_nanos();
            assert!((1..10_000).contains(&cost), "{cost} ns an event");
            let lock = recording.lock();
            lock.assert_alternation();
            println!("  {} acquisitions, {cost} ns an event", lock.acquisitions());
            lock.acquisitions()
        });
        assert!(once >= 10_000);
        assert_eq!(twice - once, 10_000);
    });
}

#[test]
fn contending_threads_alternate() {
    let script = "
import threading, time
def spin():
    end = time.monotonic() + 0.5
    while time.monotonic() < end: sum(range(100))
threads = [threading.Thread(target=spin) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]";
    each_python(|interpreter| {
        let recording = record(interpreter.command_of(script));
        recording.assert_clean_success();
        assert_eq!(recording.lost, 0);
        recording.lock().assert_alternation();
        let waits = recording.calls.iter().filter(|call| call.function == CondFunction::TimedWait).count();
        let yields = recording.calls.iter().filter(|call| call.function == CondFunction::Wait).count();
        println!("  {} acquisitions, {waits} wants, {yields} yields", recording.lock().acquisitions());
        assert!(waits > 10 && yields > 0, "{waits} waits, {yields} yields");
    });
}

#[test]
fn threads_that_hand_over_at_every_call_alternate() {
    let script = "
import os, threading
def pump():
    r, w = os.pipe()
    for _ in range(10000): os.write(w, b'x'); os.read(r, 1)
threads = [threading.Thread(target=pump) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]";
    each_python(|interpreter| {
        let recording = record(interpreter.command_of(script));
        recording.assert_clean_success();
        assert_eq!(recording.lost, 0);
        let lock = recording.lock();
        lock.assert_alternation();
        println!("  {} acquisitions, {} by another thread", lock.acquisitions(), lock.changes());
        assert!(lock.acquisitions() >= 80_000);
    });
}

#[test]
fn the_program_sees_nothing_of_the_probe() {
    let script = "
import os, subprocess, sys
seen = sorted(k for k in os.environ if k.startswith(('GILSCOPE_RING', 'GILSCOPE_PROBE')) or k == 'LD_PRELOAD')
files = [os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f)]
child = subprocess.run(['/usr/bin/env'], stdout=subprocess.PIPE).stdout.decode()
print(seen, os.environ.get('LD_PRELOAD'), [f for f in files if 'gilscope' in f], 'GILSCOPE_RING' in child, '/proc/self/fd' in child)
sys.stdout.flush()
os._exit(7)";
    each_python(|interpreter| {
        let recording = record(interpreter.command_of(script));
        assert_eq!(recording.stdout(), "[] None [] False False");
        assert_eq!(recording.output.status.code(), Some(7));
        assert_eq!(String::from_utf8_lossy(&recording.output.stderr), "");
        assert!(recording.claimed);
    });
}

#[test]
fn the_users_own_preload_stays() {
    let libraries = Command::new("sh").arg("-c").arg("ls /lib/*/libm.so.6 /lib*/libm.so.6 2>/dev/null").output();
    let Some(library) =
        libraries.ok().and_then(|o| String::from_utf8_lossy(&o.stdout).lines().next().map(str::to_owned))
    else {
        return outcome::skipped("the user's own preload: there is no libm to preload");
    };
    let script = "import os; print(os.environ['LD_PRELOAD'])";
    let circumstances = Circumstances { preload: Some(&library), ..Circumstances::default() };
    let recording = record_under(usual().command_of(script), &circumstances);
    recording.assert_clean_success();
    assert_eq!(recording.stdout(), library);
}

#[test]
fn a_shell_passes_the_probe_on_and_the_first_interpreter_takes_it() {
    let mut shell = Command::new("bash");
    let show = "
import os
files = [os.readlink(f'/proc/self/fd/{f}') for f in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{f}')]
print(os.getpid(), [k for k in os.environ if 'GILSCOPE_RING' in k or 'GILSCOPE_PROBE' in k or k == 'LD_PRELOAD'], [f for f in files if 'gilscope' in f])";
    let script = "x=$(echo hello | cat); env -u NOTHING \"$0\" -c \"$1\"; \"$0\" -c \"$1\"; exit 3";
    shell.args(["-c", script]).args(usual().words).arg(show);
    let recording = record(shell);
    assert!(recording.claimed);
    assert_eq!(recording.output.status.code(), Some(3));
    let shown = recording.stdout();
    let pids: Vec<&str> = shown.lines().filter_map(|line| line.strip_suffix(" [] []")).collect();
    assert_eq!(pids.len(), 2, "{shown}");
    assert!(!recording.calls.is_empty());
    assert!(recording.calls.iter().all(|call| call.tid.to_string() == pids[0]), "the second was recorded too");
}

#[test]
fn forked_children_are_silent_and_unharmed() {
    let script = "
import multiprocessing, os, sys, warnings
warnings.simplefilter('ignore')
def square(x): return x * x
if __name__ == '__main__':
    null = os.open('/dev/null', 1)
    context = multiprocessing.get_context('fork')
    with context.Pool(3) as pool: assert pool.map(square, range(100)) == [x * x for x in range(100)]
    for n in range(50):
        child = os.fork()
        if child == 0:
            for _ in range(1000): os.write(null, b'x')
            os._exit(n)
        assert os.waitpid(child, 0)[1] == n << 8
    print(os.getpid())";
    each_python(|interpreter| {
        let recording = record(interpreter.command_of(script));
        recording.assert_clean_success();
        let task = |tid: Tid| tid.raw().to_string();
        let calls = recording.calls.len();
        assert!(calls < 40_000, "{calls} calls: children recorded");
        assert!(recording.calls.iter().any(|call| task(call.tid) == recording.stdout()));
        recording.lock().assert_alternation();
        assert_eq!(recording.lost, 0);
    });
}

#[test]
fn ten_thousand_short_threads_find_a_slot() {
    let script = "
import os, threading
null = os.open('/dev/null', 1)
def work():
    os.write(null, b'x')
for _ in range(1000):
    threads = [threading.Thread(target=work) for _ in range(10)]
    [t.start() for t in threads]; [t.join() for t in threads]";
    each_python(|interpreter| {
        let recording = record(interpreter.command_of(script));
        recording.assert_clean_success();
        recording.lock().assert_alternation();
        assert_eq!(recording.lost, 0);
        let mut tids: Vec<_> = recording.calls.iter().map(|call| call.tid).collect();
        tids.sort_unstable();
        tids.dedup();
        println!("  {} threads, {} acquisitions", tids.len(), recording.lock().acquisitions());
        assert!(tids.len() > 9_000, "{} threads", tids.len());
    });
}

#[test]
fn a_full_pool_loses_events_and_says_how_many() {
    let script = "import os\nf = os.open('/dev/null', 1)\nfor _ in range(200000): os.write(f, b'x')";
    let complete = record(usual().command_of(script));
    let circumstances = Circumstances { chunks: Some(4), ..Circumstances::default() };
    let starved = record_under(usual().command_of(script), &circumstances);
    starved.assert_clean_success();
    let seen = u64::try_from(starved.calls.len()).expect("a count");
    let all = u64::try_from(complete.calls.len()).expect("a count");
    println!("  {seen} seen + {} lost, of {all}", starved.lost);
    assert!(starved.lost > 100_000, "{} lost", starved.lost);
    assert!((seen + starved.lost).abs_diff(all) < 50, "{seen} seen, {} lost, {all} in all", starved.lost);
}
