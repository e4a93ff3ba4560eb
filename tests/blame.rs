//! Blame against ground truth, under every source: functions that hold the GIL for known times while others wait, and each
//! followed by one that releases it and has done nothing else. Every culprit must be charged what it inflicted, and the
//! innocent nothing.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

#[path = "support/live.rs"]
mod live;

use live::{
    attached::attached,
    interpreters::{Interpreter, interpreters, usual},
    libraries::built,
    privilege::{may_use_uprobes, without_programs},
    stolen::lasting_faults,
};

/// How far a culprit's blame may be off, as a share of what it inflicted.
const TOLERANCE: f64 = 0.01;
/// What may be charged to the innocent, as a share of all that the culprits inflicted.
const SPILLED: f64 = 0.001;
const ATTEMPTS: u32 = 5;
const SCENES: [&str; 3] = ["one_thread", "queue", "hog"];

/// How gilscope meets the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Preload,
    Programs,
    Tracepoints,
    Attach,
}

/// One run's report and what the program says about itself.
struct Outcome {
    profile: Value,
    truth: Value,
}

/// What is needed for runs.
struct Stage {
    folder: tempfile::TempDir,
    files: [PathBuf; 2],
}

#[test]
fn each_culprit_is_charged_what_it_inflicted() {
    judge(Way::Preload, &interpreters());
}

#[test]
fn programs_in_the_kernel_charge_each_culprit() {
    if may_use_uprobes() {
        judge(Way::Programs, &interpreters());
    }
}

#[test]
fn other_ways_charge_each_culprit() {
    if may_use_uprobes() {
        judge(Way::Attach, &[usual()]);
        judge(Way::Tracepoints, &[usual()]);
    }
}

fn judge(way: Way, interpreters: &[Interpreter]) {
    let stage = Stage::new();
    let mut lasting = Vec::new();
    for interpreter in interpreters {
        for scene in SCENES {
            let name = format!("{} {way:?} {scene}", interpreter.name);
            let run = || stage.run(way, interpreter, scene);
            lasting.extend(lasting_faults(ATTEMPTS, run, |outcome, _stolen| outcome.faults(&name)));
        }
    }
    assert!(lasting.is_empty(), "{}", lasting.join("\n"));
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/culprits");
        let library = built("culprits/culprits.c", folder.path(), "libculprits.so");
        Self { folder, files: [fixtures.join("culprits.py"), library] }
    }

    fn run(&self, way: Way, interpreter: &Interpreter, scene: &str) -> Outcome {
        let report = self.folder.path().join("profile.json");
        let mut program = interpreter.command();
        program.args(self.files.iter().map(|file| interpreter.give(self.folder.path(), file))).arg(scene);
        let said = match way {
            Way::Preload => launch(&["--backend", "preload"], &program, &report),
            Way::Programs => launch(&["--backend", "uprobe"], &program, &report),
            Way::Tracepoints => {
                let mut gilscope = without_programs();
                gilscope.arg(env!("CARGO_BIN_EXE_gilscope"));
                launch_by(gilscope, &["--backend", "uprobe"], &program, &report)
            }
            Way::Attach => attach(&mut program, &report),
        };
        let truth = serde_json::from_str(said.trim()).unwrap();
        let profile: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        let notes = profile["quality"]["notes"].to_string();
        assert_eq!(notes.contains("without BPF"), way == Way::Tracepoints, "{way:?}: {notes}");
        Outcome { profile, truth }
    }
}

fn launch(options: &[&str], program: &Command, report: &Path) -> String {
    launch_by(Command::new(env!("CARGO_BIN_EXE_gilscope")), options, program, report)
}

fn launch_by(mut gilscope: Command, options: &[&str], program: &Command, report: &Path) -> String {
    gilscope.args(["run", "-q", "--max-overhead", "none", "-o"]).arg(report).args(options).arg("--");
    gilscope.arg(program.get_program()).args(program.get_args()).stdin(Stdio::null());
    let output = gilscope.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn attach(program: &mut Command, report: &Path) -> String {
    let mut program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut gilscope = attached_to_interpreter(program.id(), report);
    writeln!(program.stdin.take().unwrap()).unwrap();
    let mut said = String::new();
    program.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(program.wait().unwrap().success() && gilscope.wait().unwrap().success());
    said
}

/// The interpreter must have begun before it can be found.
fn attached_to_interpreter(pid: u32, report: &Path) -> std::process::Child {
    std::thread::sleep(std::time::Duration::from_millis(300));
    attached(pid, report)
}

impl Outcome {
    /// What is wrong in this run. On a crowded machine a reading may come late, but not again and again.
    fn faults(&self, name: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let broken = &self.profile["quality"]["invariants_broken"];
        if *broken != Value::Array(Vec::new()) {
            faults.push(format!("{name}: {broken}"));
        }
        let (blame, truth) = (self.blame_on_waiters(), self.inflicted());
        let charged = |function: &str| blame.get(function).copied().unwrap_or(0.0);
        for (culprit, inflicted) in &truth {
            let off = charged(culprit) / inflicted - 1.0;
            println!("{name}: {culprit} inflicted {inflicted:.0} ns, off by {:.2} %", off * 100.0);
            if off.abs() >= TOLERANCE {
                faults.push(format!("{name}: {culprit} is off by {off}"));
            }
        }
        let innocent = charged("innocent") / truth.values().sum::<f64>();
        if innocent >= SPILLED {
            faults.push(format!("{name}: {innocent} of all blame is on the innocent"));
        }
        faults
    }

    /// By the program's own clocks. Those of the hog include the moments in which the lock was nobody's.
    fn inflicted(&self) -> BTreeMap<String, f64> {
        let inflicted = self.truth["inflicted"].as_object().unwrap();
        let handed_over = if inflicted.contains_key("compute") { self.handed_over() } else { 0.0 };
        inflicted.iter().map(|(name, nanos)| (name.clone(), nanos.as_f64().unwrap() - handed_over)).collect()
    }

    fn handed_over(&self) -> f64 {
        let threads =
            self.profile["threads"].as_array().unwrap().iter().filter(|thread| self.is_waiter(&thread["tid"]));
        threads.map(|thread| thread["states_ns"]["wait_handoff"].as_f64().unwrap()).sum()
    }

    fn is_waiter(&self, tid: &Value) -> bool {
        self.truth["waiters"].as_array().unwrap().contains(tid)
    }

    /// What the waiters waited, in nanoseconds by the innermost function of whoever they waited for.
    fn blame_on_waiters(&self) -> BTreeMap<String, f64> {
        let mut blame = BTreeMap::new();
        for entry in self.profile["blame"].as_array().unwrap() {
            let innermost = entry["stack"].as_array().unwrap().iter().rfind(|frame| frame["kind"] != "kernel");
            if let (true, Some(frame)) = (self.is_waiter(&entry["waiter_tid"]), innermost) {
                let function = frame["function"].as_str().unwrap().to_owned();
                *blame.entry(function).or_default() += entry["wait_ns"].as_f64().unwrap();
            }
        }
        blame
    }
}
