//! What a real Python holds the GIL for, told from its machine code: each function of the script does one thing with the lock in its
//! hands, for a known time where the clock and not the CPU measures it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

#[path = "support/live.rs"]
mod live;

use live::{
    interpreters::pyenv,
    outcome::{skipped, used},
    privilege::may_use_uprobes,
};

const ATTEMPTS: usize = 3;

/// While one thread wants the lock, the main thread computes 20 times 20 ms in C code that keeps it, sorts, looks for garbage, and
/// sleeps 20 times 20 ms in C code that keeps it. That comes last: in the first second names are read, and nobody looks at sleepers.
const SCRIPT: &str = "
import ctypes, gc, sys, threading, time
libc, keeper = ctypes.PyDLL(None), ctypes.PyDLL(sys.argv[1])
keeper.outer_c.argtypes, keeper.outer_c.restype = [ctypes.c_long], ctypes.c_long
done = threading.Event()
def wanting():
    while not done.is_set():
        pass
def napping():
    for _ in range(20):
        libc.usleep(20_000)
def keeping():
    for _ in range(20):
        keeper.outer_c(20_000_000)
def sorting(numbers):
    until = time.process_time() + 0.6
    while time.process_time() < until:
        sorted(numbers)
def collecting():
    until = time.process_time() + 0.6
    while time.process_time() < until:
        gc.collect()
numbers = [hash(str(n)) for n in range(200_000)]
graph = [[n] for n in range(200_000)]
thread = threading.Thread(target=wanting)
thread.start()
keeping()
sorting(numbers)
collecting()
napping()
done.set()
thread.join()
";

/// The time of the entries of this kind that `caller` led to.
fn held(profile: &Value, kind: &str, caller: &str) -> (u64, Option<Value>) {
    let entries = profile["holds_by_kind"].as_array().unwrap();
    let fits = |entry: &&Value| entry["kind"] == kind && entry["caller"]["function"] == caller;
    let found: Vec<&Value> = entries.iter().filter(fits).collect();
    (found.iter().map(|entry| entry["held_ns"].as_u64().unwrap()).sum(), found.first().map(|entry| (*entry).clone()))
}

/// All time that `function` held the lock on a CPU or asleep, of whatever kind.
fn held_in(profile: &Value, function: &str) -> u64 {
    let functions = profile["functions"].as_array().unwrap();
    let of_it = functions.iter().filter(|entry| entry["function"] == function);
    let states =
        |entry: &Value| ["held_running", "held_blocked"].map(|state| entry["states_ns"][state].as_u64().unwrap());
    of_it.flat_map(states).sum()
}

#[test]
fn each_function_holds_the_lock_for_what_it_does() {
    if !may_use_uprobes() {
        return skipped("native frames of running threads are sampled only with privileges");
    }
    let folder = tempfile::tempdir().unwrap();
    let (script, library) = (folder.path().join("kinds.py"), folder.path().join("libkeeper.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/native/keeper.c");
    let gcc = Command::new("gcc").args(["-g", "-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    if !gcc.is_ok_and(|status| status.success()) {
        return skipped("gcc is absent");
    }
    fs::write(&script, SCRIPT).unwrap();
    for version in ["3.8", "3.10", "3.11", "3.12", "3.13"] {
        let Some(python) = pyenv(version) else { continue };
        used(version);
        let complaints = || complaints(version, &record(&python, folder.path(), [&script, &library]));
        // Where others have the CPUs, a stretch may pass without a tick.
        let left: Vec<Vec<String>> = (0..ATTEMPTS).map(|_| complaints()).take_while(|left| !left.is_empty()).collect();
        assert!(left.len() < ATTEMPTS, "{left:#?}");
    }
}

fn record(python: &Path, folder: &Path, words: [&PathBuf; 2]) -> Value {
    let report = folder.join("report.json");
    let mut run = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    run.args(["run", "-q", "--max-overhead", "none", "--native", "-r", "500", "-o"])
        .arg(&report)
        .arg("--python")
        .arg(python.join("bin/python3"));
    assert!(run.args(words).status().unwrap().success());
    serde_json::from_slice(&fs::read(report).unwrap()).unwrap()
}

/// What is not as it should be.
fn complaints(version: &str, profile: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    if profile["native"] != true {
        return vec![format!("{version}: not all stacks came with machine code: {}", profile["quality"]["notes"])];
    }
    let mut check = |fits: bool, what: String| {
        println!("{version}: {what}");
        complaints.extend((!fits).then(|| format!("{version}: {what}")));
    };
    let (asleep, nap) = held(profile, "blocked", "napping");
    let call = nap.map_or(Value::Null, |nap| nap["detail"].clone());
    check((340_000_000..480_000_000).contains(&asleep), format!("asleep 20 times 20 ms: {asleep} ns"));
    check(call.as_str().is_some_and(|call| call.contains("nanosleep")), format!("asleep in {call}"));
    for (kind, caller, function) in [
        ("c_code", "keeping", Some("outer_c")),
        ("c_code", "sorting", Some("builtin_sorted")),
        ("garbage_collection", "collecting", None),
    ] {
        let ((time, entry), all) = (held(profile, kind, caller), held_in(profile, caller));
        let named = entry.map(|entry| entry["function"].clone());
        let fits = all > 20_000_000 && time * 10 >= all * 8 && named == Some(function.map_or(Value::Null, Value::from));
        check(fits, format!("{caller} {kind} {time} ns of {all} ns, {named:?}"));
    }
    complaints
}
