//! What is said first of toy programs whose trouble is known, and that its figures are the profile's.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "what is left out is said")]

use std::{fs, path::Path, process::Command};

use serde_json::Value;

struct Recorded(Value);

impl Recorded {
    fn of(program: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let profile = folder.path().join("profile.json");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/toy").join(program);
        let mut run = Command::new(env!("CARGO_BIN_EXE_gilscope"));
        let output = run
            .args(["run", "-q", "--max-overhead", "none", "--backend", "preload", "-o"])
            .arg(&profile)
            .arg(fixture)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(serde_json::from_slice(&fs::read(profile).unwrap()).unwrap())
    }

    /// The figures of the first finding if it is the expected one, or `None` where others took the CPUs: that is a finding, too.
    fn first(&self, program: &str, expected: &str) -> Option<&Value> {
        let findings = self.list("findings");
        assert!((1..=3).contains(&findings.len()), "{findings:?}");
        self.assert_documented();
        let id = findings[0]["id"].as_str().unwrap();
        if id == "held_while_preempted" && id != expected {
            println!("skipped: {program}: others had the CPUs for most of the time");
            return None;
        }
        assert_eq!(id, expected, "{program}: {findings:#?}");
        Some(&findings[0]["figures"])
    }

    fn assert_documented(&self) {
        let pages = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/output.md")).unwrap();
        for finding in self.list("findings") {
            let names = finding["figures"].as_object().unwrap().keys().map(String::as_str);
            for name in names.chain([finding["id"].as_str().unwrap()]) {
                assert!(pages.contains(&format!("`{name}`")), "docs/output.md lacks `{name}`");
            }
        }
    }

    fn list(&self, name: &str) -> &Vec<Value> {
        self.0[name].as_array().unwrap()
    }

    /// A number summed over the entries of a list that fit.
    fn sum(&self, list: &str, fits: impl Fn(&Value) -> bool, number: impl Fn(&Value) -> u64) -> u64 {
        self.list(list).iter().filter(|entry| fits(entry)).map(number).sum()
    }

    fn name_of(&self, tid: &Value) -> &str {
        let thread = self.list("threads").iter().find(|thread| thread["tid"] == *tid);
        thread.and_then(|thread| thread["name"].as_str()).unwrap_or_default()
    }
}

fn number<'a>(name: &'a str) -> impl Fn(&Value) -> u64 + 'a {
    move |entry| entry[name].as_u64().unwrap()
}

fn waited(thread: &Value) -> u64 {
    number("wait_queued")(&thread["states_ns"]) + number("wait_handoff")(&thread["states_ns"])
}

#[test]
fn io_threads_behind_a_hog_are_a_convoy() {
    let recorded = Recorded::of("convoy.toy");
    let Some(figures) = recorded.first("convoy.toy", "convoy") else { return };
    assert_eq!(recorded.name_of(&figures["hog_tid"]), "hog");
    assert_eq!((&figures["victims"], &figures["function"]), (&3.into(), &"hog (convoy.toy)".into()));
    let by_hog = |blame: &Value| {
        blame["holder_tid"] == figures["hog_tid"] && recorded.name_of(&blame["waiter_tid"]) == "io_worker"
    };
    assert_eq!(figures["inflicted_wait_ns"], recorded.sum("blame", by_hog, number("wait_ns")));
    let is_victim = |thread: &Value| thread["name"] == "io_worker";
    let waits = recorded.sum("threads", is_victim, number("waits"));
    assert_eq!(figures["mean_wait_ns"], recorded.sum("threads", is_victim, waited) / waits);
}

#[test]
fn threads_that_only_compute_take_turns() {
    let recorded = Recorded::of("contended.toy");
    let Some(figures) = recorded.first("contended.toy", "cpu_bound_turns") else { return };
    let is_worker = |thread: &Value| thread["name"] == "worker";
    assert_eq!(figures["threads"], 4);
    assert_eq!(figures["waited_ns"], recorded.sum("threads", is_worker, waited));
    assert_eq!(figures["forced_releases"], recorded.sum("threads", is_worker, number("forced_releases")));
    let waiting = figures["waited_share"].as_f64().unwrap();
    assert!((0.65..0.85).contains(&waiting), "three of four wait: {waiting}");
}

#[test]
fn threads_that_hardly_use_the_lock_have_no_problem_with_it() {
    let recorded = Recorded::of("io_bound.toy");
    let Some(figures) = recorded.first("io_bound.toy", "no_contention") else { return };
    assert_eq!(figures["waited_ns"], recorded.sum("threads", |_| true, waited));
    assert_eq!(recorded.list("findings").len(), 1);
}

#[test]
fn sleeping_with_the_lock_in_hand_comes_first() {
    let recorded = Recorded::of("asleep_holding.toy");
    let Some(figures) = recorded.first("asleep_holding.toy", "held_while_blocked") else { return };
    assert_eq!(figures["function"], "sleeper (asleep_holding.toy)");
    let blocked = |entry: &Value| ["blocked", "other_lock"].contains(&entry["kind"].as_str().unwrap());
    assert_eq!(figures["held_ns"], recorded.sum("holds_by_kind", blocked, number("held_ns")));
    assert_eq!(figures["inflicted_wait_ns"], recorded.sum("holds_by_kind", blocked, number("inflicted_wait_ns")));
    let held = figures["held_ns"].as_u64().unwrap();
    assert!((1_100_000_000..1_400_000_000).contains(&held), "40 times 30 ms: {held}");
}

#[test]
fn c_code_that_keeps_the_lock_is_named_by_its_function() {
    let recorded = Recorded::of("native_holding.toy");
    let Some(figures) = recorded.first("native_holding.toy", "one_function") else { return };
    assert_eq!(figures["function"], "parse_block (native_holding.toy)");
    let is_it = |function: &Value| function["function"] == "parse_block";
    assert_eq!(figures["inflicted_wait_ns"], recorded.sum("functions", is_it, number("inflicted_wait_ns")));
    assert_eq!(figures["longest_hold_ns"], recorded.sum("functions", is_it, |it| number("longest_ns")(&it["seen"])));
    let each = figures["mean_contended_hold_ns"].as_u64().unwrap();
    assert!(each > 15_000_000, "a block takes 20 ms: {each}");
    assert!(recorded.list("findings")[0]["words"].as_str().unwrap().contains(" keeps the GIL "));
}
