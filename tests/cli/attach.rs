//! Attaching, and its ends.

use std::{process::Command, thread, time::Duration};

use serde_json::Value;

use crate::{
    live::{interpreters::usual, running::Running},
    place::{Place, SPIN, end_of, has_uprobes, kill},
};

fn spinning(seconds: &str) -> Running {
    let mut command: Command = usual().command();
    command.args(["-c", SPIN, seconds, "8"]);
    let mut running = Running::start(command);
    assert_eq!(running.line(), "ready");
    running
}

fn profile(place: &Place) -> Value {
    serde_json::from_str(&place.read("p.json")).unwrap()
}

#[test]
fn attaching_for_a_time_leaves_the_program_unharmed() {
    if !has_uprobes() {
        return;
    }
    let (place, mut running) = (Place::new(), spinning("2.5"));
    let ended = place.end(&format!("attach -d 0.5 -o p.json {}", running.pid()));
    ended.assert_code(0).assert_said("gilscope: wrote p.json");
    let mut names = Place::new().names();
    names.insert("p.json".to_owned());
    ended.assert_left(&place, &names);
    let profile = profile(&place);
    assert_eq!((&profile["window_ns"], &profile["backend"]), (&500_000_000.into(), &"uprobe".into()));
    assert!(profile["locks"][0]["contended_ns"].as_u64().unwrap() > 250_000_000, "{profile}");
    assert_eq!(running.line(), "done");
    assert_eq!(running.child.wait().unwrap().code(), Some(8));
}

#[test]
fn signals_end_the_recording_and_not_the_program() {
    if !has_uprobes() {
        return;
    }
    let (place, mut running) = (Place::new(), spinning("6"));
    for signal in ["INT", "TERM"] {
        let child = place.gilscope(&format!("attach -q -o p.json {}", running.pid())).spawn().unwrap();
        thread::sleep(Duration::from_millis(700));
        kill(signal, child.id());
        let ended = end_of(child);
        ended.assert_code(0);
        assert!(profile(&place)["window_ns"].as_u64().unwrap() > 50_000_000, "{signal}");
    }
    assert_eq!(running.line(), "done");
    assert_eq!(running.child.wait().unwrap().code(), Some(8));
}

#[test]
fn a_program_that_ends_meanwhile_is_reported() {
    if !has_uprobes() {
        return;
    }
    for end in ["by itself", "by a signal"] {
        let (place, mut running) = (Place::new(), spinning(if end == "by itself" { "1" } else { "30" }));
        let child = place.gilscope(&format!("attach -o p.json {}", running.pid())).spawn().unwrap();
        if end == "by a signal" {
            thread::sleep(Duration::from_secs(1));
            kill("KILL", child_of(&running));
        }
        running.child.wait().unwrap();
        let ended = end_of(child);
        ended.assert_code(0).assert_said("gilscope: wrote p.json");
        let profile = profile(&place);
        assert!(profile["window_ns"].as_u64().unwrap() < 2_500_000_000, "{end}: {profile}");
        assert_eq!(profile["quality"]["invariants_broken"], Value::Array(Vec::new()), "{end}");
    }
}

fn child_of(running: &Running) -> u32 {
    running.child.id()
}
