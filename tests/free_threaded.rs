//! Free-threaded builds: their lock while it is off, once it is turned on, and when it was on from the start.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/live.rs"]
mod live;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use live::{outcome, privilege::may_use_uprobes};

/// The build named by the environment, or any below `/opt`.
fn python() -> Option<PathBuf> {
    let named = env::var_os("GILSCOPE_TEST_FREE_THREADED").map(PathBuf::from);
    let python = named.or_else(|| {
        let homes = fs::read_dir("/opt").ok()?.flatten().map(|entry| entry.path().join("bin"));
        let programs = homes.filter_map(|bin| fs::read_dir(bin).ok()).flat_map(|bin| bin.flatten());
        programs.map(|entry| entry.path()).find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("python3.") && name.ends_with('t')
        })
    });
    match &python {
        Some(python) => outcome::used(&python.display().to_string()),
        None => outcome::skipped("a free-threaded build is absent: GILSCOPE_TEST_FREE_THREADED is not set"),
    }
    python
}

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

/// The profile of a run under `backend`, with the lock as `gil` says, and what the program said.
fn profiled(python: &Path, backend: &str, gil: Option<&str>) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("p.json");
    extension(python, folder.path());
    let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    gilscope
        .args(["run", "-q", "--max-overhead", "none", "--backend", backend, "-o"])
        .arg(&output)
        .arg("--python")
        .arg(python)
        .arg(fixture("enabling.py"));
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
