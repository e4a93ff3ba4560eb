//! One recording by looks, and the truth.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{SLACK_NANOS, live::attached::attached_with};

/// A profile and what the threads noted.
pub struct Recorded {
    profile: Value,
    truth: Value,
}

impl Recorded {
    /// Lets a toy program run once it is looked at.
    pub fn of(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (profile, truth) = (folder.path().join("profile.json"), folder.path().join("truth.json"));
        let mut vm = Command::new(env!("CARGO_BIN_EXE_gilscope"));
        vm.arg("toyvm").arg(program).arg("--truth").arg(&truth).arg("--announce");
        let mut vm = vm.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(vm.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        let mut gilscope = attached_with(vm.id(), &profile, &["--backend", "poll"]);
        writeln!(vm.stdin.take().unwrap()).unwrap();
        std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
        assert!(vm.wait().unwrap().success() && gilscope.wait().unwrap().success());
        let read = |path: &Path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        Self { profile: read(&profile), truth: read(&truth) }
    }

    /// Estimates are marked as such, and fit together all the same.
    pub fn assert_sound(&self) {
        assert_eq!(self.profile["exact"], false);
        assert_eq!(self.profile["quality"]["invariants_broken"], Value::Array(Vec::new()));
        assert_eq!(self.profile["quality"]["lost_events"], 0);
    }

    /// How many intervals of the threads' time in a class contain the truth, of how many.
    pub fn intervals_that_hold(&self, class: &str) -> (u32, u32) {
        let (mut hold, mut all) = (0, 0);
        for truth in list(&self.truth, "threads") {
            let of_thread = |value: &&Value| value["tid"] == truth["tid"];
            let estimates = list(&self.profile["estimates"], "threads");
            let Some(interval) = estimates.iter().find(of_thread).map(|found| &found["classes_ns"][class]) else {
                continue;
            };
            let thread = list(&self.profile, "threads").iter().find(of_thread).unwrap();
            // The thread has lived for longer than it noted, outside the lock.
            let unnoted = number(thread, "lifetime_ns") - number(truth, "lifetime_ns");
            let noted = truth_of(truth, class) + if class == "outside" { unnoted } else { 0.0 };
            let (low, high) = (number(interval, "low") - SLACK_NANOS, number(interval, "high") + SLACK_NANOS);
            all += 1;
            hold += u32::from((low..=high).contains(&noted));
        }
        (hold, all)
    }
}

fn truth_of(thread: &Value, class: &str) -> f64 {
    let prefix = if class == "inside" { "held" } else { class.trim_end_matches("ing") };
    let states = thread["states_ns"].as_object().unwrap();
    states.iter().filter(|(state, _)| state.starts_with(prefix)).map(|(_, time)| time.as_f64().unwrap()).sum()
}

/// The profile of a program that is launched.
pub fn launched(program: &Command, folder: &Path) -> Value {
    let profile = folder.join("profile.json");
    let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    gilscope.args(["run", "-q", "--backend", "poll", "-o"]).arg(&profile).arg("--");
    let output = gilscope.arg(program.get_program()).args(program.get_args()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&fs::read(&profile).unwrap()).unwrap()
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().unwrap()
}

fn number(of: &Value, name: &str) -> f64 {
    of[name].as_f64().unwrap()
}
