//! Interpreters with locks of their own (3.12 and later): each lock with its own amounts, also where one lies where another lay.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/live.rs"]
mod live;

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use live::{
    attached::attached,
    interpreters::{Interpreter, interpreters},
    privilege::{may_use_uprobes, without_programs},
    running::Running,
};

const FIRST: u8 = 12;

fn script() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/interpreters/interpreters.py").display().to_string()
}

/// The command that starts the program, which lies in the interpreter's own root, and the folder for reports.
fn command(python: &Interpreter, folder: &Path) -> Vec<String> {
    let mut words: Vec<String> = python.words.iter().map(|word| word.to_str().unwrap().to_owned()).collect();
    words.push(match &python.root {
        None => script(),
        Some(root) => {
            let name = format!("tmp/interpreters-{}.py", folder.file_name().unwrap().display());
            fs::copy(script(), root.join(&name)).unwrap();
            format!("/{name}")
        }
    });
    words
}

fn assert_locks(profile: &Value, said: &str, what: &str) {
    let said: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let locks = profile["locks"].as_array().unwrap();
    let kept = said["kept"].as_object().unwrap();
    assert_eq!(locks.len(), 1 + kept.len(), "{what}: {locks:#?}");
    for (id, bounds) in kept {
        let lock = locks.iter().find(|lock| lock["interpreter"].as_i64() == id.parse().ok()).unwrap();
        assert_eq!(lock["name"], format!("GIL of interpreter {id}"), "{what}");
        let [least, most] = [0, 1].map(|end| bounds[end].as_u64().unwrap());
        let held = lock["held_ns"].as_u64().unwrap();
        assert!((least..most).contains(&held), "{what}: interpreter {id} kept it for {bounds} ns, not {held}");
        assert!(lock["holds"].as_u64().unwrap() > 0);
    }
    let quality = &profile["quality"];
    assert_eq!((&quality["unmatched_events"], &quality["lost_events"]), (&0.into(), &0.into()), "{what}: {quality:#}");
    assert_eq!(quality["invariants_broken"].as_array().unwrap().len(), 0, "{what}: {quality:#}");
    assert_parallel(profile, what);
}

/// The picture has a section for each of the locks that two threads kept for long.
fn assert_sections(profile: &Value, picture: &str) {
    for lock in profile["locks"].as_array().unwrap().iter().filter(|lock| lock["held_ns"].as_u64() >= Some(300_000_000))
    {
        let section = format!("<title>{} (", lock["name"].as_str().unwrap());
        assert!(picture.contains(&section), "no {section}");
    }
}

/// Two threads were inside at once, each for 300 ms, in the life that both have shared.
fn assert_parallel(profile: &Value, what: &str) {
    let threads = profile["threads"].as_array().unwrap();
    let inside = |thread: &Value| {
        let part = |name: &str| thread["states_ns"][name].as_f64().unwrap();
        part("held_running") + part("held_preempted") + part("held_blocked")
    };
    let long = threads.iter().filter(|thread| inside(thread) >= 300e6).count();
    assert!(long >= 3, "{what}: {threads:#?}");
}

#[test]
fn each_interpreter_has_the_lock_that_it_kept() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("p.json");
    for python in interpreters().iter().filter(|python| python.minor >= FIRST) {
        for backend in ["preload", "uprobe"] {
            if backend == "uprobe" && !may_use_uprobes() {
                continue;
            }
            let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
            let picture = folder.path().join("p.svg");
            gilscope
                .args(["run", "-q", "--max-overhead", "none", "--backend", backend, "-o"])
                .arg(&picture)
                .arg("--json")
                .arg(&output)
                .arg("--");
            let ended = gilscope.args(command(python, folder.path())).output().unwrap();
            assert!(ended.status.success(), "{ended:?}");
            let profile: Value = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
            assert_sections(&profile, &fs::read_to_string(&picture).unwrap());
            assert_locks(&profile, &String::from_utf8(ended.stdout).unwrap(), &format!("{backend}, {}", python.name));
        }
        if let Some(root) = &python.root {
            let name = format!("tmp/interpreters-{}.py", folder.path().file_name().unwrap().display());
            fs::remove_file(root.join(name)).unwrap();
        }
    }
}

/// Whoever attaches finds the first lock in use, and sees the others come and go, with programs in the kernel and without.
#[test]
fn attaching_sees_them_come_and_go() {
    let Some(python) = interpreters().into_iter().rfind(|python| python.minor >= FIRST && python.root.is_none()) else {
        return live::outcome::skipped("CPython 3.12 or later is absent");
    };
    if !may_use_uprobes() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let words = command(&python, folder.path());
        let mut program = Command::new(&words[0]);
        program.args(&words[1..]).arg("wait");
        let mut program = Running::start(program);
        assert_eq!(program.line(), "ready");
        program
    };
    let output = folder.path().join("a.json");
    let mut program = start();
    let gilscope = attached(program.child.id(), &output);
    program.go();
    let said = program.line();
    assert!(gilscope.wait_with_output().unwrap().status.success());
    let profile = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
    assert_locks(&profile, &said, "attached");

    let mut program = start();
    let mut gilscope = without_programs();
    gilscope.arg(env!("CARGO_BIN_EXE_gilscope")).args(["attach", "-q", "--max-overhead", "none", "-o"]).arg(&output);
    let gilscope = gilscope.arg(program.child.id().to_string()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    program.go();
    let said = program.line();
    assert!(gilscope.wait_with_output().unwrap().status.success());
    let profile: Value = serde_json::from_slice(&fs::read(&output).unwrap()).unwrap();
    assert!(profile["quality"]["notes"].to_string().contains("tracefs"), "{:#}", profile["quality"]);
    assert_locks(&profile, &said, "attached without programs");
}
