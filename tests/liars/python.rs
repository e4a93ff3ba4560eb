//! Real interpreters whose structures are not what they seem.

use std::path::{Path, PathBuf};

use super::{
    observed::{Outcome, gilscope, observe},
    support::{
        interpreters::{Interpreter, interpreters, usual},
        outcome, privilege,
        running::Running,
    },
};

const DURATION: &str = "0.4";

/// The words behind the interpreter for a liar of this kind.
fn words(interpreter: &Interpreter, kind: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let layout = root.join(format!("probes/cpython-3.{}.json", interpreter.minor));
    vec![root.join("fixtures/liars/liar.py"), kind.into(), layout]
}

/// Attaches to a liar that has lied.
fn attach(interpreter: &Interpreter, kind: &str, more: &[&str]) -> Outcome {
    let mut command = interpreter.command();
    command.args(words(interpreter, kind));
    let mut liar = Running::start(command);
    assert_eq!(liar.line(), "ready", "{kind}");
    let pid = liar.child.id().to_string();
    let folder = tempfile::tempdir().unwrap();
    let words: Vec<&str> = ["attach", "-d", DURATION].iter().chain(more).copied().chain([pid.as_str()]).collect();
    let outcome = observe(kind, folder.path(), gilscope(), &words);
    assert!(liar.child.try_wait().unwrap().is_none(), "{kind}: the liar has ended");
    outcome
}

/// The usual interpreter, if it is one that can lie and may be looked at.
fn liar() -> Option<Interpreter> {
    let able = privilege::may_use_uprobes().then(usual).filter(|interpreter| interpreter.minor >= 11);
    if able.is_none() {
        outcome::skipped("liars: need CPython 3.11 or later, and uprobes");
    }
    able
}

fn number(outcome: &Outcome, name: &str) -> u64 {
    outcome.json["quality"][name].as_u64().unwrap_or_else(|| panic!("{name}: {}", outcome.json["quality"]))
}

#[test]
fn frames_that_lie_are_stack_failures() {
    let Some(interpreter) = liar() else { return };
    for kind in ["self", "cycle", "unmapped", "kernel", "noise"] {
        let outcome = attach(&interpreter, &format!("frames-{kind}"), &[]);
        assert_eq!(outcome.code, 0, "{}", outcome.said);
        assert!(outcome.json.to_string().contains("honest"), "{kind}: {}", outcome.text);
    }
    let outcome = attach(&interpreter, "frames-million", &[]);
    assert!(number(&outcome, "stack_samples") > 0 && outcome.code == 0);
}

#[test]
fn code_objects_that_lie_are_stack_failures() {
    let Some(interpreter) = liar() else { return };
    for kind in ["name-huge", "name-long", "name-wide", "file-unmapped", "table-huge", "table-negative"] {
        let outcome = attach(&interpreter, kind, &[]);
        assert_eq!(outcome.code, 0, "{}", outcome.said);
        assert!(number(&outcome, "stack_failures") > 0, "{kind}: {}", outcome.json["quality"]);
        assert!(outcome.json.to_string().contains("honest"), "{kind}: {}", outcome.text);
    }
    for kind in ["table-noise", "instruction-noise", "code-noise"] {
        assert_eq!(attach(&interpreter, kind, &[]).code, 0);
    }
}

#[test]
fn lists_that_lie_leave_a_report_or_one_sentence() {
    let Some(interpreter) = liar() else { return };
    let threads = ["self", "million", "unmapped", "foreign"].map(|kind| format!("threads-{kind}"));
    let others = ["ids-same", "ids-noise", "interpreters-self"].map(str::to_owned);
    for kind in threads.iter().chain(&others) {
        attach(&interpreter, kind, &[]);
    }
}

#[test]
fn names_do_not_steer_terminals() {
    let Some(interpreter) = liar() else { return };
    for kind in ["name-steers", "names-steer"] {
        let outcome = attach(&interpreter, kind, &[]);
        assert_eq!(outcome.code, 0, "{}", outcome.said);
    }
}

#[test]
fn crowds_of_mappings_are_survived() {
    let Some(interpreter) = liar() else { return };
    for kind in ["mappings-many", "files-many"] {
        assert_eq!(attach(&interpreter, kind, &[]).code, 0);
        assert_eq!(attach(&interpreter, kind, &["-n"]).code, 0);
    }
}

#[test]
fn liars_are_survived_without_programs_in_the_kernel() {
    let Some(interpreter) = liar() else { return };
    for kind in ["frames-cycle", "frames-million", "name-huge", "threads-self", "interpreters-self", "table-noise"] {
        let mut command = interpreter.command();
        command.args(words(&interpreter, kind));
        let mut liar = Running::start(command);
        assert_eq!(liar.line(), "ready", "{kind}");
        let mut gilscope = privilege::without_programs();
        gilscope.arg(env!("CARGO_BIN_EXE_gilscope"));
        let pid = liar.child.id().to_string();
        let folder = tempfile::tempdir().unwrap();
        observe(kind, folder.path(), gilscope, &["attach", "-d", DURATION, "-n", &pid]);
    }
}

#[test]
fn liars_are_survived_by_watchpoints() {
    let Some(interpreter) = liar() else { return };
    for kind in ["frames-cycle", "name-huge", "threads-million"] {
        attach(&interpreter, kind, &["--backend", "watchpoint"]);
    }
}

#[test]
fn launched_liars_are_survived() {
    let Some(interpreter) = liar() else { return };
    let folder = tempfile::tempdir().unwrap();
    for kind in ["ring-noise", "ring-chunks", "frames-cycle", "frames-million", "name-huge", "threads-million"] {
        let mut liar: Vec<String> = interpreter.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        liar.extend(words(&interpreter, kind).iter().map(|word| word.to_string_lossy().into_owned()));
        let words = ["run", "--backend", "preload", "--"].into_iter().chain(liar.iter().map(String::as_str));
        let words: Vec<&str> = words.chain([DURATION]).collect();
        observe(kind, folder.path(), gilscope(), &words);
    }
}

#[test]
fn published_offsets_that_lie_leave_a_report_or_one_sentence() {
    if !privilege::may_use_uprobes() {
        return;
    }
    let newer = interpreters().into_iter().filter(|interpreter| interpreter.minor == 13 && interpreter.root.is_none());
    for interpreter in newer {
        for kind in ["absurd", "zero", "swapped1", "swapped2", "some1", "some2", "some3", "some4", "some5"] {
            attach(&interpreter, &format!("offsets-{kind}"), &[]);
        }
    }
}
