//! What discovery says of processes that it cannot or may not describe, and what it can do without privileges.

use std::{os::unix::process::CommandExt, process::Command};

use gilscope::{
    model::ids::Pid,
    target::{
        discover::{DiscoverError, Target},
        memory::ProcessMemory,
        process,
    },
};

use crate::{
    THREADS,
    live::{
        copied::copy_program,
        interpreters::{interpreters, pyenv, usual},
        outcome,
        running::Running,
    },
};

#[test]
fn old_versions_are_refused_by_name() {
    for home in ["2.7", "3.6", "3.7"].into_iter().filter_map(pyenv) {
        let version = home.file_name().unwrap().to_str().unwrap();
        let mut command = Command::new(home.join("bin/python"));
        command.args(["-c", "import sys, time; sys.stdout.write('ready\\n'); sys.stdout.flush(); time.sleep(60)"]);
        let mut running = Running::start(command);
        assert_eq!(running.line(), "ready");
        let refusal = Target::discover(running.pid()).unwrap_err().to_string();
        let reason = format!("Python {version} is too old, 3.8 is the oldest supported version");
        assert_eq!(refusal, format!("cannot observe process {}: {reason}", running.pid()));
    }
}

#[test]
fn what_is_no_interpreter_is_named() {
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(sleeper.id()).unwrap()).unwrap();
    while process::executable(pid).unwrap().file_name().unwrap() != "sleep" {}
    let refusal = Target::discover(pid).unwrap_err();
    assert!(refusal.to_string().starts_with(&format!("process {pid} is sleep, not a Python interpreter")), "{refusal}");
    sleeper.kill().unwrap();
    while process::thread_state(pid, pid.main_thread()).unwrap() != 'Z' {}
    assert!(matches!(Target::discover(pid), Err(DiscoverError::Zombie(_))));
    sleeper.wait().unwrap();
    assert!(matches!(Target::discover(pid), Err(DiscoverError::NoSuchProcess(_))));
}

#[test]
fn kernel_threads_are_named() {
    let second = Pid::from_raw(2).unwrap();
    if process::thread_name(second, second.main_thread()).ok().as_deref() != Some("kthreadd") {
        outcome::skipped("kernel threads: process 2 is not kthreadd here");
        return;
    }
    assert!(matches!(Target::discover(second), Err(DiscoverError::KernelThread(_))));
}

fn own_pid() -> Pid {
    Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap()
}

/// Runs one of these tests as a user who may do nothing; `None`, having said so, when that user cannot be become.
fn as_nobody(test: &str) -> Option<Command> {
    if process::Status::of_process(own_pid()).unwrap().uid != 0 {
        outcome::skipped("other users: not root, so there is none to become");
        return None;
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", &format!("refusals::{test}"), "--ignored", "--nocapture"]).uid(65534).gid(65534);
    Some(command)
}

/// Run by the next test as another user.
#[test]
#[ignore = "needs a foreign process"]
fn refused_child() {
    let pid = Pid::from_raw(std::env::var("GILSCOPE_FOREIGN_PID").unwrap().parse().unwrap()).unwrap();
    eprintln!("{}", Target::discover(pid).unwrap_err());
}

#[test]
fn a_foreign_process_is_refused_with_its_owner() {
    let own = own_pid();
    let Some(mut command) = as_nobody("refused_child") else { return };
    let output = command.env("GILSCOPE_FOREIGN_PID", own.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let sentence = format!("process {own} belongs to root, and looking into it is not permitted");
    assert!(said.contains(&sentence), "{said}");
}

/// Run by the next test as another user, with no capability at all.
#[test]
#[ignore = "needs an interpreter"]
fn unprivileged_child() {
    // A program whose file was removed, as by an upgrade, is still itself.
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python3");
    copy_program(std::env::var("GILSCOPE_PYTHON").unwrap(), &python);
    let mut command = Command::new(&python);
    command.args(["-c", THREADS]);
    let mut running = Running::start(command);
    let version = running.line();
    assert_eq!(running.line(), "ready");
    std::fs::remove_file(python).unwrap();
    let target = Target::discover(running.pid()).unwrap();
    let memory = ProcessMemory::open(target.pid).unwrap();
    assert_eq!(target.summary().runtime_version, version);
    assert_eq!(target.threads(&memory).unwrap().len(), 4);
    assert!(target.sites().unwrap().len() >= 3);
    assert!(target.sites().unwrap().iter().all(|site| site.file.is_file()));
}

#[test]
fn an_own_process_is_described_without_privileges() {
    let Some(mut command) = as_nobody("unprivileged_child") else { return };
    let output = command.env("GILSCOPE_PYTHON", &usual().words[0]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// Looked at again and again from its first moment to its last, a process is never described wrongly.
#[test]
fn a_starting_and_ending_process_is_looked_at_in_peace() {
    for interpreter in &interpreters() {
        let program = "import sys, time; sys.stdout.write(sys.version.split()[0] + '\\n'); time.sleep(0.4)";
        let mut running = interpreter.start(program);
        let pid = running.pid();
        let mut described = Vec::new();
        let ended = loop {
            match Target::discover(pid) {
                Ok(target) => {
                    let locks = ProcessMemory::open(pid).ok().and_then(|memory| target.locks(&memory).ok());
                    assert!(locks.is_none_or(|locks| locks.len() <= 1), "{interpreter:?}");
                    described.push(target.summary().runtime_version);
                }
                Err(DiscoverError::Zombie(_)) => break true,
                Err(DiscoverError::Foreign { .. } | DiscoverError::Starting(_) | DiscoverError::Ended(_)) => {}
                Err(other) => panic!("{interpreter:?}: {other}"),
            }
        };
        let version = running.line();
        assert!(ended && !described.is_empty() && described.iter().all(|found| *found == version), "{described:?}");
    }
}
