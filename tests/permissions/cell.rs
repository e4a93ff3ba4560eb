//! What came of observing a program in one way.

use std::{fs, path::Path};

use serde_json::Value;

/// What came of it, and whether the doctor had said that it would work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// The program's time has been delivered.
    Works { exact: bool, doctor: bool },
    /// A profile has, but another time.
    Wrong { what: String },
    /// gilscope has said why not, in one sentence.
    Refused { said: String, code: i32, doctor: bool },
}

/// Of what the program measured, this part may be missing or too much.
const EXACT: f64 = 0.02;
/// The same where the lock is looked at a thousand times a second, for less than a fifth of one: four standard deviations.
const SAMPLED: f64 = 0.25;

impl Cell {
    pub fn read(place: &Path, doctor: bool) -> Self {
        let read = |name: &str| fs::read_to_string(place.join(name)).unwrap_or_default();
        let code = read("code").trim().parse().expect("the script notes how gilscope ended");
        let said = read("said");
        if code != 0 {
            let error = said.lines().find_map(|line| line.strip_prefix("gilscope: error: "));
            let pid = said.lines().find_map(|line| line.strip_prefix("gilscope: looking at process "));
            let error = error.unwrap_or_else(|| panic!("no error is told: {said}"));
            return Self::Refused { said: without_ids(error, pid), code, doctor };
        }
        let profile: Value = serde_json::from_str(&read("profile.json")).expect("the report is JSON");
        let truth = read("truth");
        let mut truth = truth.split_whitespace().map(|word| word.parse::<f64>().expect("a number"));
        let (worker, computed) = (truth.next().expect("a thread id"), truth.next().expect("a time"));
        let exact = profile["exact"].as_bool().expect("it says whether it is exact");
        let (held, most) =
            if exact { (long_holds(&profile, worker), EXACT) } else { (held(&profile, worker), SAMPLED) };
        if (held / computed - 1.0).abs() <= most {
            return Self::Works { exact, doctor };
        }
        Self::Wrong { what: format!("{:.2} ms held, {:.2} ms computed", held / 1e6, computed / 1e6) }
    }

    /// Whether another attempt may come out better.
    pub const fn is_noisy(&self) -> bool {
        matches!(self, Self::Wrong { .. })
    }

    /// What is wrong with it, if anything.
    pub fn contradiction(&self) -> Option<String> {
        match self {
            Self::Wrong { what } => Some(what.clone()),
            Self::Works { doctor: false, .. } => Some("works, and the doctor said that it would not".to_owned()),
            Self::Refused { doctor: true, said, .. } => Some(format!("the doctor said that it works, but: {said}")),
            Self::Refused { code, said, .. } if ![1, 3].contains(code) => Some(format!("code {code}: {said}")),
            Self::Works { .. } | Self::Refused { .. } => None,
        }
    }

    /// What gilscope said where it does not work, and its exit code.
    pub fn words(&self) -> Option<String> {
        match self {
            Self::Refused { said, code, .. } => Some(format!("{said} (exit code {code})")),
            Self::Works { .. } | Self::Wrong { .. } => None,
        }
    }
}

/// The holds by which the program computed.
fn long_holds(profile: &Value, worker: f64) -> f64 {
    let holds = profile["long_holds"].as_array().expect("a list").iter();
    let durations = holds.filter(|hold| hold["tid"].as_f64() == Some(worker)).map(|hold| hold["duration_ns"].as_f64());
    durations.map(|duration| duration.expect("a number")).sum()
}

/// The worker's time inside.
fn held(profile: &Value, worker: f64) -> f64 {
    let mut threads = profile["threads"].as_array().expect("a list").iter();
    let states = threads.find(|thread| thread["tid"].as_f64() == Some(worker)).map(|thread| &thread["states_ns"]);
    let state = |name: &str| states.and_then(|states| states[name].as_f64()).unwrap_or_default();
    ["held_running", "held_preempted", "held_blocked"].map(state).iter().sum()
}

/// The same sentence whatever the process was.
fn without_ids(said: &str, pid: Option<&str>) -> String {
    let words = said.split(' ').map(|word| {
        let number = word.trim_end_matches([':', ',']);
        let is_id = pid == Some(number) || word.len() > 1 && number.parse::<u32>().is_ok_and(|number| number > 9);
        if is_id { word.replacen(number, "PID", 1) } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}
