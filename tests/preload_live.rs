//! The `preload` source against real interpreters: complete, strictly alternating, and invisible to the program.

#![expect(unsafe_code, reason = "the launcher's step between fork and exec")]
#![expect(clippy::print_stdout, reason = "tests say what they skip and what they measured")]

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use gilscope::{
    model::{
        event::{Event, What},
        ids::{Pid, Tid},
        time::MonoNanos,
    },
    source::{
        Source, Tally,
        calls::Call,
        preload::{Prepared, Verdict},
    },
    target::site::CondFunction,
};

/// Distance of the two condition variables of one lock, in every CPython.
const PAIR: u64 = 88;

struct Recording {
    calls: Vec<Call>,
    lost: u64,
    tally: Tally,
    output: Output,
    claimed: bool,
}

/// The calls on the busiest lock, as acquisitions (`true`) and releases.
struct LockCalls {
    steps: Vec<(Tid, bool)>,
}

/// How to record, other than as usual.
#[derive(Default)]
struct Circumstances<'test> {
    /// The size of the pool.
    chunks: Option<u32>,
    /// What the user has in `LD_PRELOAD`.
    preload: Option<&'test str>,
    /// A page offset of condition variables that belong to no lock.
    foreign: Option<u64>,
}

fn record(command: Command) -> Recording {
    record_under(command, &Circumstances::default())
}

fn record_under(mut command: Command, circumstances: &Circumstances<'_>) -> Recording {
    let prepared = Prepared::with_chunks(circumstances.chunks.unwrap_or(u32::MAX)).expect("memory files can be made");
    let preload = circumstances.preload.map(OsStr::new);
    let foreign = circumstances.foreign;
    let files = prepared.inherited_fds().map(|file| file.as_raw_fd());
    command.envs(prepared.environment(preload)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let inherit = move || {
        for file in files {
            // SAFETY: changes a flag of a file that is open; allowed between fork and exec.
            unsafe { libc::fcntl(file, libc::F_SETFD, 0) };
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(inherit) };
    let child = command.spawn().expect("the interpreter starts");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    let output = thread::spawn(move || child.wait_with_output().expect("the child can be waited for"));
    let mut target = None;
    while target.is_none() && !output.is_finished() {
        thread::sleep(Duration::from_millis(1));
        target = prepared.claimed_by();
    }
    target = target.or_else(|| prepared.claimed_by());
    let calls = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&calls);
    let mut source = prepared.into_source(
        target.unwrap_or(pid),
        Box::new(move |call, _| {
            sink.lock().expect("nobody panics").push(call);
            let is_foreign = foreign.is_some_and(|offset| call.cond.raw() % 4096 == offset);
            if is_foreign { Verdict::Foreign } else { Verdict::Known }
        }),
    );
    let mut events = Vec::new();
    let mut watermark = MonoNanos::from_monotonic(0);
    while !output.is_finished() {
        thread::sleep(Duration::from_millis(10));
        let reached = source.drain(watermark, &mut events);
        assert!(reached >= watermark, "the watermark went back");
        watermark = reached;
        let last = calls.lock().expect("nobody panics").last().map(|call: &Call| call.at);
        assert!(last.is_none_or(|last| last <= watermark), "a call beyond the watermark");
    }
    source.finish(&mut events);
    let tally = source.tally();
    drop(source);
    let calls = Arc::into_inner(calls).expect("the source is gone").into_inner().expect("nobody panics");
    assert!(calls.is_sorted_by_key(|call| call.at), "calls out of order");
    let output = output.join().expect("the child was waited for");
    Recording { calls, lost: events.iter().map(lost).sum(), tally, output, claimed: target.is_some() }
}

fn lost(event: &Event) -> u64 {
    if let What::LostLock(lost) = event.what { lost.count } else { 0 }
}

impl Recording {
    fn lock(&self) -> LockCalls {
        let mut signals = HashMap::<u64, usize>::new();
        for call in self.calls.iter().filter(|call| call.function == CondFunction::Signal) {
            *signals.entry(call.cond.raw()).or_default() += 1;
        }
        let paired = |cond: &u64| signals.contains_key(&(cond + PAIR));
        let cond = signals.keys().copied().filter(paired).max_by_key(|cond| signals[cond]);
        let cond = cond.expect("a pair of condition variables");
        let step = |call: &Call| match (call.function, call.cond.raw()) {
            (CondFunction::Signal, at) if at == cond => Some((call.tid, false)),
            (CondFunction::Signal, at) if at == cond + PAIR => Some((call.tid, true)),
            _ => None,
        };
        LockCalls { steps: self.calls.iter().filter_map(step).collect() }
    }

    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).trim().to_owned()
    }

    fn assert_clean_success(&self) {
        let errors = String::from_utf8_lossy(&self.output.stderr);
        assert!(self.output.status.success() && errors.is_empty(), "{:?}: {errors}", self.output.status);
        assert!(self.claimed, "nobody claimed the session");
    }
}

impl LockCalls {
    fn acquisitions(&self) -> usize {
        self.steps.iter().filter(|(_, acquired)| *acquired).count()
    }

    /// Acquisitions by another thread than the one before.
    fn changes(&self) -> usize {
        let owners = self.steps.iter().filter(|(_, acquired)| *acquired).map(|(tid, _)| tid);
        owners.clone().zip(owners.skip(1)).filter(|(before, after)| before != after).count()
    }

    /// Every acquisition is followed by the release of the same thread.
    fn assert_alternation(&self) {
        let mut owner = None;
        for (index, (tid, acquired)) in self.steps.iter().enumerate() {
            match (owner, acquired) {
                (None, true) => owner = Some(*tid),
                (Some(holder), false) if holder == *tid => owner = None,
                _ => panic!("step {index} of {}: owner {owner:?}, then {tid} {acquired}", self.steps.len()),
            }
        }
    }
}

fn pythons() -> Vec<Vec<PathBuf>> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let versions = ["3.8.18", "3.9.18", "3.10.13", "3.11.7", "3.12.1", "3.13.0"];
    let pyenv = versions.map(|version| vec![home.join(format!(".pyenv/versions/{version}/bin/python3"))]);
    let newer = ["3.14", "3.15"].map(|version| {
        let root = PathBuf::from("/opt/sid/fs");
        let loader = root.join("lib64/ld-linux-x86-64.so.2");
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        vec![loader, "--library-path".into(), libraries, root.join(format!("usr/bin/python{version}"))]
    });
    let all = pyenv.into_iter().chain([vec![PathBuf::from("/usr/bin/python3")]]).chain(newer);
    all.filter(|command| command.iter().all(|part| part.exists() || part.starts_with("--library-path"))).collect()
}

fn python(command: &[PathBuf], script: &str) -> Command {
    let mut python = Command::new(&command[0]);
    python.args(&command[1..]).arg("-c").arg(script);
    python
}

fn each_python(check: impl Fn(&[PathBuf])) {
    let pythons = pythons();
    if pythons.is_empty() {
        println!("skipped: no Python found");
    }
    for command in pythons {
        println!("{}", command.last().expect("a program").display());
        check(&command);
    }
}

fn any_python() -> Option<Vec<PathBuf>> {
    let found = pythons().into_iter().next();
    if found.is_none() {
        println!("skipped: no Python found");
    }
    found
}

#[test]
fn every_release_of_a_known_loop_is_seen() {
    let script =
        |writes: u32| format!("import os\nf = os.open('/dev/null', 1)\nfor _ in range({writes}): os.write(f, b'x')");
    each_python(|command| {
        let recordings = [10_000, 20_000].map(|writes| record(python(command, &script(writes))));
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
    each_python(|command| {
        let recording = record(python(command, script));
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
    each_python(|command| {
        let recording = record(python(command, script));
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
seen = sorted(k for k in os.environ if k.startswith('GILSCOPE') or k == 'LD_PRELOAD')
files = [os.readlink('/proc/self/fd/' + f) for f in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + f)]
child = subprocess.run(['/usr/bin/env'], stdout=subprocess.PIPE).stdout.decode()
print(seen, os.environ.get('LD_PRELOAD'), [f for f in files if 'gilscope' in f], 'GILSCOPE' in child, '/proc/self/fd' in child)
sys.stdout.flush()
os._exit(7)";
    each_python(|command| {
        let recording = record(python(command, script));
        assert_eq!(recording.stdout(), "[] None [] False False");
        assert_eq!(recording.output.status.code(), Some(7));
        assert_eq!(String::from_utf8_lossy(&recording.output.stderr), "");
        assert!(recording.claimed);
    });
}

#[test]
fn the_users_own_preload_stays() {
    let Some(command) = any_python() else { return };
    let libraries = Command::new("sh").arg("-c").arg("ls /lib/*/libm.so.6 /lib*/libm.so.6 2>/dev/null").output();
    let Some(library) =
        libraries.ok().and_then(|o| String::from_utf8_lossy(&o.stdout).lines().next().map(str::to_owned))
    else {
        return println!("skipped: no libm to preload");
    };
    let script = "import os; print(os.environ['LD_PRELOAD'])";
    let circumstances = Circumstances { preload: Some(&library), ..Circumstances::default() };
    let recording = record_under(python(&command, script), &circumstances);
    recording.assert_clean_success();
    assert_eq!(recording.stdout(), library);
}

#[test]
fn a_shell_passes_the_probe_on_to_the_first_interpreter() {
    let Some(command) = any_python() else { return };
    let mut shell = Command::new("bash");
    let script = "x=$(echo hello | cat); env -u NOTHING \"$0\" -c 'import os; print(os.getpid(), [k for k in os.environ if \"GILSCOPE\" in k])'; exit 3";
    shell.arg("-c").arg(script).arg(command.last().expect("a program"));
    let recording = record(shell);
    assert!(recording.claimed && recording.stdout().ends_with("[]"), "{}", recording.stdout());
    assert_eq!(recording.output.status.code(), Some(3));
    let pid: i32 = recording.stdout().split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a pid");
    let tids: Vec<i32> = recording.calls.iter().map(|call| call.tid.raw()).collect();
    assert!(!tids.is_empty() && tids.iter().all(|tid| *tid == pid), "{tids:?}");
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
    each_python(|command| {
        let recording = record(python(command, script));
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
    each_python(|command| {
        let recording = record(python(command, script));
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
    let Some(command) = any_python() else { return };
    let script = "import os\nf = os.open('/dev/null', 1)\nfor _ in range(200000): os.write(f, b'x')";
    let complete = record(python(&command, script));
    let circumstances = Circumstances { chunks: Some(4), ..Circumstances::default() };
    let starved = record_under(python(&command, script), &circumstances);
    starved.assert_clean_success();
    let seen = u64::try_from(starved.calls.len()).expect("a count");
    let all = u64::try_from(complete.calls.len()).expect("a count");
    println!("  {seen} seen + {} lost, of {all}", starved.lost);
    assert!(starved.lost > 100_000, "{} lost", starved.lost);
    assert!((seen + starved.lost).abs_diff(all) < 50, "{seen} seen, {} lost, {all} in all", starved.lost);
}

/// Not an assertion but a measurement, in processor time of the program, so that the reader on the other CPU does not
/// count: `cargo test --release --test preload_live overhead -- --ignored --nocapture`.
#[test]
#[ignore = "measures, and wants a quiet machine"]
fn overhead_of_a_release_and_acquisition() {
    let script = "
import os, time
r, w = os.pipe()
best = []
for _ in range(20):
    begun = time.process_time()
    for _ in range(20000): os.write(w, b'x'); os.read(r, 1)
    best.append((time.process_time() - begun) / 40000 * 1e9)
print(sorted(best)[10])";
    let cycle = |output: &Output| String::from_utf8_lossy(&output.stdout).trim().parse::<f64>().expect("a number");
    each_python(|command| {
        let mut plain = Vec::new();
        let mut probed = Vec::new();
        for _ in 0..7 {
            plain.push(cycle(&python(command, script).output().expect("the interpreter runs")));
            let recording = record(python(command, script));
            recording.lock().assert_alternation();
            assert_eq!(recording.lost, 0);
            probed.push(cycle(&recording.output));
        }
        let [plain, probed] = [plain, probed].map(|mut values| {
            values.sort_by(f64::total_cmp);
            values[3]
        });
        println!("  {plain:.0} ns a cycle alone, {probed:.0} with the probe: +{:.0} ns", probed - plain);
    });
}

#[test]
fn signal_handlers_that_interrupt_the_probe_lose_nothing_silently() {
    let program = "
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
char _PyRuntime[8];
static char memory[512] __attribute__((aligned(64)));
static volatile long handled;
static void handler(int s) { pthread_cond_signal((void *)(memory + 256)); handled++; }
int main(void) {
    struct itimerval every = {{0, 50}, {0, 50}};
    signal(SIGALRM, handler);
    setitimer(ITIMER_REAL, &every, 0);
    for (long i = 0; i < 3000000; i++) pthread_cond_signal((void *)(memory + 32));
    every.it_value.tv_usec = 0;
    setitimer(ITIMER_REAL, &every, 0);
    printf(\"%ld\\n\", 3000000 + handled);
}";
    let Some(binary) = compile(program) else { return println!("skipped: no C compiler") };
    let recording = record(Command::new(&binary));
    recording.assert_clean_success();
    let made: u64 = recording.stdout().parse().expect("a number");
    let seen = u64::try_from(recording.calls.len()).expect("a count");
    println!("  {made} calls, {seen} seen, {} lost", recording.lost);
    assert_eq!(seen + recording.lost, made);
}

#[test]
fn foreign_condition_variables_are_filtered_out_in_the_target() {
    let program = "
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
char _PyRuntime[8];
static char memory[4096] __attribute__((aligned(4096)));
int main(void) {
    for (int i = 0; i < 100; i++) {
        pthread_cond_signal((void *)(memory + 120));
        pthread_cond_signal((void *)(memory + 32));
        for (int k = 0; k < 1000; k++) pthread_cond_signal((void *)(memory + 1024));
        usleep(1000);
    }
}";
    let Some(binary) = compile(program) else { return println!("skipped: no C compiler") };
    let circumstances = Circumstances { foreign: Some(1024), ..Circumstances::default() };
    let recording = record_under(Command::new(&binary), &circumstances);
    recording.assert_clean_success();
    assert_eq!(recording.lock().acquisitions(), 100);
    let foreign = recording.calls.len() - recording.lock().steps.len();
    println!("  {foreign} of 100000 foreign calls recorded");
    assert!(foreign > 0 && foreign < 90_000, "{foreign} of 100000 foreign calls recorded");
    assert_eq!(recording.tally.unmatched, u64::try_from(foreign).expect("a count"));
}

#[test]
fn times_follow_the_lock_from_processor_to_processor() {
    let program = "
#include <pthread.h>
#include <sched.h>
char _PyRuntime[8];
static char memory[512] __attribute__((aligned(64)));
static volatile long turn, lock;
static void *work(void *me) {
    for (int i = 0; i < 50000; i++) {
        for (int spins = 0; turn != (long)me; spins++) if (spins > 2000) sched_yield();
        __sync_lock_test_and_set(&lock, 1);
        pthread_cond_signal((void *)(memory + 120));
        pthread_cond_signal((void *)(memory + 32));
        __sync_lock_release(&lock);
        turn = !(long)me;
    }
    return me;
}
int main(void) {
    pthread_t other;
    pthread_create(&other, 0, work, (void *)1);
    work(0);
    pthread_join(other, 0);
}";
    let Some(binary) = compile(program) else { return println!("skipped: no C compiler") };
    let recording = record(Command::new(&binary));
    recording.assert_clean_success();
    assert_eq!(recording.lost, 0);
    let lock = recording.lock();
    println!("  {} acquisitions, {} by another thread", lock.acquisitions(), lock.changes());
    assert_eq!((lock.acquisitions(), lock.changes()), (100_000, 99_999));
    lock.assert_alternation();
}

#[test]
fn events_of_threads_beyond_the_slots_are_counted() {
    let program = "
#include <pthread.h>
#include <stdio.h>
char _PyRuntime[8];
static char memory[512] __attribute__((aligned(64)));
static pthread_barrier_t all;
static void *work(void *x) {
    pthread_cond_signal((void *)(memory + 32));
    pthread_barrier_wait(&all);
    pthread_cond_signal((void *)(memory + 32));
    return x;
}
int main(void) {
    static pthread_t threads[5000];
    pthread_attr_t small;
    int made = 0;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 32768);
    pthread_barrier_init(&all, 0, 5001);
    while (made < 5000) {
        if (pthread_create(&threads[made], &small, work, 0)) return 9;
        made++;
    }
    pthread_barrier_wait(&all);
    for (int i = 0; i < made; i++) pthread_join(threads[i], 0);
    puts(\"10000\");
}";
    let Some(binary) = compile(program) else { return println!("skipped: no C compiler") };
    let recording = record(Command::new(&binary));
    if recording.output.status.code() == Some(9) {
        return println!("skipped: 5000 threads are not allowed here");
    }
    recording.assert_clean_success();
    println!("  {} seen, {} lost", recording.calls.len(), recording.lost);
    assert!(recording.lost >= 5000 - 4096 - 1);
    assert_eq!(u64::try_from(recording.calls.len()).expect("a count") + recording.lost, 10_000);
}

/// Compiles a C program that passes for an interpreter; `None` without a compiler.
fn compile(program: &str) -> Option<tempfile::TempPath> {
    let source = tempfile::Builder::new().suffix(".c").tempfile().expect("a temporary file");
    std::fs::write(source.path(), program).expect("the file can be written");
    let binary = tempfile::NamedTempFile::new().expect("a temporary file").into_temp_path();
    let compiler = Command::new("cc").args(["-O1", "-rdynamic", "-o"]).arg(&binary).arg(source.path()).status();
    compiler.is_ok_and(|status| status.success()).then_some(binary)
}
