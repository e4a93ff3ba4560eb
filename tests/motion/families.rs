//! Worker processes against ground truth, however they were started.

use std::fs;

use serde_json::Value;

use crate::{
    live::{
        compare::compare,
        interpreters::{Interpreter, usual},
        outcome,
        privilege::{is_root, may_use_uprobes},
        stolen::lasting_faults,
    },
    program::{Stage, Who, assert_all_sound, fixture, processes},
};

const ATTEMPTS: u32 = 5;
const WAYS: [&str; 8] = ["fork", "spawn", "forkserver", "pool", "subprocess", "shell", "exec", "posix_spawn"];

#[test]
fn workers_are_as_exact_as_their_parent() {
    let stage = Stage::new();
    for way in WAYS {
        assert_true(&stage, (Who::Ourselves, &["-s"]), &usual(), (way, 0.0));
    }
}

#[test]
fn no_privilege_is_needed() {
    if !is_root() {
        return outcome::skipped("becoming nobody needs root");
    }
    let stage = Stage::new();
    for way in ["fork", "subprocess"] {
        assert_true(&stage, (Who::Nobody, &["-s"]), &usual(), (way, 0.0));
    }
}

/// Uprobes have to be armed on each process: what it does once that is done is exact.
#[test]
fn uprobes_follow_workers() {
    if !may_use_uprobes() {
        return;
    }
    let stage = Stage::new();
    for way in ["fork", "spawn"] {
        assert_true(&stage, (Who::Ourselves, &["-s", "--backend", "uprobe"]), &usual(), (way, 1.5));
    }
}

/// Fails unless one of a few runs is within the tolerance: see `truth.rs`.
fn assert_true(stage: &Stage, (who, options): (Who, &[&str]), interpreter: &Interpreter, (way, delay): (&str, f64)) {
    let case = format!("{way} by {}, {options:?}, {who:?}", interpreter.name);
    let out = stage.path("truth.json");
    let mut words = stage.file(interpreter, &fixture("twins/kin.py"));
    words.extend([stage.library.clone().into(), out.clone().into(), way.into(), delay.to_string().into()]);
    let run = || {
        let _absent = fs::remove_file(&out);
        stage.run(who, options, &words)
    };
    let faults = lasting_faults(ATTEMPTS, run, |run, stolen| {
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), "", ""), "{case}");
        assert_all_sound(&run.profile, &case);
        let truth = fs::read_to_string(&out).unwrap();
        let truth: Vec<Value> = truth.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(truth.len(), 4, "{case}");
        let all = processes(&run.profile);
        let found = |truth: &Value| {
            // A process that has executed another program has an entry for each.
            let of_process = |process: &&&Value| {
                let mut threads = process["threads"].as_array().unwrap().iter();
                process["target"]["pid"] == truth["pid"] && threads.any(|thread| thread["tid"] == truth["tid"])
            };
            let process = all
                .iter()
                .find(of_process)
                .unwrap_or_else(|| panic!("{case}: {} is missing among {}", truth["pid"], briefly(&run.profile)));
            compare(process, truth, stolen)
        };
        println!("{case}: {} processes", all.len());
        truth.iter().flat_map(found).collect()
    });
    assert!(faults.is_empty(), "{case}, {ATTEMPTS} times, last: {}", faults.join("; "));
}

/// Who was seen.
fn briefly(profile: &Value) -> String {
    let said = |it: &Value| format!("{} {} {} ({})", it["pid"], it["began"], it["command"], it["not_recorded"]);
    profile["processes"].as_array().unwrap().iter().map(said).collect::<Vec<_>>().join(", ")
}
