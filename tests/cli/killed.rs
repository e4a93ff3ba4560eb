//! When gilscope is killed outright, the program finishes as if nothing had happened and nothing stays in the kernel.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    live::{interpreters::usual, running::Running},
    place::{Place, SPIN, backends, has_uprobes, kill, wait_for},
};

/// The shell writes down how the program ended, since gilscope is no longer there to tell.
const WITNESS: &str = "python3 spin.py 1.5 5 >out; echo $? >code.new; mv code.new code";

#[test]
fn a_launched_program_outlives_a_killed_gilscope() {
    for backend in backends() {
        let place = Place::new();
        // A program that uprobes can follow must become the interpreter itself.
        let words = format!("run -q --backend {backend} -o p.json spin.py 1.5 5");
        let mut gilscope = place.gilscope(&words);
        let out = fs::File::create(place.path("out")).unwrap();
        let mut gilscope = gilscope.stdout(out).spawn().unwrap();
        wait_for("the program", || place.read("out").contains("ready"));
        thread::sleep(Duration::from_millis(200));
        kill("KILL", gilscope.id());
        gilscope.wait().unwrap();
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
    wait_for("the program's end", || place.path("code").exists());
    assert_eq!((place.read("out"), place.read("code")), ("ready\ndone\n".to_owned(), "5\n".to_owned()));
    place.assert_nothing_left(gilscope.id());
}

#[test]
fn a_program_outlives_a_killed_gilscope_that_was_attached() {
    if !has_uprobes() {
        return;
    }
    let place = Place::new();
    let mut command: Command = usual().command();
    command.args(["-c", SPIN, "4", "5"]);
    let mut running = Running::start(command);
    assert_eq!(running.line(), "ready");
    let mut gilscope = place.gilscope(&format!("attach -q -o p.json {}", running.pid())).spawn().unwrap();
    let group = format!("gilscope_{}/", gilscope.id());
    let listed = || fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap().contains(&group);
    wait_for("the probes", listed);
    kill("KILL", gilscope.id());
    gilscope.wait().unwrap();
    let killed = Instant::now();
    place.assert_nothing_left(gilscope.id());
    assert!(killed.elapsed() < Duration::from_secs(3) || running.child.try_wait().unwrap().is_some());
    assert_eq!(running.line(), "done");
    assert_eq!(running.child.wait().unwrap().code(), Some(5));
}
