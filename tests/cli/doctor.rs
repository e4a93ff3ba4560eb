//! `gilscope doctor`: what it prints, for whom, with which exit code, and that it leaves nothing.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    live::{interpreters::usual, privilege::is_root},
    place::{Ended, Place, end},
};

fn json(ended: &Ended) -> Value {
    assert_eq!(ended.said, "", "it speaks on standard output");
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {}", ended.out))
}

fn rung<'a>(found: &'a Value, name: &str) -> &'a Value {
    found["rungs"].as_array().unwrap().iter().find(|rung| rung["rung"] == name).unwrap()
}

/// Doors of all shut rungs.
fn doors(found: &Value) -> Vec<&str> {
    let rungs = found["rungs"].as_array().unwrap().iter();
    rungs.flat_map(|rung| rung["doors"].as_array().unwrap()).filter_map(|door| door["door"].as_str()).collect()
}

#[test]
fn every_rung_is_tried_and_nothing_is_left() {
    let place = Place::new();
    let before = place.names();
    let ended = end(&mut place.gilscope("doctor --json"));
    ended.assert_code(0).assert_left(&place, &before);
    let found = json(&ended);
    assert_eq!((&found["schema"], &found["target"]), (&"gilscope-doctor/1".into(), &Value::Null));
    for rung in found["rungs"].as_array().unwrap() {
        let explained = rung["error"].is_string() && rung["permission"].is_boolean();
        assert!(rung["works"] == true || explained, "{rung}");
    }
    let preload = rung(&found, "preload");
    assert!(preload["works"] == true && preload["cost_per_event_ns"].as_u64().unwrap() > 0, "{preload}");
    assert_eq!(found["auto"]["run"], "preload");
    if is_root() {
        assert!(rung(&found, "uprobe-bpf")["cost_per_event_ns"].as_u64().is_none_or(|cost| cost > 50), "{found}");
    }
}

#[test]
fn people_get_a_table_and_what_opens_the_rest() {
    let place = Place::new();
    let Some(mut gilscope) = place.plain_gilscope("doctor") else { return };
    let ended = end(&mut gilscope);
    ended.assert_code(0);
    for words in [
        "│ preload        │ yes   │",
        "│ uprobe-bpf     │ no    │",
        "  uprobe-bpf: CAP_BPF and CAP_PERFMON are missing\n      sudo gilscope …\n",
        "gilscope run    would take preload\n",
        "kernel.perf_event_paranoid ",
    ] {
        assert!(ended.out.contains(words), "{words:?} is not in\n{}", ended.out);
    }
}

#[test]
fn a_process_is_named_and_goes_on() {
    let place = Place::new();
    let running = place.until_go(usual().command());
    let ended = end(&mut place.gilscope(&format!("doctor --json {}", running.pid())));
    let found = json(&ended);
    assert_eq!((&found["target"]["runtime"], &found["target"]["problem"]), (&"cpython".into(), &Value::Null));
    assert_eq!(found["target"]["locks"], serde_json::json!(["GIL"]));
    if is_root() {
        ended.assert_code(0);
        assert!(found["auto"]["attach"].as_str().is_some(), "{found}");
    }
    place.go();
    let mut running = running;
    assert_eq!(running.line(), "done");
    assert_eq!(running.child.wait().unwrap().code(), Some(8));
}

#[test]
fn what_is_not_permitted_and_what_has_no_lock_end_with_codes_of_their_own() {
    let place = Place::new();
    let foreign = if is_root() { std::process::id() } else { 1 };
    if let Some(mut gilscope) = place.plain_gilscope(&format!("doctor --json {foreign}")) {
        let ended = end(&mut gilscope);
        let found = json(ended.assert_code(3));
        assert!(found["target"]["problem"].as_str().unwrap().contains("belongs to root"), "{found}");
        assert!(doors(&found).contains(&"other_user"), "{found}");
        assert_eq!(found["auto"]["attach"], Value::Null);
    }
    let mut sleeper = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    let ended = end(&mut place.gilscope(&format!("doctor {}", sleeper.id())));
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    ended.assert_code(1);
    assert!(ended.out.contains("is sleep, not a Python interpreter"), "{}", ended.out);
    let none = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    end(&mut place.gilscope(&format!("doctor {}", none.trim()))).assert_code(1);
}
