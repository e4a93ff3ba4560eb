//! Which calls of zlib, hashlib and NumPy release the GIL, and which keep it: the report names them, each with its object.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::live::{
    interpreters::{Interpreter, interpreters, some_interpreters},
    outcome,
    privilege::may_use_uprobes,
    profiled::{Outcome, Stage, Way},
    stolen::lasting_faults,
};

const ATTEMPTS: u32 = 5;
/// Of a function's time on a CPU, how much is on the side of the lock where its call puts it.
const MOST: f64 = 0.8;

/// What must be seen of a function while it runs: the beginning of its object's file name, and of a function in there, which
/// only builds with symbols tell.
type Seen = (&'static str, &'static [&'static str], &'static str);

const OF_LIBRARY: [Seen; 5] = [
    ("compress_large", &["libz."], "deflate"),
    ("checksum_large", &["libz."], "crc32"),
    ("hash_large", &["_hashlib.", "_sha", "libcrypto."], ""),
    ("checksum_small", &["libz.", "zlib."], ""),
    ("hash_small", &["_hashlib.", "_sha"], ""),
];
const OF_NUMPY: [Seen; 4] = [
    ("multiply", &["libscipy_openblas"], ""),
    ("sort_numbers", &["_multiarray_umath."], ""),
    ("take_roots", &["_multiarray_umath."], "DOUBLE_sqrt"),
    ("add_objects", &["_multiarray_umath."], "PyUFunc_"),
];

#[test]
fn zlib_and_hashlib_release_for_large_data_only() {
    if !may_use_uprobes() {
        return;
    }
    let stage = Stage::new();
    for interpreter in some_interpreters() {
        judge(&interpreter.name, &OF_LIBRARY, || stage.run(Way::Attach, &interpreter, &[script()], &[]).unwrap());
    }
}

#[test]
fn numpy_releases_but_for_objects() {
    if !may_use_uprobes() {
        return;
    }
    let stage = Stage::new();
    let packages = stage.folder().join("packages");
    let Some(interpreter) = interpreters().into_iter().find(|interpreter| installs_numpy(interpreter, &packages))
    else {
        outcome::skipped("NumPy: no interpreter could install it");
        return;
    };
    let run = || stage.run(Way::Attach, &interpreter, &[script()], &[packages.to_str().unwrap()]).unwrap();
    judge(&interpreter.name, &OF_NUMPY, || {
        let outcome = run();
        assert_eq!(held_by_workers(&outcome), 0.0, "threads of OpenBLAS have no interpreter");
        outcome
    });
}

fn script() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/native/releases.py"))
}

/// Wheels are taken from the folder `GILSCOPE_TEST_WHEELS`, where it is set, else from the network.
fn installs_numpy(interpreter: &Interpreter, packages: &Path) -> bool {
    if interpreter.root.is_some() || interpreter.minor < 11 {
        return false;
    }
    let mut pip = interpreter.command();
    pip.args(["-m", "pip", "install", "-q", "--only-binary=:all:", "--target"]).arg(packages);
    if let Some(wheels) = std::env::var_os("GILSCOPE_TEST_WHEELS") {
        pip.args(["--no-index", "--find-links"]).arg(wheels);
    }
    let installed = pip.arg("numpy").stdout(Stdio::null()).stderr(Stdio::null()).status();
    installed.is_ok_and(|status| status.success()) && imports_numpy(interpreter.command(), packages)
}

fn imports_numpy(mut python: Command, packages: &Path) -> bool {
    let import = python.env("PYTHONPATH", packages).args(["-c", "import numpy"]).stderr(Stdio::null()).status();
    import.is_ok_and(|status| status.success())
}

fn judge(name: &str, seen: &[Seen], run: impl Fn() -> Outcome) {
    let judge = |outcome: Outcome, _stolen| seen.iter().flat_map(|seen| faults_of(&outcome, *seen, name)).collect();
    let faults = lasting_faults(ATTEMPTS, run, judge);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn faults_of(outcome: &Outcome, (function, objects, inner): Seen, name: &str) -> Vec<String> {
    let releases = outcome.said["release"].as_array().unwrap().iter().any(|said| said == function);
    let held = running(outcome, function, "held_running").map(|(_, time)| time).sum::<f64>();
    let outside = running(outcome, function, "outside_running").map(|(_, time)| time).sum::<f64>();
    let share = outside / (held + outside);
    println!("{name}: {function} ran {:.0} ms, {:.0} % of it without the lock", (held + outside) / 1e6, share * 100.0);
    let mut faults = Vec::new();
    if !(if releases { share > MOST } else { share < 1.0 - MOST }) {
        faults.push(format!("{name}: {share} of {function} is without the lock"));
    }
    let shows = |frames: &str| {
        let mut frames = frames.split(';').filter_map(|frame| frame.rsplit_once(" ("));
        frames.any(|(function, object)| {
            function.starts_with(inner) && objects.iter().any(|start| object.starts_with(start))
        })
    };
    let state = if releases { "outside_running" } else { "held_running" };
    if !running(outcome, function, state).any(|(frames, _)| shows(frames)) {
        faults.push(format!("{name}: {function} does not show {inner} of {objects:?}"));
    }
    let kept = outcome.held(|kind| {
        let object = kind["object"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        kind["kind"] == "c_code"
            && kind["caller"]["function"] == *function
            && objects.iter().any(|o| object.starts_with(o))
    });
    println!("{name}: {function} kept the lock {:.0} ms in {objects:?}", kept / 1e6);
    if !releases && kept < held / 2.0 {
        faults.push(format!("{name}: {kept} of {held} ns of {function} are C code of {objects:?}"));
    }
    faults
}

/// The stacks in `function` in this state, each with its time.
fn running<'a>(outcome: &'a Outcome, function: &str, state: &str) -> impl Iterator<Item = (&'a str, f64)> {
    let (function, state) = (format!(";{function} ("), format!(" [{state}] "));
    outcome.folded.lines().filter_map(move |line| {
        let (frames, time) = line.split_once(&state)?;
        frames.contains(&function).then(|| (frames, time.parse().unwrap()))
    })
}

/// Held time of threads that OpenBLAS made for itself.
fn held_by_workers(outcome: &Outcome) -> f64 {
    let is_worker = |thread: &&Value| {
        let tid = format!("(tid {})", thread["tid"]);
        outcome.folded.lines().any(|line| line.contains(&tid) && line.contains("blas_thread_server"))
    };
    let threads = outcome.profile["threads"].as_array().unwrap().iter().filter(is_worker);
    threads.map(|thread| thread["states_ns"]["held_running"].as_f64().unwrap()).sum()
}
