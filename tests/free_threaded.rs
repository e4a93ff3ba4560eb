//! Free-threaded builds: their lock while it is off, once it is turned on, and when it was on from the start; and what threads wait
//! for without it, against what the program itself knows of that.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/live.rs"]
mod live;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use live::{interpreters::free_threaded as python, privilege::may_use_uprobes};

/// Compiles the extension into `folder`.
fn extension(python: &Path, folder: &Path) {
    let asked = Command::new(python).args(["-c", "import sysconfig; print(sysconfig.get_paths()['include'])"]).output();
    let headers = String::from_utf8(asked.unwrap().stdout).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-I", headers.trim(), "-o"]).arg(folder.join("slotless.so"));
    assert!(compiler.arg(fixture("slotless.c")).status().unwrap().success());
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/free_threaded").join(name)
}

/// The profile of a run of `script` under `backend`, with the lock as `gil` says, and what the program said.
fn run(python: &Path, backend: &str, (gil, script): (Option<&str>, &[&str])) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("p.json");
    let [name, arguments @ ..] = script else { panic!("no script") };
    if *name == "enabling.py" {
        extension(python, folder.path());
    }
    let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    gilscope.args(["run", "-q", "--max-overhead", "none", "--backend", backend, "-o"]).arg(&output).arg("--python");
    gilscope.arg(python).arg(fixture(name)).args(arguments);
    gilscope.env("PYTHONPATH", folder.path()).env_remove("PYTHON_GIL").envs(gil.map(|gil| ("PYTHON_GIL", gil)));
    let ended = gilscope.output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let profile: Value = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
    assert_eq!(profile["target"]["free_threaded"], true);
    let quality = &profile["quality"];
    assert_eq!((&quality["unmatched_events"], &quality["lost_events"]), (&0.into(), &0.into()), "{quality:#}");
    assert_eq!(quality["invariants_broken"].as_array().unwrap().len(), 0, "{quality:#}");
    assert!(quality["notes"].to_string().contains("free-threaded build"), "{quality:#}");
    (profile, String::from_utf8(ended.stdout).unwrap().trim().to_owned())
}

/// That of the extension which turns the lock on.
fn profiled(python: &Path, backend: &str, gil: Option<&str>) -> (Value, String) {
    run(python, backend, (gil, &["enabling.py"]))
}

/// What threads waited for without the lock, and what the program knows of it.
fn parking(python: &Path, backend: &str, [what, number]: [&str; 2]) -> (Value, Value) {
    let (mut profile, said) = run(python, backend, (None, &["parking.py", what, number]));
    (profile["parking"].take(), serde_json::from_str(&said).unwrap())
}

/// The backends that tell of it here.
fn parking_backends() -> impl Iterator<Item = &'static str> {
    ["preload", "uprobe-bpf"].into_iter().filter(|backend| *backend == "preload" || may_use_uprobes())
}

/// The lock that begins in the first 16 bytes at `start`.
fn mutex_at(parking: &Value, start: &Value) -> Value {
    let start = start.as_u64().unwrap();
    let address = |mutex: &Value| {
        let digits = mutex["address"].as_str().and_then(|address| address.strip_prefix("0x"));
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
    };
    let mutexes = parking["mutexes"].as_array().unwrap();
    let found = mutexes.iter().find(|mutex| (start..start + 16).contains(&address(mutex)));
    found.cloned().unwrap_or_else(|| panic!("no lock at {start:#x}: {parking:#}"))
}

/// Entries of a list by thread.
fn by_thread(list: &Value) -> BTreeMap<String, &Value> {
    list.as_array().unwrap().iter().map(|entry| (entry["tid"].to_string(), entry)).collect()
}

fn number(of: &Value) -> u64 {
    of.as_u64().unwrap_or_else(|| panic!("not a number: {of}"))
}

fn held(profile: &Value) -> u64 {
    profile["locks"].as_array().unwrap().iter().map(|lock| lock["held_ns"].as_u64().unwrap()).sum()
}

/// Of the thread with the most of it.
fn most(profile: &Value, state: &str) -> u64 {
    let threads = profile["threads"].as_array().unwrap();
    threads.iter().map(|thread| thread["states_ns"][state].as_u64().unwrap()).max().unwrap()
}

#[test]
fn the_lock_counts_while_it_is_on() {
    let Some(python) = python() else { return };
    for backend in ["preload", "uprobe"] {
        if backend == "uprobe" && !may_use_uprobes() {
            continue;
        }
        let (off, said) = profiled(&python, backend, Some("0"));
        assert_eq!((said.as_str(), held(&off)), ("[false, false]", 0), "{backend}");

        let (turned_on, said) = profiled(&python, backend, None);
        assert_eq!(said, "[false, true]", "{backend}");
        // What two threads computed before, side by side, is none of it.
        assert!((200_000_000..600_000_000).contains(&held(&turned_on)), "{backend}: {}", held(&turned_on));
        assert!((180_000_000..260_000_000).contains(&most(&turned_on, "held_blocked")), "{backend}");
        assert!((50_000_000..200_000_000).contains(&most(&turned_on, "wait_queued")), "{backend}");

        let (on, said) = profiled(&python, backend, Some("1"));
        assert_eq!(said, "[true, true]", "{backend}");
        assert!(held(&on) >= 500_000_000, "{backend}: {}", held(&on));
    }
}

/// ```text
/// one thread   ├── keeps the lock ──┼ all sleep, 0.3 s ┤
/// three others   ├──────────── in their call ────────────┤
/// ```
#[test]
fn a_lock_that_is_kept_is_told_with_its_address_and_all_that_slept_at_it() {
    let Some(python) = python() else { return };
    for backend in parking_backends() {
        let (parking, said) = parking(&python, backend, ["held", "3"]);
        let mutex = mutex_at(&parking, &said["lock"]);
        let threads = by_thread(&mutex["threads"]);
        for (tid, spent) in said["spent"].as_object().unwrap() {
            let (parked, elapsed) = (number(&threads[tid]["parked_ns"]), number(&spent["elapsed_ns"]));
            let kept = number(&said["kept_ns"]);
            assert!((kept..=elapsed).contains(&parked), "{backend}: {kept} to {elapsed}: {mutex:#}");
        }
        let sums: [u64; 3] = ["threads", "stacks", "unseen"].map(|part| match &mutex[part] {
            Value::Array(list) => list.iter().map(|entry| number(&entry["parks"])).sum(),
            unseen => number(&unseen["parks"]),
        });
        assert!(sums[0] >= 3 && sums[0] == number(&mutex["parks"]) && sums[1] + sums[2] == sums[0], "{mutex:#}");
        let stack = mutex["stacks"][0]["stack"].as_array().unwrap();
        let script = stack.iter().rfind(|frame| frame["kind"] == "script").unwrap();
        assert_eq!(script["function"], "want", "{mutex:#}");
        assert_eq!(number(&parking["stop_the_world"]["pauses"]), 0, "{backend}: {parking:#}");
    }
}

#[test]
fn nobody_sleeps_longer_at_the_lock_of_a_list_than_it_is_off_the_cpus() {
    let Some(python) = python() else { return };
    for backend in parking_backends() {
        let (parking, said) = parking(&python, backend, ["copies", "4"]);
        let mutex = mutex_at(&parking, &said["list"]);
        assert!(number(&mutex["parked_ns"]) > 0, "{backend}: {mutex:#}");
        for (tid, slept) in by_thread(&mutex["threads"]) {
            // The probe's own work at each sleep is in both.
            let probe = number(&slept["parks"]) * 100_000;
            let off_cpu = number(&said["spent"][&tid]["off_cpu_ns"]);
            assert!(number(&slept["parked_ns"]) <= off_cpu + probe, "{backend}: {off_cpu} in {tid}: {mutex:#}");
        }
    }
}

#[test]
fn each_collection_stops_the_world_and_its_thread_is_told() {
    let Some(python) = python() else { return };
    for backend in parking_backends() {
        let (parking, said) = parking(&python, backend, ["stops", "20"]);
        let stops = &parking["stop_the_world"];
        let requesters = by_thread(&stops["requesters"]);
        let own = requesters[&said["tid"].to_string()];
        // Each stops it twice; the second time those that compute may still be on their way back.
        assert!((20..=40).contains(&number(&own["pauses"])), "{backend}: {stops:#}");
        let all: u64 = requesters.values().map(|requester| number(&requester["pauses"])).sum();
        assert!(number(&stops["pauses"]) == all && all <= 44, "{backend}: {stops:#}");
        let caller = said["tid"].to_string();
        assert!(requesters.keys().all(|tid| *tid == caller || tid == "null"), "{backend}: {stops:#}");
        assert!(number(&own["waited_ns"]) <= number(&said["collected_ns"]), "{backend}: {said} {stops:#}");
        assert!(number(&own["waited_ns"]) <= number(&own["paused_ns"]), "{backend}: {stops:#}");
        let suspended = by_thread(&stops["suspended"]);
        for tid in said["computing"].as_array().unwrap() {
            assert!(number(&suspended[&tid.to_string()]["suspensions"]) >= 1, "{backend}: {stops:#}");
        }
        assert!(!suspended.contains_key(&said["tid"].to_string()), "{backend}: {stops:#}");
    }
}

#[test]
fn a_single_thread_is_never_parked() {
    let Some(python) = python() else { return };
    for backend in parking_backends() {
        let (parking, _) = parking(&python, backend, ["alone", "5"]);
        assert_eq!(parking["mutexes"], Value::Array(Vec::new()), "{backend}");
        assert_eq!((&parking["stop_the_world"]["pauses"], &parking["elsewhere"]["parks"]), (&0.into(), &0.into()));
    }
}
