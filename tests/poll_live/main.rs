//! Looks against the truth: what the toy VM's threads and an interpreter's C calls note themselves must lie within the intervals
//! that `poll` prints. `GILSCOPE_RECORDINGS=100` counts how often it does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/live.rs"]
mod live;
mod recorded;

use std::{collections::BTreeMap, env, path::Path};

use serde_json::Value;

use recorded::Recorded;

/// Without a wish: enough to see that something is badly wrong, not more.
const USUAL_RECORDINGS: u32 = 2;
/// Of the intervals, so many at least must contain the truth when many recordings are made, and when few are. On a crowded
/// machine, who wants the lock and who has merely lost its CPU can be mistaken now and then.
const MANY: f64 = 0.93;
const FEW: f64 = 0.75;
/// What no interval covers: the thread's own reading of the clock, and its life before its first and after its last note.
const SLACK_NANOS: f64 = 1e6;

#[test]
fn intervals_contain_the_truth() {
    let wished = env::var("GILSCOPE_RECORDINGS").ok().and_then(|number| number.parse().ok());
    let recordings = wished.unwrap_or(USUAL_RECORDINGS);
    let mut hits: BTreeMap<(&str, &str), (u32, u32)> = BTreeMap::new();
    for program in ["contended", "convoy", "io_bound", "native_released"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/toy/{program}.toy"));
        let short = if wished.is_some() || program == "io_bound" { recordings } else { 1 };
        for recorded in (0..short).map(|_| Recorded::of(&path)) {
            recorded.assert_sound();
            for class in ["inside", "waiting", "outside"] {
                let (inside, all) = recorded.intervals_that_hold(class);
                let (sum, of) = hits.entry((program, class)).or_default();
                (*sum, *of) = (*sum + inside, *of + all);
            }
        }
    }
    let least = if wished.is_some() { MANY } else { FEW };
    let mut whole = (0, 0);
    for ((program, class), (sum, of)) in &hits {
        println!("{program:<16} {class:<8} {sum} of {of} intervals contain the truth");
        whole = (whole.0 + sum, whole.1 + of);
    }
    assert!(f64::from(whole.0) >= least * f64::from(whole.1), "{whole:?}");
}

/// A thread that computes, one that sleeps, one in C code without the lock; as much as the switch interval allows.
const SCRIPT: &str = "
import hashlib, threading, time
end = time.monotonic() + 1.0
def compute():
    while time.monotonic() < end:
        for _ in range(10000): pass
def sleep():
    while time.monotonic() < end: time.sleep(0.002)
def digest():
    data = bytes(1 << 20)
    while time.monotonic() < end: hashlib.sha256(data).digest()
threads = [threading.Thread(target=each) for each in (compute, sleep, digest)]
for each in threads: each.start()
for each in threads: each.join()
";

#[test]
fn looks_estimate_times_and_count_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("mixed.py");
    std::fs::write(&script, SCRIPT).unwrap();
    let wanted = |name: &str| name == live::interpreters::usual().name || name.contains("3.15");
    for interpreter in live::interpreters::interpreters().into_iter().filter(|each| wanted(&each.name)) {
        let mut program = interpreter.command();
        program.arg(interpreter.give(folder.path(), &script));
        let profile = recorded::launched(&program, folder.path());
        assert_eq!((&profile["exact"], &profile["backend"]), (&Value::Bool(false), &Value::from("poll")));
        assert_eq!(profile["quality"]["scheduler"], "sampled");
        assert_eq!(profile["quality"]["invariants_broken"], Value::Array(Vec::new()));
        let lock = &profile["locks"][0];
        for unknown in ["holds", "waits", "forced_releases", "long_holds"] {
            assert_eq!(lock[unknown], Value::Null, "{unknown}");
        }
        assert_eq!(profile["long_holds"], Value::Null);
        let held = &profile["estimates"]["locks"][0]["held_ns"];
        let [low, value, high] = ["low", "value", "high"].map(|end| held[end].as_u64().unwrap());
        assert!(low <= value && value <= high && value == lock["held_ns"], "{held}");
        let blamed = profile["blame"].as_array().unwrap();
        let culprit = |blame: &&Value| blame["stack"].to_string().contains("compute");
        let by_compute: u64 = blamed.iter().filter(culprit).map(|blame| blame["wait_ns"].as_u64().unwrap()).sum();
        let all: u64 = blamed.iter().map(|blame| blame["wait_ns"].as_u64().unwrap()).sum();
        println!("{}: held {held}, {by_compute} of {all} charged to the thread that computes", interpreter.name);
        assert!(by_compute * 10 >= all * 8, "{}", interpreter.name);
    }
}
