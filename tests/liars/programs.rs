//! Programs that look like interpreters and are none.

use std::{path::Path, process::Command};

use super::{
    observed::{gilscope, observe},
    support::{copied::copy_program, libraries, privilege, running::Running},
};

/// Builds the liar as `name`, with more words for the compiler.
fn build(folder: &Path, name: &str, words: &[&str]) -> Option<std::path::PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/liars/liar.c");
    let to = folder.join(name);
    let words = ["-O1", "-rdynamic"].iter().chain(words).map(AsRef::<Path>::as_ref);
    let all = words.chain([Path::new("-o"), to.as_path(), source.as_path()]);
    libraries::run("gcc", all).then_some(to)
}

#[test]
fn what_is_no_interpreter_gets_one_sentence_or_an_empty_report() {
    if !privilege::may_use_uprobes() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, words, kinds) in [
        ("python3.12", &[][..], &["zero", "noise", "self"][..]),
        ("python3.13", &["-DNEWER"], &["zero", "noise", "self"]),
        ("toy", &["-DTOY"], &["endless", "deep", "wide"]),
    ] {
        let Some(program) = build(folder.path(), name, words) else { return };
        for kind in kinds {
            let mut command = Command::new(&program);
            command.arg(kind);
            let mut liar = Running::start(command);
            assert_eq!(liar.line(), "ready");
            let what = format!("{name}-{kind}");
            observe(&what, folder.path(), gilscope(), &["attach", "-d", "0.3", &liar.child.id().to_string()]);
        }
    }
}

#[test]
fn a_programs_name_does_not_steer_terminals() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("e\u{1b}]0;owned\u{7}\u{1b}[31m\nvil");
    copy_program("/bin/sleep", &program);
    let sleeping = Running::start({
        let mut command = Command::new(&program);
        command.arg("100");
        command
    });
    let outcome =
        observe("named", folder.path(), gilscope(), &["attach", "-d", "0.3", &sleeping.child.id().to_string()]);
    assert!(
        outcome.code == 1 && outcome.said.lines().next().is_some_and(|line| line.contains("vil")),
        "{}",
        outcome.said
    );
}
