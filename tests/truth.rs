//! Profiles of real interpreters against ground truth: one C function, bound so that it holds the GIL and so that it
//! releases it, measures itself; every state of every thread must come out within one hundredth of the thread's life.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use gilscope::source::watchpoint::cost::measure_cost;
use serde_json::Value;

#[path = "support/live.rs"]
mod live;

use live::{
    attached::attached_with,
    compare::{TOLERANCE, assert_sound, compare},
    interpreters::{Interpreter, interpreters, usual},
    libraries::built,
    outcome::skipped,
    privilege::may_use_uprobes,
    stolen::{lasting_faults, with_stolen},
};

const ATTEMPTS: u32 = 4;

struct Twins {
    folder: tempfile::TempDir,
    library: PathBuf,
    script: PathBuf,
}

impl Twins {
    fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/twins");
        let library = built("twins/twin.c", folder.path(), "libtwin.so");
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
    fn profile_attached(
        &self,
        interpreter: &Interpreter,
        options: &[&str],
        (threads, rounds): (u32, u32),
    ) -> (Value, Value) {
        let json = self.folder.path().join("profile.json");
        let words = self.words(interpreter, threads, rounds);
        let mut twins = Command::new(&words[0]);
        let mut twins =
            twins.args(&words[1..]).arg("--wait").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(twins.stdout.take().unwrap());
        let mut ready = String::new();
        output.read_line(&mut ready).unwrap();
        let pid = ready.trim().strip_prefix("ready ").expect("the twins announce themselves").to_owned();
        let mut gilscope = attached_with(pid.parse().unwrap(), &json, options);
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
        gilscope.args(["run", "-q", "--max-overhead", "none", "--backend", backend, "-o"]).arg(&json).arg("--");
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
                let case = format!("{} with {backend}, {} threads", interpreter.name, size.0);
                assert_true(&case, || twins.profile(&interpreter, backend, size));
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
        let case = format!("attached to {}", interpreter.name);
        assert_true(&case, || twins.profile_attached(&interpreter, &[], (4, 6)));
    }
}

/// One interpreter is enough: `tests/watchpoint_live.rs` counts events on all.
#[test]
fn watchpoints_are_as_exact() {
    if let Err(why) = measure_cost(&[]) {
        skipped(&format!("watchpoints: {why}"));
        return;
    }
    let (twins, interpreter) = (Twins::build(), usual());
    assert_true("launched, watchpoints", || twins.profile(&interpreter, "watchpoint", (2, 6)));
    let options = ["--backend", "watchpoint"];
    assert_true("attached, watchpoints", || twins.profile_attached(&interpreter, &options, (4, 6)));
}

/// Spins and sleeps, and says how much processor time it has used, holding the GIL all the while but for the sleeps.
const ALONE: &str = "
import time
end = time.thread_time() + 0.3
while time.thread_time() < end: pass
for _ in range(20): time.sleep(0.01)
print(time.process_time_ns())
";

#[test]
fn one_thread_alone_never_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (script, json) = (folder.path().join("alone.py"), folder.path().join("profile.json"));
    fs::write(&script, ALONE).unwrap();
    for interpreter in interpreters() {
        for backend in backends() {
            let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
            gilscope
                .args(["run", "-q", "--max-overhead", "none", "--backend", backend, "-o"])
                .arg(&json)
                .arg("--")
                .args(&interpreter.words);
            gilscope.arg(interpreter.give(folder.path(), &script));
            let (output, stolen) = with_stolen(|| gilscope.output().unwrap());
            let case = format!("{} with {backend}", interpreter.name);
            assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
            let used: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            assert_alone(
                &serde_json::from_slice(&fs::read(&json).unwrap()).unwrap(),
                (used, stolen.as_nanos() as f64),
                &case,
            );
        }
    }
}

/// The processor time that the thread has used before it takes the GIL first, and after it has lost it, is outside.
fn assert_alone(profile: &Value, (used, stolen): (f64, f64), case: &str) {
    assert_sound(profile, case);
    assert_eq!(profile["quality"]["unmatched_events"], 0, "{case}");
    let threads = profile["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 1, "{case}");
    let states = threads[0]["states_ns"].as_object().unwrap();
    let sum: u64 = states.values().map(|time| time.as_u64().unwrap()).sum();
    assert_eq!(threads[0]["lifetime_ns"], sum, "{case}");
    for lock in profile["locks"].as_array().unwrap() {
        let waits = ["waits", "forced_releases", "contended_ns", "handoff_ns"].map(|amount| &lock[amount]);
        assert!(waits.iter().all(|amount| **amount == 0), "{case}: {waits:?}");
    }
    let running = ["held_running", "outside_running"].map(|state| states[state].as_f64().unwrap());
    let lifetime = threads[0]["lifetime_ns"].as_f64().unwrap();
    let outside_alone = running[1] / lifetime;
    let off = (running[0] + running[1] - used) / lifetime;
    println!("{case}: running {:+.3} % of the life, outside {:.3} %", off * 100.0, outside_alone * 100.0);
    // Probes on another libc than the profiler's own come late. What remains after the script's last line: the interpreter's
    // end.
    let unknown = states["unknown"].as_f64().unwrap() / lifetime;
    let most = TOLERANCE + 0.05 + stolen / lifetime;
    assert!((-TOLERANCE - unknown..=most).contains(&off), "{case}: ran {running:?}, not {used}");
    assert!(running[0] > 300e6, "{case}: held while running {running:?}");
}

fn backends() -> Vec<&'static str> {
    let uprobe = may_use_uprobes();
    ["preload", "uprobe"].into_iter().filter(|backend| uprobe || *backend == "preload").collect()
}

/// Fails unless one of a few runs is within the tolerance. On a crowded machine the profiler itself waits for a CPU, and what
/// it then infers (how run-queue latency is shared among sleeps) can be off; but not again and again.
fn assert_true(case: &str, run: impl Fn() -> (Value, Value)) {
    let faults = lasting_faults(ATTEMPTS, run, |(profile, truth), stolen| {
        assert_sound(&profile, case);
        truth.as_array().unwrap().iter().flat_map(|thread| compare(&profile, thread, stolen)).collect()
    });
    assert!(faults.is_empty(), "{case}, {ATTEMPTS} times, last: {}", faults.join("; "));
}
