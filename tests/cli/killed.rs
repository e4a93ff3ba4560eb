//! When gilscope is killed outright, the program finishes as if nothing had happened and nothing stays in the kernel.

use std::{fs, fs::File, os::unix::fs::FileExt, thread::sleep, time::Duration};

use crate::{
    live::{interpreters::usual, privilege::may_use_uprobes},
    place::{Place, backends, kill, probes_of, wait_for},
};

/// The shell writes down how the program ended, since gilscope is no longer there to tell.
const WITNESS: &str = "python3 until.py go 5 >out; echo $? >code.new; mv code.new code";

#[test]
fn a_launched_program_outlives_a_killed_gilscope() {
    for backend in backends() {
        let place = Place::new();
        let mut gilscope = place.gilscope(&format!("run -q --backend {backend} -o p.json until.py go"));
        let mut gilscope = gilscope.stdout(File::create(place.path("out")).unwrap()).spawn().unwrap();
        wait_for("the program", || place.read("out").contains("ready"));
        kill("KILL", gilscope.id());
        gilscope.wait().unwrap();
        place.go();
        place.assert_nothing_left(gilscope.id());
        assert_eq!(place.read("out"), "ready\ndone\n", "{backend}");
    }
}

#[test]
fn the_exit_code_of_such_a_program_is_its_own() {
    let place = Place::new();
    place.file("witness.sh", WITNESS);
    let mut gilscope = place.gilscope("run -q -o p.json -- bash witness.sh").spawn().unwrap();
    wait_for("the program", || place.path("out").exists() && place.read("out").contains("ready"));
    kill("KILL", gilscope.id());
    gilscope.wait().unwrap();
    place.go();
    wait_for("the program's end", || place.path("code").exists());
    assert_eq!((place.read("out"), place.read("code")), ("ready\ndone\n".to_owned(), "5\n".to_owned()));
    place.assert_nothing_left(gilscope.id());
}

#[test]
fn a_program_outlives_a_killed_gilscope_that_was_attached() {
    if !may_use_uprobes() {
        return;
    }
    let place = Place::new();
    let mut running = place.until_go(usual().command());
    let mut gilscope = place.attached(&running);
    assert!(!probes_of(gilscope.id()).is_empty());
    kill("KILL", gilscope.id());
    gilscope.wait().unwrap();
    // The probes go while the program still runs.
    wait_for("the end of the probes", || probes_of(gilscope.id()).is_empty());
    place.go();
    assert_eq!(running.line(), "done");
    assert_eq!(running.child.wait().unwrap().code(), Some(8));
    place.assert_nothing_left(gilscope.id());
}

/// A process that takes the lock all the time, and another one forked from it; each says its number.
const TWO: &str = "import os, sys, time
if os.fork() == 0: time.sleep(0.1)
print(os.getpid(), flush=True)
nowhere = os.open('/dev/null', os.O_WRONLY)
while not os.path.exists(sys.argv[1]):
    for _ in range(100): os.write(nowhere, b'x')
";

/// The word of the probe's memory that tells what is done with calls: 0 if nothing.
fn mode_of(pid: &str) -> u32 {
    const MODE: u64 = 16;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    // A forked process has its parent's memory beside its own.
    let ring = maps.lines().filter(|line| line.contains("gilscope-ring") || line.contains("gilscope-pool"));
    let starts =
        ring.filter(|line| line.contains("rw-s")).map(|line| u64::from_str_radix(line.split('-').next().unwrap(), 16));
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut word = [0; 4];
    starts
        .map(|start| {
            memory.read_exact_at(&mut word, start.unwrap() + MODE).unwrap();
            u32::from_ne_bytes(word)
        })
        .max()
        .unwrap()
}

#[test]
fn probes_fall_silent_when_gilscope_is_killed() {
    for words in
        ["run -q --backend preload", "run -q --backend preload -s", "run -q --backend preload --max-overhead 0.1%"]
    {
        let place = Place::new();
        place.file("two.py", TWO);
        let mut gilscope = place.gilscope(&format!("{words} -o p.json two.py go"));
        let mut gilscope = gilscope.stdout(File::create(place.path("out")).unwrap()).spawn().unwrap();
        wait_for("both processes", || place.read("out").lines().count() == 2);
        let pids: Vec<String> = place.read("out").lines().map(str::to_owned).collect();
        sleep(FIRST / 2);
        let before: Vec<u32> = pids.iter().map(|pid| mode_of(pid)).collect();
        assert!(before.contains(&1) || before.contains(&2), "{words}: {before:?}");
        kill("KILL", gilscope.id());
        gilscope.wait().unwrap();
        wait_for("the probes", || pids.iter().all(|pid| mode_of(pid) == 0));
        place.go();
        place.assert_nothing_left(gilscope.id());
    }
}

/// Before a first report is made for the heir.
const FIRST: Duration = Duration::from_millis(1000);

/// Bytes in the memory files that gilscope shares with its heir.
fn left_to_the_heir(gilscope: u32) -> u64 {
    let files = fs::read_dir(format!("/proc/{gilscope}/fd")).unwrap().filter_map(|file| Some(file.ok()?.path()));
    let shared =
        files.filter(|file| fs::read_link(file).is_ok_and(|name| name.to_string_lossy().contains("gilscope-heir")));
    shared.filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum()
}

/// Kills gilscope once it has left a report of the program that is `ready`, and returns when the heir has spoken and both have
/// ended without a trace. What is said goes to `said`.
fn kill_with_an_heir(place: &Place, words: &str, ready: impl Fn() -> bool) {
    let mut gilscope = place.gilscope(words);
    let gilscope =
        gilscope.stdout(File::create(place.path("out")).unwrap()).stderr(File::create(place.path("said")).unwrap());
    let mut gilscope = gilscope.spawn().unwrap();
    wait_for("the program", ready);
    sleep(FIRST);
    wait_for("a report for the heir", || left_to_the_heir(gilscope.id()) > 0);
    // From writing it to saying so.
    sleep(Duration::from_millis(100));
    kill("KILL", gilscope.id());
    gilscope.wait().unwrap();
    wait_for("the heir", || place.path("said").metadata().unwrap().len() > 0);
    place.go();
    place.assert_nothing_left(gilscope.id());
}

#[test]
fn what_a_killed_gilscope_had_recorded_is_reported() {
    for backend in backends() {
        let place = Place::new();
        let words = format!("run -q --backend {backend} -o p.svg --json p.json until.py go");
        kill_with_an_heir(&place, &words, || place.read("out").contains("ready"));
        let said = format!(
            "gilscope: the recorder was killed; the report as of its last seconds is in {}\n",
            place.path("p.svg").display()
        );
        assert_eq!(place.read("said"), said);
        assert!(place.read("p.svg").trim_end().ends_with("</svg>"));
        let profile: serde_json::Value = serde_json::from_str(&place.read("p.json")).unwrap();
        assert_eq!(profile["quality"]["invariants_broken"], serde_json::json!([]));
        let held = profile["locks"][0]["held_ns"].as_u64().unwrap();
        let window = profile["window_ns"].as_u64().unwrap();
        assert!(window > 800_000_000 && held > window / 2, "{backend}: held for {held} of {window}");
    }
}

#[test]
fn the_whole_family_is_reported() {
    let place = Place::new();
    place.file("two.py", TWO);
    kill_with_an_heir(&place, "run -q -s -o p.json two.py go", || place.read("out").lines().count() == 2);
    let document: serde_json::Value = serde_json::from_str(&place.read("p.json")).unwrap();
    let told = place.read("out");
    let told: Vec<&str> = told.lines().collect();
    let processes = document["processes"].as_array().unwrap();
    let child = processes.iter().find(|process| told.contains(&process["pid"].to_string().as_str()));
    for process in [&document, child.unwrap_or_else(|| panic!("no child: {document}"))] {
        let held = process["locks"][0]["held_ns"].as_u64().unwrap();
        assert!(held > 20_000_000, "held for {held}");
    }
}
