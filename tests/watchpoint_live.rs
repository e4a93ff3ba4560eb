//! Hardware watchpoints on the locks of real interpreters: every acquisition is counted, whoever has the debug registers is
//! told, and nothing stays when gilscope is killed.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

#[path = "support/live.rs"]
mod live;

use std::{
    fs,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use gilscope::source::watchpoint::{cost::measure_cost, error::WatchpointError};
use perf_event::{Builder, Counter, events::Breakpoint};
use serde_json::Value;

use live::{
    attached::attached_with,
    interpreters::{Interpreter, interpreters, pyenv, usual},
    outcome::skipped,
    running::Running,
};

const WATCHPOINT: [&str; 2] = ["--backend", "watchpoint"];
/// Debug registers of a processor.
const REGISTERS: usize = 4;

/// Gives the lock away, and takes it back, once a round.
const ROUNDS: &str = "
import sys, threading, time
print('ready', flush=True)
rounds = int(sys.stdin.readline())
for _ in range(rounds): time.sleep(0)
print('done', flush=True)
sys.stdin.readline()
";

/// The same from many threads, all of which exist only while they are watched.
const CROWD: &str = "
import sys, threading, time
def work(rounds):
    for _ in range(rounds): time.sleep(0)
print('ready', flush=True)
rounds = int(sys.stdin.readline())
threads = [threading.Thread(target=work, args=(rounds,), name='worker') for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print('done', flush=True)
sys.stdin.readline()
";

/// Three interpreters with locks of their own, each of which works for a while, and two of them at a time.
const INTERPRETERS: &str = "
import sys, threading, time, _xxsubinterpreters as interpreters
print('ready', flush=True)
sys.stdin.readline()
def work(made):
    interpreters.run_string(made, 'import time\\nfor _ in range(300): time.sleep(0.001)')
others = [interpreters.create(isolated=True) for _ in range(2)]
threads = [threading.Thread(target=work, args=(made,)) for made in others]
for thread in threads: thread.start()
for thread in threads: thread.join()
print('done', flush=True)
sys.stdin.readline()
";

/// Whether this machine has watchpoints that we may use; says so when not.
fn may_watch() -> bool {
    match measure_cost(&[]) {
        Ok(cost) => {
            println!("a write to a watched word costs {cost}");
            true
        }
        Err(why @ (WatchpointError::Perf(_) | WatchpointError::Silent | WatchpointError::OtherProcessor)) => {
            skipped(&format!("watchpoints: {why}"));
            false
        }
        Err(why) => panic!("{why}"),
    }
}

/// Attaches to `program` before its work and stops after it.
fn recorded(interpreter: &Interpreter, program: &str, rounds: u32) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("profile.json");
    let mut running = interpreter.start_script(program);
    assert_eq!(running.line(), "ready");
    until_asleep(running.child.id());
    let mut gilscope = attached_with(running.child.id(), &json, &WATCHPOINT);
    running.say(&rounds.to_string());
    assert_eq!(running.line(), "done");
    until_asleep(running.child.id());
    interrupt(gilscope.id());
    assert!(gilscope.wait().unwrap().success());
    running.go();
    let profile: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let quality = &profile["quality"];
    let case = format!("{}: {quality}", interpreter.name);
    assert_eq!(quality["invariants_broken"], Value::Array(Vec::new()), "{case}");
    assert_eq!((&quality["lost_events"], &quality["unmatched_events"]), (&0.into(), &0.into()), "{case}");
    assert_eq!(profile["backend"], "watchpoint");
    profile
}

/// Returns when the program waits for its next line.
fn until_asleep(pid: u32) {
    let is_asleep = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") S ");
    let start = Instant::now();
    while !is_asleep() {
        assert!(start.elapsed() < Duration::from_secs(30), "process {pid} does not wait for input");
        sleep(Duration::from_millis(1));
    }
}

fn interrupt(pid: u32) {
    assert!(Command::new("bash").args(["-c", &format!("kill -INT {pid}")]).status().unwrap().success());
}

fn holds(of: &Value) -> u64 {
    of["holds"].as_u64().unwrap()
}

#[test]
fn every_acquisition_is_counted() {
    if !may_watch() {
        return;
    }
    for interpreter in interpreters() {
        let [few, many] = [100, 600].map(|rounds| holds(&recorded(&interpreter, ROUNDS, rounds)["locks"][0]));
        println!("{}: {few} and {many} holds", interpreter.name);
        assert_eq!(many - few, 500, "{}", interpreter.name);
    }
}

#[test]
fn threads_born_later_are_watched_from_their_first_step() {
    if !may_watch() {
        return;
    }
    let interpreter = usual();
    let [few, many] = [100, 300].map(|rounds| {
        let profile = recorded(&interpreter, CROWD, rounds);
        let threads = profile["threads"].as_array().unwrap().iter();
        threads.filter(|thread| holds(thread) >= u64::from(rounds)).map(holds).collect::<Vec<_>>()
    });
    println!("{few:?} and {many:?} holds");
    assert_eq!((few.len(), many.len()), (8, 8));
    // The way in and out is the same for all threads, except that a thread that is late finds things done already.
    let least = |holds: &[u64], rounds| holds.iter().all(|holds| (rounds..rounds + 12).contains(holds));
    assert!(least(&few, 100) && least(&many, 300), "{few:?} and {many:?}");
}

#[test]
fn of_several_interpreters_two_are_watched_and_the_rest_is_told() {
    let Some(home) = pyenv("3.12").filter(|_| may_watch()) else { return };
    let words = vec![home.join("bin/python3").into()];
    let interpreter = Interpreter { name: "3.12".to_owned(), minor: 12, words, root: None };
    let profile = recorded(&interpreter, INTERPRETERS, 1);
    let locks = profile["locks"].as_array().unwrap();
    let named: Vec<(i64, u64)> =
        locks.iter().map(|lock| (lock["interpreter"].as_i64().unwrap(), holds(lock))).collect();
    println!("{named:?}, {}", profile["quality"]["notes"]);
    assert_eq!(named.len(), 2, "{named:?}");
    // A tenth of a second passes before a new lock is seen.
    assert!(named[1].1 > 100, "{named:?}");
    let notes = profile["quality"]["notes"].to_string();
    assert!(notes.contains("up to 1 more were not"), "{notes}");
}

/// Watchpoints of somebody else on a thread, until dropped.
fn taken(pid: u32, count: usize) -> Result<Vec<Counter>, std::io::Error> {
    let watch = |index| {
        Builder::new(Breakpoint::write(0x1000 + 8 * index as u64, 8)).observe_pid(pid.cast_signed()).any_cpu().build()
    };
    (0..count).map(watch).collect()
}

#[test]
fn a_debugger_that_has_the_registers_is_respected() {
    if !may_watch() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut running = usual().start(ROUNDS);
    assert_eq!(running.line(), "ready");
    for (others, watched) in [(1, Some(false)), (2, Some(true)), (3, None), (4, None)] {
        let held = taken(running.child.id(), others).unwrap();
        let (code, said, profile) = attach_briefly(&running, folder.path());
        println!("{others} registers in use: {code:?} {said}");
        let Some(partial) = watched else {
            assert_eq!(code, Some(1), "{said}");
            assert!(
                said.contains("cannot watch the lock's words: the processor's debug registers are in use"),
                "{said}"
            );
            assert!(said.contains("hint: remove the watchpoints"), "{said}");
            continue;
        };
        assert_eq!(code, Some(0), "{said}");
        let notes = profile.unwrap()["quality"]["notes"].to_string();
        assert_eq!(notes.contains("others have some of the processor's debug registers"), partial, "{notes}");
        assert_eq!(held.len(), others);
    }
}

fn attach_briefly(running: &Running, folder: &Path) -> (Option<i32>, String, Option<Value>) {
    let json = folder.join("brief.json");
    let _none_yet = fs::remove_file(&json);
    let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    gilscope.args(["attach", "-q", "-d", "50ms", "-o"]).arg(&json).args(WATCHPOINT).arg(running.pid().to_string());
    let output = gilscope.output().unwrap();
    let profile = fs::read(&json).ok().map(|bytes| serde_json::from_slice(&bytes).unwrap());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), profile)
}

#[test]
fn nothing_stays_when_gilscope_is_killed() {
    if !may_watch() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut running = usual().start(ROUNDS);
    assert_eq!(running.line(), "ready");
    let pid = running.child.id();
    let mut gilscope = attached_with(pid, &folder.path().join("profile.json"), &WATCHPOINT);
    assert!(taken(pid, REGISTERS).is_err(), "gilscope watches");
    gilscope.kill().unwrap();
    gilscope.wait().unwrap();
    taken(pid, REGISTERS).unwrap();
    running.say("10");
    assert_eq!(running.line(), "done");
    running.go();
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}
