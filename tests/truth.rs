//! Profiles of real interpreters against ground truth: one C function, bound so that it holds the GIL and so that it
//! releases it, measures itself; every state of every thread must come out within one hundredth of the thread's life.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says what it skips")]

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

#[path = "support/interpreters.rs"]
mod interpreters;

use interpreters::{Interpreter, interpreters};

/// How far a state may be off, as a share of the thread's lifetime.
const TOLERANCE: f64 = 0.01;

struct Twins {
    folder: tempfile::TempDir,
    library: PathBuf,
    script: PathBuf,
}

impl Twins {
    fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/twins");
        let library = folder.path().join("libtwin.so");
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(fixtures.join("twin.c"));
        assert!(gcc.status().unwrap().success());
        Self { folder, library, script: fixtures.join("twins.py") }
    }

    /// The words that run the twins in `interpreter`.
    fn words(&self, interpreter: &Interpreter, threads: u32, rounds: u32) -> Vec<OsString> {
        let mut words = interpreter.words.clone();
        words.push(interpreter.give(self.folder.path(), &self.script).into());
        words.push(interpreter.give(self.folder.path(), &self.library).into());
        words.extend([threads, rounds].map(|number| number.to_string().into()));
        words
    }

    /// Starts the twins, attaches before they begin to work, and returns the profile and the truth.
    fn profile_attached(&self, interpreter: &Interpreter, (threads, rounds): (u32, u32)) -> (Value, Value) {
        let json = self.folder.path().join("profile.json");
        let words = self.words(interpreter, threads, rounds);
        let mut twins = Command::new(&words[0]);
        let mut twins =
            twins.args(&words[1..]).arg("--wait").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(twins.stdout.take().unwrap());
        let mut ready = String::new();
        output.read_line(&mut ready).unwrap();
        let pid = ready.trim().strip_prefix("ready ").expect("the twins announce themselves").to_owned();
        let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
        let mut gilscope = gilscope.args(["attach", "-q", "-o"]).arg(&json).arg(pid).spawn().unwrap();
        await_probes(gilscope.id());
        twins.stdin.take().unwrap().write_all(b"\n").unwrap();
        let mut truth = String::new();
        output.read_line(&mut truth).unwrap();
        assert!(twins.wait().unwrap().success());
        assert!(gilscope.wait().unwrap().success());
        (serde_json::from_slice(&fs::read(&json).unwrap()).unwrap(), serde_json::from_str(truth.trim()).unwrap())
    }

    /// Profiles the twins and returns the profile and the truth.
    fn profile(&self, interpreter: &Interpreter, backend: &str, (threads, rounds): (u32, u32)) -> (Value, Value) {
        let json = self.folder.path().join("profile.json");
        let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
        gilscope.args(["run", "-q", "--backend", backend, "-o"]).arg(&json).arg("--");
        let output = gilscope.args(self.words(interpreter, threads, rounds)).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{} with {backend}: {errors}", interpreter.name);
        let truth = String::from_utf8(output.stdout).unwrap();
        let profile = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
        (profile, serde_json::from_str(truth.trim()).unwrap())
    }
}

#[test]
fn every_state_is_within_a_hundredth_of_the_truth() {
    let twins = Twins::build();
    for interpreter in interpreters() {
        for backend in backends() {
            for size in [(2, 12), (8, 4)] {
                let (profile, truth) = twins.profile(&interpreter, backend, size);
                let case = format!("{} with {backend}, {} threads", interpreter.name, size.0);
                assert_sound(&profile, &case);
                for thread in truth.as_array().unwrap() {
                    compare(&profile, thread, &case);
                }
            }
        }
    }
}

/// Attaching in mid-flight: the threads are born under observation, the process is not.
#[test]
fn attaching_is_as_exact_as_launching() {
    if !backends().contains(&"uprobe") {
        return;
    }
    let twins = Twins::build();
    for interpreter in interpreters() {
        let (profile, truth) = twins.profile_attached(&interpreter, (4, 6));
        let case = format!("attached to {}", interpreter.name);
        assert_sound(&profile, &case);
        for thread in truth.as_array().unwrap() {
            compare(&profile, thread, &case);
        }
    }
}

fn backends() -> Vec<&'static str> {
    let root = fs::metadata("/sys/kernel/tracing/uprobe_events").is_ok() && is_root();
    if !root {
        println!("skipped: backend uprobe (needs root and tracefs)");
    }
    ["preload", "uprobe"].into_iter().filter(|backend| root || *backend == "preload").collect()
}

/// Waits until gilscope has armed its probes, be it by a link of programs or in tracefs, and looked at the threads.
fn await_probes(pid: u32) {
    let group = format!("gilscope_{pid}");
    let defined =
        || fs::read_to_string("/sys/kernel/tracing/uprobe_events").is_ok_and(|events| events.contains(&group));
    let linked = || {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| target.to_string_lossy().contains("bpf_link"))
    };
    for _ in 0..1000 {
        if linked() || defined() {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    sleep(Duration::from_millis(500));
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

fn assert_sound(profile: &Value, case: &str) {
    assert_eq!(profile["quality"]["invariants_broken"], Value::Array(Vec::new()), "{case}");
    assert_eq!(profile["quality"]["lost_events"], 0, "{case}");
    assert_eq!(profile["exact"], true, "{case}");
}

/// The calls' own measures against the thread's states. What lies between the calls is waiting, except that there, too, a
/// thread may be preempted while it still owns the lock or no longer does: `between.delay` says how much at the most, which
/// is next to nothing on a machine with a CPU to spare.
fn compare(profile: &Value, truth: &Value, case: &str) {
    let thread = thread(profile, &truth["tid"]).unwrap_or_else(|| panic!("{case}: no thread {}", truth["tid"]));
    let state = |name: &str| thread["states_ns"][name].as_f64().unwrap();
    let measure = |kind: &str, field: &str| truth[kind][field].as_f64().unwrap();
    let blocked = |kind| measure(kind, "wall") - measure(kind, "cpu") - measure(kind, "delay");
    let lifetime = thread["lifetime_ns"].as_f64().unwrap();
    let waiting = lifetime - measure("held", "wall") - measure("released", "wall");
    let between = measure("between", "delay");
    let expected = [
        ("held_running", state("held_running"), measure("held", "cpu"), 0.0..=0.0),
        ("held_preempted", state("held_preempted"), measure("held", "delay"), 0.0..=between),
        ("held_blocked", state("held_blocked"), blocked("held"), 0.0..=0.0),
        ("waiting", state("wait_queued") + state("wait_handoff"), waiting, -between..=0.0),
        ("outside_running", state("outside_running"), measure("released", "cpu"), 0.0..=0.0),
        ("outside_preempted", state("outside_preempted"), measure("released", "delay"), 0.0..=between),
        ("outside_blocked", state("outside_blocked"), blocked("released"), 0.0..=0.0),
    ];
    for (name, found, expected, extra) in expected {
        let (least, most) = (expected + extra.start(), expected + extra.end());
        let off = (found - found.clamp(least, most.max(least))) / lifetime;
        let percent = off * 100.0;
        assert!(off.abs() < TOLERANCE, "{case}: {name} is {found}, not {least} to {most}: {percent:.2} % of the life");
    }
}

fn thread<'a>(profile: &'a Value, tid: &Value) -> Option<&'a Value> {
    profile["threads"].as_array()?.iter().find(|thread| thread["tid"] == *tid)
}
