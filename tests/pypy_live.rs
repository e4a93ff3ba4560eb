//! PyPy against what its threads note themselves: how long they wait, to the kernel's own count of their sleep; that a thread
//! alone never waits; and who holds the lock, within the intervals printed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/live.rs"]
mod live;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use live::{attached::attached_with, outcome, privilege::may_use_uprobes, running::Running};

/// Each thread prints: its number, what it did, how long by the clock, how long it ran and waited for a CPU by the kernel's
/// count, and how often it slept.
const SCRIPT: &str = "
import sys, threading, time
NAP = 0.003
lines = []
def spent():
    with open('/proc/thread-self/schedstat') as counts:
        ran, delayed, _ = counts.read().split()
    return int(ran), int(delayed)
def compute(until, naps):
    number = 0
    while time.monotonic_ns() < until:
        for each in range(1000000): number += each % 7
def nap(until, naps):
    while time.monotonic_ns() < until:
        time.sleep(NAP)
        naps.append(1)
def noted(work, until):
    naps, ran, begun = [], spent(), time.monotonic_ns()
    work(until, naps)
    elapsed, now = time.monotonic_ns() - begun, spent()
    lines.append((threading.get_native_id(), work.__name__, elapsed, now[0] - ran[0], now[1] - ran[1], len(naps)))
def crowd(works):
    until = time.monotonic_ns() + 1200000000
    threads = [threading.Thread(target=noted, args=(work, until)) for work in works]
    for each in threads: each.start()
    for each in threads: each.join()
def alone():
    for work in (compute, nap): noted(work, time.monotonic_ns() + 400000000)
if sys.argv[1] == 'crowd':
    print('ready', flush=True)
    sys.stdin.readline()
    crowd([compute, compute, compute, nap])
else:
    alone()
for line in lines: print(*line, flush=True)
";

/// What a thread says of itself; times in nanoseconds.
#[derive(Debug)]
struct Note {
    tid: i64,
    work: String,
    elapsed: i64,
    ran: i64,
    delayed: i64,
    naps: i64,
}

impl Note {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse().ok();
        let (tid, elapsed, ran, delayed, naps) = (number(0)?, number(2)?, number(3)?, number(4)?, number(5)?);
        Some(Self { tid, work: words[1].to_owned(), elapsed, ran, delayed, naps })
    }

    /// How long it can have waited, at the least and at the most: a thread that computes sleeps only while it waits, and one
    /// that naps does nothing in between that would take long.
    fn waited(&self) -> (i64, i64) {
        const TIMER: i64 = 200_000;
        let napped = self.naps * 3_000_000;
        let asleep = self.elapsed - self.ran - self.delayed - napped;
        if self.work == "compute" {
            (asleep, self.elapsed - self.ran * 85 / 100)
        } else {
            (asleep - self.naps * TIMER, self.elapsed - napped)
        }
    }
}

fn pypy() -> Option<PathBuf> {
    let named = env::var_os("GILSCOPE_TEST_PYPY").map(PathBuf::from);
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let found = named.or_else(|| folders.iter().map(|folder| folder.join("pypy3")).find(|path| path.exists()));
    match &found {
        Some(pypy) => outcome::used(&pypy.display().to_string()),
        None => outcome::skipped("PyPy is absent: no pypy3 in PATH, and GILSCOPE_TEST_PYPY is not set"),
    }
    found
}

fn script(folder: &Path) -> PathBuf {
    let script = folder.join("threads.py");
    fs::write(&script, SCRIPT).unwrap();
    script
}

fn number(of: &Value, name: &str) -> i64 {
    of[name].as_i64().unwrap_or_else(|| panic!("{name} in {of}"))
}

fn thread(profile: &Value, tid: i64) -> &Value {
    profile["threads"].as_array().unwrap().iter().find(|thread| thread["tid"] == tid).unwrap()
}

fn assert_sound(profile: &Value) {
    assert_eq!(profile["target"]["runtime"], "pypy");
    assert!(profile["target"]["runtime_version"].as_str().unwrap().starts_with("7."), "{}", profile["target"]);
    assert_eq!((&profile["exact"], &profile["exactness"]["holds"]), (&Value::Bool(false), &Value::from("sampled")));
    assert_eq!(profile["quality"]["invariants_broken"], Value::Array(Vec::new()));
    assert_eq!((number(&profile["quality"], "lost_events"), number(&profile["quality"], "unmatched_events")), (0, 0));
    assert_eq!((&profile["locks"][0]["holds"], &profile["long_holds"]), (&Value::Null, &Value::Null));
}

#[test]
fn threads_wait_as_long_as_the_kernel_counts() {
    let Some(pypy) = pypy() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(pypy);
    program.arg(script(folder.path())).arg("crowd");
    let mut program = Running::start(program);
    assert_eq!(program.line(), "ready");
    let report = folder.path().join("profile.json");
    let mut gilscope = attached_with(program.child.id(), &report, &[]);
    program.go();
    let notes: Vec<Note> = (0..4).filter_map(|_| Note::parse(&program.line())).collect();
    program.child.wait().unwrap();
    assert!(gilscope.wait().unwrap().success());
    let profile: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_sound(&profile);
    if !may_use_uprobes() {
        assert_eq!((&profile["exactness"]["waits"], &profile["locks"][0]["waits"]), (&"sampled".into(), &Value::Null));
        return;
    }
    assert_eq!(profile["exactness"]["waits"], "exact");
    assert_eq!(notes.len(), 4);
    let (mut busy, mut longest) = (0, 0);
    for note in &notes {
        let thread = thread(&profile, note.tid);
        let waited = number(&thread["classes_ns"], "waiting");
        let (least, most) = note.waited();
        println!("{}: waited {waited} in {} waits, by its own account {least} to {most}", note.work, thread["waits"]);
        let slack = note.elapsed / 50 + 2_000_000;
        assert!((least - slack..=most + slack).contains(&waited), "{note:?} {thread}");
        assert!(number(thread, "waits") >= 20 && thread["holds"].is_null(), "{thread}");
        if note.work == "compute" {
            (busy, longest) = (busy + note.elapsed - waited, longest.max(note.elapsed));
        } else {
            // What it does with the lock takes some microseconds each time.
            assert!(number(&thread["classes_ns"], "inside") < note.elapsed / 5, "{thread}");
        }
    }
    // Of three threads that compute one at a time does not wait.
    println!("not waiting {busy} of {longest}");
    assert!((longest * 80 / 100..=longest * 106 / 100).contains(&busy), "{busy} of {longest}");
    let held = &profile["estimates"]["locks"][0]["held_ns"];
    assert!(number(held, "high") >= busy * 95 / 100 && number(held, "low") <= number(held, "high"), "{held}");
}

#[test]
fn a_thread_alone_never_waits() {
    let Some(pypy) = pypy() else { return };
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("profile.json");
    let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    gilscope.args(["run", "-q", "-o"]).arg(&report).arg("--python").arg(pypy);
    let output = gilscope.arg(script(folder.path())).arg("alone").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let profile: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_sound(&profile);
    let text = String::from_utf8(output.stdout).unwrap();
    let notes: Vec<Note> = text.lines().filter_map(Note::parse).collect();
    let [compute, nap] = notes.as_slice() else { panic!("{text}") };
    let lock = &profile["locks"][0];
    let classes = &thread(&profile, compute.tid)["classes_ns"];
    println!(
        "held {} of {} computed, outside {} of {} napped",
        lock["held_ns"], compute.elapsed, classes["outside"], nap.elapsed
    );
    if may_use_uprobes() {
        assert_eq!((number(lock, "waits"), number(lock, "wait_total_ns")), (0, 0));
    }
    // It may have begun to compute before it was looked at, and its interpreter starts and ends inside.
    let [low, high] = ["low", "high"].map(|end| number(&profile["estimates"]["locks"][0]["held_ns"], end));
    let missed = (compute.elapsed + nap.elapsed - number(&profile, "window_ns")).max(0);
    assert!(high >= compute.elapsed * 95 / 100 - missed && low <= high, "{lock}");
    let outside = number(classes, "outside");
    let napped = nap.elapsed - (missed - compute.elapsed).max(0);
    assert!(outside >= napped * 85 / 100 && outside <= nap.elapsed * 115 / 100 + 20_000_000, "{classes}");
}

#[test]
fn other_backends_say_what_to_type() {
    let Some(pypy) = pypy() else { return };
    for backend in ["preload", "uprobe", "watchpoint"] {
        let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
        let output =
            gilscope.args(["run", "--backend", backend, "--"]).arg(&pypy).args(["-c", "pass"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("--backend poll"), "{said}");
    }
}

#[test]
fn the_doctor_tells_what_is_exact() {
    let Some(pypy) = pypy() else { return };
    let mut program = Command::new(pypy);
    program.args(["-c", "import time; print('ready', flush=True); time.sleep(60)"]);
    let mut program = Running::start(program);
    assert_eq!(program.line(), "ready");
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    let output = doctor.args(["doctor", "--json"]).arg(program.child.id().to_string()).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["target"]["runtime"], &found["auto"]["attach"]), (&"pypy".into(), &"poll".into()));
    assert_eq!(found["auto"]["run"], "poll");
    let known = if may_use_uprobes() { "waits exact, holds sampled" } else { "waits sampled" };
    assert!(found["remarks"].to_string().contains(known), "{}", found["remarks"]);
}
