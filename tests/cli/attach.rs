//! Attaching, and its ends.

use std::{thread, time::Duration};

use serde_json::Value;

use crate::{
    live::interpreters::usual,
    place::{Place, end_of, has_uprobes, kill},
};

fn profile(place: &Place) -> Value {
    serde_json::from_str(&place.read("p.json")).unwrap()
}

#[test]
fn attaching_for_a_time_leaves_the_program_unharmed() {
    if !has_uprobes() {
        return;
    }
    let place = Place::new();
    let mut running = place.until_go(usual().command());
    let mut names = place.names();
    let ended = place.end(&format!("attach -d 0.5 -o p.json {}", running.pid()));
    ended.assert_code(0).assert_said("gilscope: wrote p.json");
    let profile = profile(&place);
    assert_eq!((&profile["window_ns"], &profile["backend"]), (&500_000_000.into(), &"uprobe".into()));
    assert!(profile["locks"][0]["contended_ns"].as_u64().unwrap() > 100_000_000, "{profile}");
    place.go();
    assert_eq!(running.line(), "done");
    assert_eq!(running.child.wait().unwrap().code(), Some(8));
    names.extend(["p.json", "go"].map(str::to_owned));
    ended.assert_left(&place, &names);
}

#[test]
fn signals_end_the_recording_and_not_the_program() {
    if !has_uprobes() {
        return;
    }
    let place = Place::new();
    let mut running = place.until_go(usual().command());
    for signal in ["INT", "TERM", "HUP"] {
        let child = place.attached(&running);
        thread::sleep(Duration::from_millis(100));
        kill(signal, child.id());
        end_of(child).assert_code(0);
        assert!(place.read("said").ends_with("gilscope: wrote p.json\n"), "{}", place.read("said"));
        assert!(profile(&place)["window_ns"].as_u64().unwrap() > 50_000_000, "{signal}");
    }
    place.go();
    assert_eq!(running.line(), "done");
    assert_eq!(running.child.wait().unwrap().code(), Some(8));
}

#[test]
fn a_program_that_ends_meanwhile_is_reported() {
    if !has_uprobes() {
        return;
    }
    for killed in [false, true] {
        let place = Place::new();
        let mut running = place.until_go(usual().command());
        let child = place.attached(&running);
        thread::sleep(Duration::from_millis(300));
        if killed {
            kill("KILL", running.child.id())
        } else {
            place.go()
        }
        running.child.wait().unwrap();
        end_of(child).assert_code(0);
        assert!(place.read("said").ends_with("gilscope: wrote p.json\n"), "{}", place.read("said"));
        let profile = profile(&place);
        assert!(profile["locks"][0]["holds"].as_u64().unwrap() > 0, "killed {killed}: {profile}");
        assert_eq!(profile["quality"]["invariants_broken"], Value::Array(Vec::new()), "killed {killed}");
    }
}
