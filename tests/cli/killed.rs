//! When gilscope is killed outright, the program finishes as if nothing had happened and nothing stays in the kernel.

use std::{fs::File, thread::sleep, time::Duration};

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

/// Seconds after which a first report has been left to the heir.
const LONG_ENOUGH: Duration = Duration::from_millis(1800);

#[test]
fn what_a_killed_gilscope_had_recorded_is_reported() {
    for backend in backends() {
        let place = Place::new();
        let mut gilscope = place.gilscope(&format!("run -q --backend {backend} -o p.svg --json p.json until.py go"));
        let gilscope =
            gilscope.stdout(File::create(place.path("out")).unwrap()).stderr(File::create(place.path("said")).unwrap());
        let mut gilscope = gilscope.spawn().unwrap();
        wait_for("the program", || place.read("out").contains("ready"));
        sleep(LONG_ENOUGH);
        kill("KILL", gilscope.id());
        gilscope.wait().unwrap();
        wait_for("the heir", || place.path("said").metadata().unwrap().len() > 0);
        place.go();
        place.assert_nothing_left(gilscope.id());
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
