//! Nothing of ours stays in the kernel, however we end.

use std::{
    env, fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use gilscope::{
    model::{address::FileOffset, ids::Pid},
    source::{
        Source,
        uprobe::{UprobeSource, error::UprobeError, sweep::sweep_when_parent_ends, tracefs::Tracefs},
    },
    target::site::Site,
};

use crate::{
    live::interpreters::usual,
    probes::{Calls, SIGNALS, listed, options, signal_site},
};

#[test]
fn sweeper_entry() {
    let group = env::args().next_back().unwrap();
    if group.starts_with("gilscope_") {
        sweep_when_parent_ends(&group).unwrap();
    }
}

#[test]
fn nothing_remains_in_the_kernel_after_an_ordinary_end() {
    permitted!(Tracefs::find());
    let mut program = usual().start("import sys; print('ready'); sys.stdin.readline()");
    program.line();
    let site = signal_site(program.pid());
    let mut source = UprobeSource::arm(options(program.pid(), vec![site], &Calls::default())).unwrap();
    let group = source.probe_group().to_owned();
    assert!(listed(&group));
    source.finish(&mut Vec::new());
    assert!(!listed(&group));
    // Finishing a second time, by dropping, finds nothing to do.
    drop(source);
    program.go();
    assert!(program.child.wait().unwrap().success());
}

#[test]
fn observer_entry() {
    let Ok(pid) = env::var("OBSERVE") else { return };
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    let source = UprobeSource::arm(options(pid, vec![signal_site(pid)], &Calls::default())).unwrap();
    fs::write(env::var("ARMED").unwrap(), "").unwrap();
    thread::sleep(Duration::from_secs(60));
    drop(source);
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_killed_observer_leaves_nothing_behind_and_the_target_unharmed() {
    permitted!(Tracefs::find());
    let mut program = usual().start(&SIGNALS.replace("COUNT", "1000"));
    program.line();
    let folder = tempfile::tempdir().unwrap();
    let armed = folder.path().join("armed");
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "cleanup::observer_entry"]).env("ARMED", &armed).env("OBSERVE", program.pid().to_string());
    let mut observer = command.stdout(Stdio::null()).spawn().unwrap();
    wait_for("the observer is armed", || armed.exists());
    let group = format!("gilscope_{}", observer.id());
    assert!(listed(&group));
    observer.kill().unwrap();
    observer.wait().unwrap();
    wait_for("the probes are gone", || !listed(&group));
    program.go();
    assert_eq!(program.line(), "done");
    program.go();
    assert!(program.child.wait().unwrap().success());
}

#[test]
fn places_that_cannot_be_probed_are_named() {
    permitted!(Tracefs::find());
    let pid = Pid::from_raw(std::process::id().cast_signed()).unwrap();
    let libc = signal_site(pid);
    let place = |file: &str, offset| Site { file: file.into(), offset: FileOffset::from_start(offset), ..libc.clone() };
    let refusal = |site: Site| UprobeSource::arm(options(pid, vec![site], &Calls::default())).unwrap_err();
    assert!(matches!(refusal(place("/proc/self/maps", 0)), UprobeError::NotProbeable { .. }));
    let beyond = refusal(place(libc.file.to_str().unwrap(), 1 << 40));
    assert!(matches!(&beyond, UprobeError::NotProbeable { offset: 0x100_0000_0000, .. }), "{beyond:?}");
    assert!(matches!(refusal(place("/", 0)), UprobeError::DefinitionRefused { .. }));
    assert!(matches!(refusal(place("/nonexistent", 0)), UprobeError::SiteMissing { .. }));
}
