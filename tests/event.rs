//! Samples of an event against what a program did: pages touched and time spent with the GIL and without it, under every source.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

#[path = "support/live.rs"]
mod live;

use live::{
    interpreters::{Interpreter, interpreters, usual},
    libraries::built,
    observed::{STORM, attach, gilscope, gilscope_without_programs, launch},
    privilege::{may_use_uprobes, may_watch_threads},
    stolen::lasting_faults,
};

/// Touched by `fixtures/event/event.py` in all, in ten rounds.
const INSIDE: u64 = 5000;
const OUTSIDE: u64 = 3000;
/// What the interpreter itself may touch around the calls, and of the program's memory before it is looked at.
const STRAY: u64 = 12;
/// While the hypervisor gives CPUs to others, clocks go on that threads do not.
const ATTEMPTS: u32 = 5;

/// How gilscope meets the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Launch(&'static str),
    /// With this backend, but without programs in the kernel.
    WithoutPrograms(&'static str),
    Attach(&'static str),
}

struct Stage {
    folder: tempfile::TempDir,
    files: [PathBuf; 2],
}

#[test]
fn each_page_fault_is_where_it_was_made() {
    if !may_watch_threads("events") {
        return;
    }
    let stage = Stage::new();
    for interpreter in interpreters() {
        each_fault(&stage, Way::Launch("preload"), &interpreter);
    }
    let mut ways = vec![Way::WithoutPrograms("preload"), Way::Launch("watchpoint"), Way::Attach("watchpoint")];
    if may_use_uprobes() {
        ways.extend([Way::Launch("uprobe"), Way::Launch("uprobe-tracefs"), Way::Attach("uprobe")]);
    }
    ways.into_iter().for_each(|way| each_fault(&stage, way, &usual()));
}

fn each_fault(stage: &Stage, way: Way, interpreter: &Interpreter) {
    let profile = stage.run(way, interpreter, &["-e", "page-faults", "-c", "1"]);
    let [inside, outside] = touched(&profile);
    let event = &profile["event"];
    println!(
        "{} {way:?}: {inside} inside, {outside} outside, {} of {}",
        interpreter.name, event["sampled"], event["counted"]
    );
    assert_eq!(profile["quality"]["invariants_broken"].as_array().unwrap().len(), 0);
    assert_eq!((&event["sampled"], &event["samples"]), (&event["counted"], &event["counted"]));
    // The lock of a launched program is watched from some time after its start on.
    if way != Way::Launch("watchpoint") {
        assert_eq!(event["classes"]["unknown"], 0);
    }
    for (is, made) in [(inside, INSIDE), (outside, OUTSIDE)] {
        // The last of a batch may be looked at when its thread has gone on.
        let late = if read_late(&profile) { made / 5 } else { 0 };
        assert!((made - late..=made + STRAY).contains(&is), "{is} of {made}");
    }
    // Whatever stacks tell, classes tell more.
    let class = |name: &str| event["classes"][name].as_u64().unwrap();
    assert!(class("inside") >= INSIDE && (OUTSIDE..OUTSIDE + 600).contains(&class("outside")), "{}", event["classes"]);
}

#[test]
fn a_period_loses_less_than_one_of_each_kind() {
    if !may_watch_threads("events") {
        return;
    }
    let stage = Stage::new();
    for way in [Way::Launch("preload"), Way::WithoutPrograms("preload")] {
        let profile = stage.run(way, &usual(), &["-e", "minor-faults", "-c", "100"]);
        let event = &profile["event"];
        let [inside, outside] = ["inside", "outside"].map(|class| event["classes"][class].as_u64().unwrap());
        let (sampled, counted) = (event["sampled"].as_u64().unwrap(), event["counted"].as_u64().unwrap());
        println!("{way:?}: {inside} inside, {outside} outside; {sampled} of {counted}");
        // Two threads, each on as many CPUs as there are.
        let cpus = u64::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
        assert!(sampled <= counted && counted - sampled < 2 * cpus * 100, "{sampled} {counted}");
        assert!((OUTSIDE - 200..OUTSIDE + 600).contains(&outside) && inside >= INSIDE - 200);
        assert!(event["stacks"].as_array().unwrap().iter().all(|row| row["sampled"].as_u64().unwrap() % 100 == 0));
    }
}

/// Time on a CPU goes by samples as it goes by states.
#[test]
fn samples_of_time_divide_as_time_does() {
    if !may_watch_threads("events") {
        return;
    }
    let (stage, mut ways) = (Stage::new(), vec![Way::Launch("preload"), Way::WithoutPrograms("preload")]);
    if may_use_uprobes() {
        ways.push(Way::Launch("uprobe"));
    }
    for way in ways {
        let run = || stage.run(way, &usual(), &["-e", "task-clock", "-F", "4999"]);
        let judge = |profile: Value, stolen| misfit_of_time(way, &profile, stolen).into_iter().collect();
        let faults = lasting_faults(ATTEMPTS, run, judge);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}

fn misfit_of_time(way: Way, profile: &Value, stolen: f64) -> Option<String> {
    let event = &profile["event"];
    assert_eq!(
        (&event["name"], &event["unit"], &event["instead_of"]),
        (&"task-clock".into(), &"ns".into(), &Value::Null)
    );
    let sampled = |class: &str| event["classes"][class].as_f64().unwrap();
    let lived = |state: &str| {
        let threads = profile["threads"].as_array().unwrap().iter();
        threads.map(|thread| thread["states_ns"][state].as_f64().unwrap()).sum::<f64>()
    };
    let sampled = sampled("outside") / (sampled("inside") + sampled("outside"));
    let all = lived("held_running") + lived("outside_running");
    let lived = lived("outside_running") / all;
    let words = format!("{way:?}: {:.2} % of the samples outside, {:.2} % of the time", sampled * 100.0, lived * 100.0);
    println!("{words}");
    ((sampled - lived).abs() > 0.02 + stolen / all).then_some(words)
}

/// A tracepoint, at which no program for stacks can run; and what no machine has, for which time stands in.
#[test]
fn other_events_are_sampled_in_their_own_ways() {
    if !may_watch_threads("events") || !may_use_uprobes() {
        return;
    }
    let stage = Stage::new();
    let calls = stage.run(Way::Launch("preload"), &usual(), &["-e", "syscalls:sys_enter_munmap", "-c", "1"]);
    let [inside, outside] = touched(&calls);
    println!("munmap: {inside} inside, {outside} outside");
    assert_eq!([inside, outside].map(|calls| calls.min(10)), [10, 10], "each round unmaps its pages");
    let stood_in = stage.run(Way::Launch("preload"), &usual(), &["-e", "rffffffffffff"]);
    let event = &stood_in["event"];
    assert_eq!((&event["name"], &event["instead_of"]), (&"task-clock".into(), &"rffffffffffff".into()));
    assert!(event["why"].as_str().unwrap().len() > 10 && event["samples"].as_u64().unwrap() > 20, "{event}");
    assert!(stood_in["quality"]["notes"].to_string().contains("rffffffffffff cannot be sampled"));
}

/// Some 600,000 page faults of which each would be dear: the period is raised, and what it costs stays within the budget.
#[test]
fn a_storm_is_sampled_within_the_budget() {
    if !may_watch_threads("events") {
        return;
    }
    let stage = Stage::new();
    let report = stage.folder.path().join("profile.json");
    let mut gilscope = gilscope();
    gilscope.args(["run", "-q", "-e", "page-faults", "-c", "1", "--counters", "none", "-o"]).arg(&report).arg("--");
    let program = usual().command();
    let output = gilscope.arg(program.get_program()).args(program.get_args()).args(["-c", STORM]).output().unwrap();
    let kernel: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let profile: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let (sampled, notes) = (profile["event"]["sampled"].as_f64().unwrap(), profile["quality"]["notes"].to_string());
    let share = profile["quality"]["overhead"]["share"].as_f64().unwrap();
    println!("{sampled} in {} samples of {kernel}, at a cost of {share}: {notes}", profile["event"]["samples"]);
    assert!((sampled - kernel).abs() < kernel * 0.02 + 3000.0, "{sampled} {kernel}");
    assert!(notes.contains("more rarely than wanted") && share < 0.03, "{share}: {notes}");
}

/// Pages that the two functions touched, inside and outside.
fn touched(profile: &Value) -> [u64; 2] {
    let rows = profile["event"]["stacks"].as_array().unwrap();
    [("touch_inside", "inside"), ("touch_outside", "outside")].map(|(function, class)| {
        let own = |row: &&Value| {
            row["class"] == class && row["stack"].as_array().unwrap().last().unwrap()["function"] == function
        };
        rows.iter().filter(own).map(|row| row["sampled"].as_u64().unwrap()).sum()
    })
}

/// Whether stacks were read from outside, a moment after.
fn read_late(profile: &Value) -> bool {
    profile["quality"]["notes"].to_string().contains("were read from outside")
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/event");
        let library = built("counters/counters.c", folder.path(), "libcounters.so");
        Self { folder, files: [fixtures.join("event.py"), library] }
    }

    fn run(&self, way: Way, interpreter: &Interpreter, options: &[&str]) -> Value {
        let report = self.folder.path().join("profile.json");
        let mut program = interpreter.command();
        program.args(self.files.iter().map(|file| interpreter.give(self.folder.path(), file)));
        match way {
            Way::Launch(backend) => launch(gilscope(), (backend, options), &program, &report),
            Way::WithoutPrograms(backend) => launch(gilscope_without_programs(), (backend, options), &program, &report),
            Way::Attach(backend) => attach(&mut program, (backend, options), &report),
        };
        serde_json::from_slice(&fs::read(&report).unwrap()).unwrap()
    }
}
