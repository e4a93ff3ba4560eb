//! Events counted at lock events against what the program knows: threads that make known numbers of system calls with the GIL and
//! without it, and wander between CPUs meanwhile. Whichever way the counters are read, not one call is in the wrong class.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use gilscope::perf::events::{CountedEvent, missing};
use serde_json::Value;

#[path = "support/live.rs"]
mod live;

use live::{
    attached::attached_with, interpreters::usual, libraries::built, outcome, privilege::may_use_uprobes,
    stolen::with_stolen,
};

const CALLS: &str = "syscalls:sys_enter_getppid";
const COUNTERS: &str = "task-clock,context-switches,syscalls:sys_enter_getppid,cpu-clock";
const CLASSES: [&str; 4] = ["inside", "waiting", "outside", "unknown"];
/// What the kernel does at a switch for the counters themselves is on one clock and not on the other.
const PER_SWITCH: f64 = 6_000.0;

/// How gilscope meets the program.
#[derive(Debug, Clone, Copy)]
enum Way {
    Launch(&'static str),
    Attach(&'static str),
}

#[test]
fn hits_of_probes_in_tracefs_bring_their_counters() {
    judge(Way::Launch("uprobe-tracefs"));
    judge(Way::Attach("uprobe-tracefs"));
}

#[test]
fn writes_to_watched_words_bring_their_counters() {
    judge(Way::Launch("watchpoint"));
    judge(Way::Attach("watchpoint"));
}

#[test]
fn programs_in_the_kernel_read_the_counters_themselves() {
    judge(Way::Launch("uprobe-bpf"));
    judge(Way::Attach("uprobe-bpf"));
}

/// Where there is a processor that counts. A thread does little else than what it says, and 1 % covers that.
#[test]
fn instructions_are_those_of_a_counted_loop() {
    if let Err(why) = CountedEvent::named("instructions:u").unwrap().tried() {
        return outcome::skipped(&format!("counting instructions: {}", missing(&why)));
    }
    let (stage, backends) = (Stage::new(), ["preload", "uprobe-bpf", "uprobe-tracefs", "watchpoint"]);
    for backend in backends.into_iter().filter(|backend| !backend.starts_with("uprobe") || may_use_uprobes()) {
        let (profile, said) = stage.launch_counting(backend, "none", (&["--spin"], "cycles:u,instructions:u"));
        for (thread, said) in threads(&profile, &said) {
            for class in ["inside", "outside"] {
                let (counted, made) = (&thread["counters"][class]["instructions:u"], said[class].as_f64().unwrap());
                println!("{backend}: {class} {counted} of {made}");
                assert!(
                    (counted.as_f64().unwrap() / made - 1.0).abs() < 0.01,
                    "{backend}: {class} {counted} of {made}"
                );
            }
        }
    }
}

/// Lock events are taken in windows, and so are the classes known; but all that is counted is counted, and what is in a class belongs there.
#[test]
fn in_windows_nothing_is_lost_between_them() {
    if !may_count() {
        return;
    }
    let stage = Stage::new();
    for backend in ["uprobe-bpf", "uprobe-tracefs", "watchpoint"] {
        let (profile, said) = stage.launch(backend, "3%", &["--often"]);
        assert_eq!(profile["exact"], false, "{backend}: no window has ended");
        let (mut all, mut all_known) = ((0, 0), 0);
        for (thread, said) in threads(&profile, &said) {
            let counted = CLASSES.map(|class| thread["counters"][class][CALLS].as_u64().unwrap());
            let [made_inside, made_outside] = ["inside", "outside"].map(|class| said[class].as_u64().unwrap());
            let (made, total) = (made_inside + made_outside, counted.iter().sum::<u64>());
            println!("{backend}: {counted:?} are {total} of {made}");
            let [inside, waiting, outside, _] = counted;
            let known = inside + outside;
            all_known += known;
            let allowed = known / 100 + 200;
            assert!(
                waiting <= allowed && outside.abs_diff(known * made_outside / made) <= allowed,
                "{backend}: {counted:?} of {made_inside} and {made_outside}"
            );
            all.0 += total;
            all.1 += made;
        }
        // Watchpoints are so dear that their windows may show next to nothing.
        assert!(backend == "watchpoint" || all_known * 500 > all.1, "{backend}: {all_known} of {all:?} in a class");
        println!("{backend}: {} of {}", all.0, all.1);
        assert!(all.0.abs_diff(all.1) * 1000 <= all.1, "{backend}: {all:?}");
    }
}

fn may_count() -> bool {
    may_use_uprobes() && {
        let there = Path::new("/sys/kernel/tracing/events/syscalls/sys_enter_getppid/id").exists();
        if !there {
            outcome::skipped("counting system calls: this kernel has no tracepoints at them");
        }
        there
    }
}

fn judge(way: Way) {
    if !may_count() {
        return;
    }
    let stage = Stage::new();
    let ((profile, said, perf), stolen) = with_stolen(|| match way {
        Way::Launch(backend) => {
            let (profile, said) = stage.launch(backend, "none", &[]);
            (profile, said, None)
        }
        Way::Attach(backend) => stage.attach(backend),
    });
    assert_eq!(profile["quality"]["lost_events"], 0, "{way:?}");
    let mut all = 0;
    for (thread, said) in threads(&profile, &said) {
        let counted = CLASSES.map(|class| thread["counters"][class][CALLS].as_u64().unwrap());
        let made = ["inside", "outside"].map(|class| said[class].as_u64().unwrap());
        println!("{way:?}: {counted:?} of {made:?}");
        assert_eq!(counted, [made[0], 0, made[1], 0], "{way:?}");
        all += made[0] + made[1];
        same_time(thread, &format!("{way:?}"), stolen);
    }
    if let Some(perf) = perf {
        let total: u64 = sum(&profile, CALLS);
        println!("{way:?}: all {total}, perf has {perf}");
        assert_eq!((total, total), (perf, all), "{way:?}");
    }
}

/// The kernel's clock beside the time between switches.
fn same_time(thread: &Value, what: &str, stolen: Duration) {
    let of = |counter: &str| CLASSES.map(|class| thread["counters"][class][counter].as_f64().unwrap()).iter().sum();
    let (clock, time, switches): (f64, f64, f64) = (of("cpu-clock"), of("task-clock"), of("context-switches"));
    println!("{what}: cpu-clock {clock}, task-clock {time}, {switches} switches");
    let slack = time * 0.01 + switches * PER_SWITCH + stolen.as_secs_f64() * 1e9;
    assert!((clock - time).abs() <= slack, "{what}: {clock} {time} {switches}");
}

/// Each thread of the profile with what it has said of itself.
fn threads<'a>(profile: &'a Value, said: &'a Value) -> impl Iterator<Item = (&'a Value, &'a Value)> {
    let all = profile["threads"].as_array().unwrap();
    said.as_array().unwrap().iter().map(|said| {
        let own = |thread: &&Value| thread["tid"] == said["tid"] || thread["inner_tid"] == said["tid"];
        (all.iter().find(own).unwrap(), said)
    })
}

/// Of all threads.
fn sum(profile: &Value, counter: &str) -> u64 {
    let threads = profile["threads"].as_array().unwrap().iter();
    threads.flat_map(|thread| CLASSES.map(|class| thread["counters"][class][counter].as_u64().unwrap())).sum()
}

/// What is needed for runs.
struct Stage {
    folder: tempfile::TempDir,
    files: [PathBuf; 2],
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/measured");
        let library = built("measured/calls.c", folder.path(), "libcalls.so");
        Self { folder, files: [fixtures.join("calls.py"), library] }
    }

    fn report(&self) -> PathBuf {
        self.folder.path().join("profile.json")
    }

    fn read(&self, said: &str) -> (Value, Value) {
        let profile = serde_json::from_slice(&fs::read(self.report()).unwrap()).unwrap();
        (profile, serde_json::from_str(said.trim()).unwrap())
    }

    fn launch(&self, backend: &str, budget: &str, words: &[&str]) -> (Value, Value) {
        self.launch_counting(backend, budget, (words, COUNTERS))
    }

    fn launch_counting(&self, backend: &str, budget: &str, (words, counters): (&[&str], &str)) -> (Value, Value) {
        let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
        gilscope.args(["run", "-q", "--max-overhead", budget, "--backend", backend, "--counters", counters, "-o"]);
        gilscope.arg(self.report()).arg("--").arg(usual().command().get_program());
        let output = gilscope.args(&self.files).args(words).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.read(&String::from_utf8(output.stdout).unwrap())
    }

    /// The third is what `perf` has counted at the same time.
    fn attach(&self, backend: &str) -> (Value, Value, Option<u64>) {
        let mut program = usual().command();
        let mut program = program.args(&self.files).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It must have begun before it can be found.
        sleep(Duration::from_millis(500));
        let mut gilscope = attached_with(program.id(), &self.report(), &["--backend", backend, "--counters", COUNTERS]);
        let (told, mut perf) = self.perf(program.id());
        let mut input = program.stdin.take().unwrap();
        writeln!(input).unwrap();
        let mut said = Vec::new();
        let mut output = program.stdout.take().unwrap();
        let mut byte = [0];
        while output.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            said.push(byte[0]);
        }
        drop(input);
        assert!(program.wait().unwrap().success() && gilscope.wait().unwrap().success());
        perf.iter_mut().for_each(|perf| assert!(perf.wait().unwrap().success()));
        let (profile, said) = self.read(&String::from_utf8(said).unwrap());
        (profile, said, perf.map(|_| first_number(&fs::read_to_string(told).unwrap())))
    }

    fn perf(&self, pid: u32) -> (PathBuf, Option<Child>) {
        let told = self.folder.path().join("perf.csv");
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x,", "-e", CALLS, "-o"]).arg(&told).args(["-p", &pid.to_string()]);
        let perf = perf.spawn().inspect_err(|why| outcome::skipped(&format!("comparing with perf: {why}"))).ok();
        // It says nothing when it has begun.
        sleep(Duration::from_millis(if perf.is_some() { 700 } else { 0 }));
        (told, perf)
    }
}

fn first_number(text: &str) -> u64 {
    let line = text.lines().find(|line| line.contains(CALLS)).unwrap();
    line.split(',').next().unwrap().parse().unwrap()
}
