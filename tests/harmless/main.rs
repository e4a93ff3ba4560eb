//! A busy service notices nothing: gilscope comes and goes, or is killed, again and again.
//!
//! `GILSCOPE_SOAK=N` makes N rounds of each kind instead of a few; 1,000 take some ten minutes.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

#[path = "../support/live.rs"]
mod live;
mod service;

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use live::{interpreters::usual, privilege::may_use_uprobes};
use service::{Service, residents, served_by};

/// How many rounds when nobody asks for more.
const FEW: u32 = 6;
/// What a service of sixteen threads may take more, allocators being what they are, in KiB.
const GROWTH: u64 = 4 << 10;
/// Between two starts of gilscope that no other number divides: kills fall everywhere.
const STEP: Duration = Duration::from_micros(13_337);

fn rounds() -> u32 {
    env::var("GILSCOPE_SOAK").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(FEW)
}

fn gilscope(words: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    command.args(words).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn attaching(service: &Service, seconds: &str, folder: &Path) -> Child {
    let pid = service.pid().to_string();
    gilscope(&["attach", "-q", "-d", seconds, "-o", "p.json", &pid], folder).spawn().unwrap()
}

fn assert_unharmed(service: &mut Service, before: u64) {
    let answers = service.since_last();
    println!("{answers}");
    assert_eq!(answers.failures, 0);
    assert!(answers.requests > 100, "{answers}");
    let grown = service.resident().saturating_sub(before);
    println!("the service has grown by {grown} KiB to {}", before + grown);
    assert!(grown <= GROWTH, "the service has grown by {grown} KiB");
}

#[test]
fn a_service_does_not_notice_gilscope_coming_and_going() {
    if !may_use_uprobes() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(usual().command());
    // The first readings of symbols and of the allocator are behind us then.
    assert!(attaching(&service, "0.2", folder.path()).wait().unwrap().success());
    service.since_last();
    let before = service.resident();
    let mut used = Vec::new();
    for round in 0..rounds() {
        let gilscope = attaching(&service, "0.1", folder.path());
        let (success, most) = residents::most_of(gilscope);
        assert!(success, "round {round}");
        used.push(most);
    }
    assert_unharmed(&mut service, before);
    let third = used.len() / 3;
    let mean = |rounds: &[u64]| rounds.iter().sum::<u64>() / rounds.len() as u64;
    let (first, last) = (mean(&used[..third]), mean(&used[used.len() - third..]));
    println!("gilscope took {first} KiB in the first third of {} rounds and {last} in the last", used.len());
    assert!(last <= first + first / 10, "gilscope's memory grows with the number of recordings");
}

#[test]
fn a_service_does_not_notice_gilscope_being_killed() {
    if !may_use_uprobes() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut service = Service::start(usual().command());
    assert!(attaching(&service, "0.2", folder.path()).wait().unwrap().success());
    fs::remove_file(folder.path().join("p.json")).unwrap();
    service.since_last();
    let before = service.resident();
    for round in 0..rounds() {
        let mut gilscope = attaching(&service, "9", folder.path());
        // From the first instruction to half a second, in no order.
        sleep(STEP * (round * 11 % 37));
        gilscope.kill().unwrap();
        gilscope.wait().unwrap();
    }
    assert_unharmed(&mut service, before);
    assert!(!folder.path().join("p.json").exists(), "half a report");
}

#[test]
fn a_launched_service_does_not_notice_gilscope_being_killed() {
    for backend in ["preload", "uprobe"] {
        if backend == "uprobe" && !may_use_uprobes() {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let program = usual().command();
        let mut launch = gilscope(&["run", "-q", "--backend", backend, "-o", "p.json", "--"], folder.path());
        launch.arg(program.get_program()).args(program.get_args());
        let mut service = Service::start(launch);
        sleep(Duration::from_millis(500));
        let python = served_by(service.pid());
        service.kill();
        service.is_now(python);
        service.since_last();
        let before = service.resident();
        sleep(Duration::from_secs(1));
        assert_unharmed(&mut service, before);
    }
}
