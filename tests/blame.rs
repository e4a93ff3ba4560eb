//! Blame against ground truth: functions that hold the GIL for known times, all in one thread, and each followed by one
//! that releases it and has done nothing else. Every culprit must be charged what it inflicted, and the innocent nothing.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

#[path = "support/live.rs"]
mod live;

use live::interpreters::{Interpreter, interpreters};

/// How far a culprit's blame may be off, as a share of what it inflicted.
const TOLERANCE: f64 = 0.02;
const ATTEMPTS: u32 = 3;

#[test]
fn each_culprit_is_charged_what_it_inflicted() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/culprits");
    let library = folder.path().join("libculprits.so");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(fixtures.join("culprits.c"));
    assert!(gcc.status().unwrap().success());
    for interpreter in interpreters() {
        let files = [fixtures.join("culprits.py"), library.clone()];
        let mut faults = Vec::new();
        for _ in 0..ATTEMPTS {
            faults = faults_of_one_run(&interpreter, folder.path(), &files);
            if faults.is_empty() {
                break;
            }
        }
        assert!(faults.is_empty(), "{}: {}", interpreter.name, faults.join("; "));
    }
}

/// What is wrong in one run. On a crowded machine a reading may come late, but not again and again.
fn faults_of_one_run(interpreter: &Interpreter, folder: &Path, files: &[PathBuf]) -> Vec<String> {
    let (profile, truth) = profile(interpreter, folder, files);
    assert_eq!(profile["quality"]["invariants_broken"], Value::Array(Vec::new()), "{}", interpreter.name);
    let blame = blame_on_waiters(&profile, &truth);
    let charged = |function: &str| blame.get(function).copied().unwrap_or(0.0);
    let (mut faults, mut all) = (Vec::new(), 0.0);
    for (culprit, inflicted) in truth["inflicted"].as_object().unwrap() {
        let inflicted = inflicted.as_f64().unwrap();
        let off = charged(culprit) / inflicted - 1.0;
        println!("{}: {culprit} inflicted {inflicted} ns, off by {:.2} %", interpreter.name, off * 100.0);
        if off.abs() >= TOLERANCE {
            faults.push(format!("{culprit} is off by {off}"));
        }
        all += inflicted;
    }
    let innocent = charged("innocent") / all;
    if innocent >= 0.001 {
        faults.push(format!("{innocent} of all blame is on the innocent"));
    }
    faults
}

fn profile(interpreter: &Interpreter, folder: &Path, files: &[PathBuf]) -> (Value, Value) {
    let json = folder.join("profile.json");
    let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    gilscope.args(["run", "-q", "--backend", "preload", "-o"]).arg(&json).arg("--").args(&interpreter.words);
    gilscope.args(files.iter().map(|file| interpreter.give(folder, file))).args(["6", "3"]);
    let output = gilscope.output().unwrap();
    assert!(output.status.success(), "{}: {}", interpreter.name, String::from_utf8_lossy(&output.stderr));
    let truth = String::from_utf8(output.stdout).unwrap();
    (serde_json::from_slice(&fs::read(&json).unwrap()).unwrap(), serde_json::from_str(truth.trim()).unwrap())
}

/// What the waiters waited, in nanoseconds by the innermost function of whoever they waited for.
fn blame_on_waiters(profile: &Value, truth: &Value) -> BTreeMap<String, f64> {
    let mut blame = BTreeMap::new();
    for entry in profile["blame"].as_array().unwrap() {
        let waiters = truth["waiters"].as_array().unwrap();
        let innermost = entry["stack"].as_array().unwrap().last();
        if let (true, Some(frame)) = (waiters.contains(&entry["waiter_tid"]), innermost) {
            let function = frame["function"].as_str().unwrap().to_owned();
            *blame.entry(function).or_default() += entry["wait_ns"].as_f64().unwrap();
        }
    }
    blame
}
