//! What a user without rights may do, and what they are told about the rest.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use gilscope::source::watchpoint::cost::measure_cost;

use crate::{
    live::{interpreters::usual, outcome::skipped, privilege::is_root},
    place::{Place, end, plain},
};

#[test]
fn launching_needs_no_rights() {
    let place = Place::new();
    let Some(mut gilscope) = place.plain_gilscope("run -q -o p.json spin.py 0.2 7") else { return };
    let ended = end(&mut gilscope);
    ended.assert_code(7);
    assert_eq!((ended.out.as_str(), ended.said.as_str()), ("ready\ndone\n", ""));
    let profile: serde_json::Value = serde_json::from_str(&place.read("p.json")).unwrap();
    assert_eq!(profile["backend"], "preload");
    assert_eq!(profile["threads"].as_array().unwrap().len(), 3);
}

#[test]
fn a_foreign_process_is_refused_with_its_owner() {
    let place = Place::new();
    let pid = if is_root() { std::process::id() } else { 1 };
    let Some(mut gilscope) = place.plain_gilscope(&format!("attach {pid}")) else { return };
    let before = place.names();
    let ended = end(&mut gilscope);
    ended.assert_refusal(3, &format!("process {pid} belongs to root")).assert_said("hint: become its user or root");
    ended.assert_left(&place, &before);
}

#[test]
fn attaching_says_which_right_is_missing_and_what_works_without() {
    let place = Place::new();
    let Some(python) = plain(&PathBuf::from(&usual().words[0])) else { return };
    let running = place.until_go(python);
    let words = format!("attach --backend uprobe {}", running.pid());
    let Some(mut gilscope) = place.plain_gilscope(&words) else { return };
    let before = place.names();
    let ended = end(&mut gilscope);
    let doctor = format!("hint: gilscope doctor {}", running.pid());
    ended.assert_refusal(3, "uprobe-bpf: CAP_BPF and CAP_PERFMON are missing; uprobe-tracefs: ").assert_said(&doctor);
    ended.assert_said("hint: try: sudo gilscope attach").assert_said("gilscope run SCRIPT");
    drop(running);
    ended.assert_left(&place, &before);
}

#[test]
fn watchpoints_need_no_rights() {
    if measure_cost(&[]).is_err() {
        skipped("watchpoints do not work here");
        return;
    }
    let place = Place::new();
    let backend_of = |place: &Place| {
        let profile: serde_json::Value = serde_json::from_str(&place.read("p.json")).unwrap();
        assert!(profile["locks"][0]["holds"].as_u64().unwrap() > 2, "{}", profile["locks"]);
        profile["backend"].clone()
    };
    let Some(mut gilscope) = place.plain_gilscope("run -q --backend watchpoint -o p.json spin.py 0.2 7") else {
        return;
    };
    let ended = end(&mut gilscope);
    ended.assert_code(7);
    assert_eq!((backend_of(&place), ended.said.as_str()), ("watchpoint".into(), ""));
    let Some(python) = plain(&PathBuf::from(&usual().words[0])) else { return };
    let running = place.until_go(python);
    let words = format!("attach -q --backend watchpoint -d 500ms -o p.json {}", running.pid());
    let ended = end(&mut place.plain_gilscope(&words).unwrap());
    ended.assert_code(0);
    assert_eq!((backend_of(&place), ended.said.as_str()), ("watchpoint".into(), ""));
}

/// Where the kernel lets nobody read counters with lock events, all else is recorded, in the best way that there is without them.
#[test]
fn counters_that_may_not_be_read_cost_nothing_else() {
    let place = Place::new();
    for (backend, taken) in [("auto", "preload"), ("watchpoint", "watchpoint")] {
        if backend == "watchpoint" && measure_cost(&[]).is_err() {
            skipped("watchpoints do not work here");
            continue;
        }
        let words = format!("run -q --backend {backend} --counters cs,cpu-clock -o p.json spin.py 0.2 7");
        let Some(mut gilscope) = place.plain_gilscope(&words) else { return };
        end(&mut gilscope).assert_code(7);
        let profile: serde_json::Value = serde_json::from_str(&place.read("p.json")).unwrap();
        let may_read = profile["counters_missing"]["cpu-clock"].is_null();
        println!("{backend}: {} {}", profile["backend"], profile["counters_missing"]);
        assert!(may_read || profile["backend"] == taken, "{backend}: {}", profile["backend"]);
        assert!(profile["locks"][0]["holds"].as_u64().unwrap() > 2, "{backend}: {}", profile["locks"]);
    }
}

#[test]
fn uprobes_are_refused_before_the_program_starts() {
    let place = Place::new();
    place.file("mark.py", "open('it-ran', 'w').close()");
    let Some(mut gilscope) = place.plain_gilscope("run --backend uprobe mark.py") else { return };
    let before = place.names();
    let ended = end(&mut gilscope);
    ended
        .assert_refusal(3, "CAP_PERFMON are missing")
        .assert_said("hint: gilscope doctor")
        .assert_said("backend preload");
    ended.assert_left(&place, &before);
}

#[test]
fn a_folder_that_may_not_be_written_to_is_refused_before_the_program_starts() {
    let place = Place::new();
    place.file("mark.py", "open('tmp/it-ran', 'w').close()");
    let Some(mut gilscope) = place.plain_gilscope("run mark.py") else { return };
    fs::set_permissions(place.folder(), fs::Permissions::from_mode(0o555)).unwrap();
    let before = place.names();
    let ended = end(&mut gilscope);
    ended.assert_refusal(3, "open `gilscope.svg` for writing: Permission denied").assert_left(&place, &before);
}

#[test]
fn an_interpreter_that_has_not_loaded_the_probe_is_attached_to() {
    let place = Place::new();
    let python = usual().words[0].display().to_string();
    let words = format!("run -o p.json -- env -u LD_PRELOAD {python} spin.py 1.5 7");
    let ended = end(&mut place.gilscope(&words));
    ended.assert_code(7).assert_said("preload did not work here").assert_said("its first moments are missing");
    let profile: serde_json::Value = serde_json::from_str(&place.read("p.json")).unwrap();
    assert_ne!(profile["backend"], "preload");
    assert_eq!(profile["exact"], true, "root and plain users can attach to children of theirs");
    let lock = &profile["locks"][0];
    let [held, window] = [&lock["held_ns"], &profile["window_ns"]].map(|time| time.as_f64().unwrap());
    assert!(held > 0.9 * window, "two threads compute all the time: {held} of {window}");
}
