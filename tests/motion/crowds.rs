//! Many threads and processes. The numbers are those of a quick run, or with `GILSCOPE_TEST_CROWDS=full` ten times as many.

use std::collections::BTreeSet;

use crate::{
    live::{interpreters::usual, privilege::may_use_uprobes},
    program::{Stage, Who, assert_all_sound},
};

struct Crowd {
    threads: u32,
    alive: u32,
    forks: u32,
}

fn crowd() -> Crowd {
    match std::env::var("GILSCOPE_TEST_CROWDS").as_deref() {
        Ok("full") => Crowd { threads: 10_000, alive: 500, forks: 1_000 },
        _ => Crowd { threads: 2_000, alive: 200, forks: 100 },
    }
}

fn backends() -> Vec<&'static str> {
    let uprobe = may_use_uprobes();
    ["preload", "uprobe"].into_iter().filter(|backend| uprobe || *backend == "preload").collect()
}

#[test]
fn threads_that_come_and_go_are_all_there() {
    let (stage, python, threads) = (Stage::new(), usual(), crowd().threads);
    let script = format!(
        "
import threading
for _ in range({threads} // 20):
    crowd = [threading.Thread(target=sum, args=(range(100),)) for _ in range(20)]
    for t in crowd: t.start()
    for t in crowd: t.join()
"
    );
    for backend in backends() {
        let run = stage.run(Who::Ourselves, &["--backend", backend], &stage.script(&python, &script));
        assert_eq!(run.code, Some(0));
        assert_all_sound(&run.profile, backend);
        let entries = run.profile["threads"].as_array().unwrap();
        let told = entries.iter().map(|entry| (entry["tid"].as_i64().unwrap(), entry["start_ns"].as_u64().unwrap()));
        let distinct: BTreeSet<_> = told.collect();
        assert_eq!(distinct.len(), entries.len(), "a number used again has another start");
        // The first thread, and those that are summed up by name.
        let summed: u64 = entries.iter().filter_map(|entry| summed(entry["name"].as_str()?)).sum();
        let single =
            entries.iter().filter(|entry| entry["name"].as_str().is_none_or(|name| summed_name(name).is_none()));
        assert_eq!(single.count() as u64 + summed, u64::from(threads) + 1, "{backend}");
        println!("{backend}: {} entries for {threads} threads", entries.len());
    }
}

fn summed(name: &str) -> Option<u64> {
    summed_name(name)?.parse().ok()
}

fn summed_name(name: &str) -> Option<&str> {
    name.split_once(" ended threads '").map(|(count, _)| count)
}

#[test]
fn many_threads_live_at_once() {
    let (stage, python, alive) = (Stage::new(), usual(), crowd().alive);
    let script = format!(
        "
import threading, time
gate = threading.Barrier({alive} + 1)
def live():
    gate.wait()
    end = time.monotonic() + 0.5
    while time.monotonic() < end: time.sleep(0.02)
crowd = [threading.Thread(target=live) for _ in range({alive})]
for t in crowd: t.start()
gate.wait()
for t in crowd: t.join()
"
    );
    for backend in backends() {
        let run = stage.run(Who::Ourselves, &["--backend", backend], &stage.script(&python, &script));
        assert_eq!(run.code, Some(0));
        assert_all_sound(&run.profile, backend);
        assert_eq!(run.profile["threads"].as_array().unwrap().len() as u64, u64::from(alive) + 1, "{backend}");
    }
}

/// One after the other, each alive for a moment: rooms are used again and again.
#[test]
fn every_forked_process_is_told_of() {
    let (stage, python, forks) = (Stage::new(), usual(), crowd().forks);
    let script = format!(
        "
import os
pids = []
for _ in range({forks}):
    pid = os.fork()
    if pid == 0:
        sum(range(1000))
        os._exit(0)
    os.waitpid(pid, 0)
    pids.append(pid)
print(*pids)
"
    );
    let run = stage.run(Who::Ourselves, &["-s", "--backend", "preload"], &stage.script(&python, &script));
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    assert_all_sound(&run.profile, "forks");
    let forked: Vec<i64> = run.stdout.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    let others = run.profile["processes"].as_array().unwrap();
    let seen: Vec<i64> = others.iter().map(|other| other["pid"].as_i64().unwrap()).collect();
    let mut sorted = (forked, seen);
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1);
    let recorded = others.iter().filter(|other| other["recorded"] == true);
    let holds: Vec<i64> = recorded.map(|other| other["locks"][0]["holds"].as_i64().unwrap()).collect();
    println!("{} of {forks} recorded", holds.len());
    assert!(holds.iter().all(|holds| *holds == 1), "{holds:?}");
    let untold = others.iter().filter(|other| other["recorded"] == false && other["not_recorded"].is_null());
    assert_eq!(untold.count(), 0);
    // Rooms are given back as fast as they are taken, unless the machine is very busy.
    assert!(holds.len() * 4 >= forks as usize, "{} of {forks}", holds.len());
}
