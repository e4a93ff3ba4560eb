//! Recordings that may not take every event: estimates against what the program itself says, and what stays exact.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

#[path = "support/live.rs"]
mod live;

use live::{
    interpreters::usual,
    privilege::{may_use_uprobes, without_programs},
};

/// What the machine does meanwhile is not the estimates' fault.
const ATTEMPTS: u32 = 4;
/// Of all amounts compared, the share whose interval must contain the truth in a run; 95 in 100 are expected to.
const CONTAINED: f64 = 0.75;

/// How lock events are taken.
#[derive(Debug, Clone, Copy)]
enum Way {
    Preload,
    Programs,
    Tracepoints,
    Watchpoint,
}

impl Way {
    /// Each with a budget that makes windows necessary.
    fn all() -> Vec<(Self, &'static str)> {
        let mut all = vec![(Self::Preload, "0.1%")];
        if may_use_uprobes() {
            all.extend([(Self::Programs, "0.5%"), (Self::Tracepoints, "0.5%"), (Self::Watchpoint, "3%")]);
        }
        all
    }

    fn command(self) -> Command {
        let gilscope = env!("CARGO_BIN_EXE_gilscope");
        let mut command = match self {
            Self::Preload | Self::Programs | Self::Watchpoint => Command::new(gilscope),
            Self::Tracepoints => {
                let mut without = without_programs();
                without.arg(gilscope);
                without
            }
        };
        let backend = match self {
            Self::Preload => "preload",
            Self::Programs | Self::Tracepoints => "uprobe",
            Self::Watchpoint => "watchpoint",
        };
        command.args(["run", "-q", "--backend", backend]);
        command
    }

    /// Records `program` and returns the profile and what it printed.
    fn record(self, budget: &str, program: &[&str]) -> (Value, String) {
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("profile.json");
        let mut command = self.command();
        command.args(["--max-overhead", budget, "-o"]).arg(&report).arg("--").args(program);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        (serde_json::from_slice(&fs::read(report).unwrap()).unwrap(), printed)
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/budget").join(name)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn lock_of(document: &Value) -> &Value {
    &document["locks"][0]
}

/// What holds however the events were taken.
fn assert_sound(profile: &Value) {
    let quality = &profile["quality"];
    assert_eq!(quality["invariants_broken"].as_array().unwrap().len(), 0, "{quality}");
    let overhead = &quality["overhead"];
    assert!(number(&overhead["own_cpu_ns"]) > 0.0 && number(&overhead["duty"]) <= 1.0, "{overhead}");
    for thread in profile["threads"].as_array().unwrap() {
        let states: f64 = thread["states_ns"].as_object().unwrap().values().map(number).sum();
        assert!((states - number(&thread["lifetime_ns"])).abs() < 1.0, "{thread}");
    }
}

/// How many intervals contain the truth, of how many; each is printed.
#[derive(Debug, Default)]
struct Score {
    contained: u32,
    compared: u32,
}

impl Score {
    fn compare(&mut self, what: &str, interval: &Value, truth: f64) {
        self.compared += 1;
        if interval.is_null() {
            // Too few windows: another attempt may have more.
            println!("  ! {what}: no estimate");
            return;
        }
        let [low, value, high] = ["low", "value", "high"].map(|end| number(&interval[end]));
        let contained = (low..=high).contains(&truth);
        self.contained += u32::from(contained);
        let mark = if contained { ' ' } else { '!' };
        println!("  {mark} {what}: {truth:.0} in {low:.0} to {high:.0} ({value:.0})");
    }

    fn is_good(&self) -> bool {
        f64::from(self.contained) >= CONTAINED * f64::from(self.compared)
    }
}

fn class_of(states: &Value, prefixes: &[&str]) -> f64 {
    let states = states.as_object().unwrap().iter();
    states
        .filter(|(name, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .map(|(_, time)| number(time))
        .sum()
}

/// Every thread's time by class, and the lock's, as estimated and as the VM's threads noted it themselves.
fn against_truth(profile: &Value, truth: &Value) -> Score {
    let mut score = Score::default();
    let estimates = &profile["estimates"];
    // Of the main thread the VM tells what comes after its own start-up.
    for thread in truth["threads"].as_array().unwrap().iter().filter(|thread| thread["name"] != "<main>") {
        let estimate = estimates["threads"].as_array().unwrap().iter().find(|found| found["tid"] == thread["tid"]);
        let Some(estimate) = estimate else { continue };
        for (class, prefix) in [("inside", "held"), ("waiting", "wait"), ("outside", "outside")] {
            let interval = &estimate["classes_ns"][class];
            if !interval.is_null() {
                score.compare(
                    &format!("{} {class}", thread["name"]),
                    interval,
                    class_of(&thread["states_ns"], &[prefix]),
                );
            }
        }
    }
    let (lock, estimate) = (lock_of(truth), &estimates["locks"][0]);
    for (name, truth) in
        [("held_ns", "held_ns"), ("contended_ns", "contended_ns"), ("holds", "holds"), ("waits", "waits")]
    {
        score.compare(name, &estimate[name], number(&lock[truth]));
    }
    score
}

#[test]
fn estimates_contain_what_the_program_itself_noted() {
    let program = fixture("turns.toy");
    for (way, budget) in Way::all() {
        let good = (0..ATTEMPTS).any(|_| {
            let folder = tempfile::tempdir().unwrap();
            let truth = folder.path().join("truth.json");
            let words = [env!("CARGO_BIN_EXE_gilscope"), "toyvm", program.to_str().unwrap(), "--truth"];
            let (profile, _) = way.record(budget, &[&words[..], &[truth.to_str().unwrap()]].concat());
            assert_sound(&profile);
            println!("{way:?}: {}", profile["quality"]["overhead"]);
            if profile["exact"] == true {
                return false;
            }
            let truth = serde_json::from_slice(&fs::read(&truth).unwrap()).unwrap();
            let score = against_truth(&profile, &truth);
            println!("{way:?}: {score:?}");
            score.is_good()
        });
        assert!(good, "{way:?}");
    }
}

#[test]
fn a_hot_loop_is_recorded_in_windows_and_still_counted() {
    let (program, python) = (fixture("pipe.py"), usual());
    for (way, budget) in Way::all() {
        let words: Vec<&str> = python.words.iter().map(|word| word.to_str().unwrap()).collect();
        let (profile, printed) = way.record(budget, &[&words[..], &[program.to_str().unwrap(), "2.5"]].concat());
        assert_sound(&profile);
        let taken: f64 = printed.trim().parse().unwrap();
        println!("{way:?}: {taken} cycles, {}", profile["quality"]["overhead"]);
        assert_eq!(profile["exact"], false, "{way:?}");
        let duty = number(&profile["quality"]["overhead"]["duty"]);
        assert!(duty < 0.9, "{way:?}: {duty}");
        let notes = profile["quality"]["notes"].to_string();
        assert!(notes.contains("--max-overhead none"), "{notes}");
        let counted = &lock_of(&profile)["counted"];
        match way {
            // Start-up and the end take the lock, too.
            Way::Preload => assert!((taken..taken + 5_000.0).contains(&number(&counted["holds"])), "{taken} {counted}"),
            Way::Programs | Way::Tracepoints | Way::Watchpoint => assert!(counted.is_null()),
        }
    }
}

#[test]
fn without_a_limit_everything_is_taken() {
    let (program, python) = (fixture("pipe.py"), usual());
    let words: Vec<&str> = python.words.iter().map(|word| word.to_str().unwrap()).collect();
    let (profile, _) = Way::Preload.record("none", &[&words[..], &[program.to_str().unwrap(), "0.3"]].concat());
    assert_sound(&profile);
    assert_eq!((&profile["exact"], &profile["estimates"]), (&Value::Bool(true), &Value::Null));
    let overhead = &profile["quality"]["overhead"];
    assert_eq!((overhead["budget"].is_null(), number(&overhead["duty"])), (true, 1.0));
}
