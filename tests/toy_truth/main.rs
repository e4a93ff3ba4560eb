//! Profiles of the toy VM's programs against what its threads noted themselves: every program of `fixtures/toy`, through
//! every source.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

mod compare;
mod culprits;
#[path = "../support/live.rs"]
mod live;
mod profiled;

use std::{fs, path::Path};

use compare::Comparison;
use gilscope::source::watchpoint::cost::measure_cost;
use live::{outcome::skipped, privilege::may_use_uprobes, stolen};
use profiled::{Profiled, Way};

const ATTEMPTS: u32 = 4;

#[test]
fn every_program_through_every_source() {
    let mut faults = Vec::new();
    println!("{:<22} {:<8} {}", "program", "source", Comparison::HEADING);
    for program in programs() {
        for way in ways() {
            let name = program.file_stem().unwrap().to_string_lossy();
            faults.extend(lasting_faults(&program, way).iter().map(|fault| format!("{name}, {}: {fault}", way.name())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Some programs are enough: those with the most forced releases, where dear hits could do the most harm.
#[test]
fn watchpoints_tell_the_same() {
    if let Err(why) = measure_cost(&[]) {
        skipped(&format!("watchpoints: {why}"));
        return;
    }
    let chosen = ["asleep_holding", "contended", "native_holding"];
    let is_chosen = |program: &std::path::PathBuf| chosen.iter().any(|name| program.ends_with(format!("{name}.toy")));
    let faults: Vec<String> = programs()
        .into_iter()
        .filter(is_chosen)
        .flat_map(|program| lasting_faults(&program, Way::AttachWatchpoint))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What is wrong in each of several runs. A thread of the VM that loses its CPU between reading its clock and the call makes
/// the truth wrong, but not again and again.
fn lasting_faults(program: &Path, way: Way) -> Vec<String> {
    let name = program.file_stem().unwrap().to_string_lossy();
    stolen::lasting_faults(
        ATTEMPTS,
        || Profiled::run(program, way),
        |run, stolen| {
            let comparison = Comparison::of(&run, way, stolen);
            println!("{name:<22} {:<8} {comparison}", way.name());
            comparison.faults
        },
    )
}

#[test]
fn each_function_is_charged_what_it_inflicted() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/toy/culprits.toy");
    let tracepoints = may_use_uprobes().then_some(Way::RunTracepoints);
    let mut lasting = Vec::new();
    for way in ways().into_iter().chain(tracepoints) {
        let run = || {
            println!("culprits, {}", way.name());
            Profiled::run(&program, way)
        };
        let faults = stolen::lasting_faults(ATTEMPTS, run, |run, _stolen| culprits::faults(&run));
        lasting.extend(faults.iter().map(|fault| format!("{}: {fault}", way.name())));
    }
    assert!(lasting.is_empty(), "{}", lasting.join("\n"));
}

#[test]
fn one_thread_alone_never_waits() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/toy/single.toy");
    for way in ways() {
        let Profiled { profile, .. } = Profiled::run(&program, way);
        let lock = &profile["locks"][0];
        for amount in ["waits", "forced_releases", "contended_ns", "handoff_ns", "wait_total_ns"] {
            assert_eq!(lock[amount], 0, "{amount} with {}", way.name());
        }
        assert_eq!(profile["blame"].as_array().unwrap().len(), 0);
    }
}

fn programs() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/toy");
    let mut programs: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    programs.retain(|path| path.extension().is_some_and(|extension| extension == "toy"));
    programs.sort();
    assert!(programs.len() >= 10, "{programs:?}");
    programs
}

fn ways() -> Vec<Way> {
    let uprobes = may_use_uprobes();
    Way::ALL.into_iter().filter(|way| uprobes || *way == Way::RunPreload).collect()
}
