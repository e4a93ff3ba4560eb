//! A profile against the truth, with what the truth itself leaves open.
//!
//! What an observer from outside must see differently (docs/toyvm.md):
//! - A thread exists before its first note and after its last. The profile has it for longer, in the states outside.
//! - In an attachment the recording begins somewhere in the pause before the first statement.
//! - A voluntary release on which somebody had asked for the lock (it yields, or ends a hold longer than a switch
//!   interval), and after which the thread asks for it again without having slept, looks like a forced one: what follows is
//!   then a wait, beginning at the release.
//! - The kernel bills a switch to the thread, which the records do not show: up to two microseconds a sleep. A thread has
//!   about as many sleeps as holds.
//! - The truth reads its clock before the call: a tenth of a microsecond, and some microseconds when the thread has not run
//!   for a while. (Should it lose its CPU in between, the two differ by milliseconds; that is rare, and never the same in
//!   another run.)
//! - The border between blocked and preempted is inferred (docs/method.md). The two are always compared together; each by
//!   itself, too, unless the thread sleeps many times between two readings of its run-queue delay. Half of what the truth
//!   says it has waited for a CPU may then be in the wrong place: next to nothing, but for a busy machine.
//! - What a hypervisor has stolen looks like computing, of which a forced release bears little.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use serde_json::Value;

use crate::profiled::{Profiled, Way};

/// How far a state may be off, as a share of the thread's lifetime; blame, as a share of all blame.
const TOLERANCE: f64 = 0.01;
const HELD_TOLERANCE: f64 = 0.005;
/// Between the truth's reading of the clock and the call, and the same after a while off the CPU.
const STAMP: f64 = 250.0;
const COLD_STAMP: f64 = 12_000.0;
/// A switch, as the kernel bills it.
const SWITCH: f64 = 2_000.0;
const WHILE: u64 = 1_000_000;
/// A thread whose holds come at shorter intervals than that sleeps often between two readings.
const INTERVAL: f64 = 1_000_000.0;
/// A longer sleep cannot be taken for a yield's.
const SUSPENSE: u64 = 5_000_000;
/// A hypervisor takes a CPU away for that long at the least.
const TAKEN: f64 = 1_000_000.0;

/// What was found, in words for a table; faults are what was off by more than allowed.
pub struct Comparison {
    pub faults: Vec<String>,
    stolen: f64,
    state: (f64, String),
    held: f64,
    blame: f64,
    forced: (i64, i64),
    waits: (i64, i64),
}

/// What one thread's events say beyond its sums.
#[derive(Debug, Default)]
struct Open {
    /// Voluntary releases that somebody had asked for.
    asked: i64,
    /// The time from such a release until the thread asks for the lock again.
    suspense: u64,
    /// What may lie between all its acquisitions and the calls, in nanoseconds.
    stamps: f64,
    last: u64,
}

impl Comparison {
    pub const HEADING: &str = "worst state                                       held      blame     forced     waits";

    /// Allows for as much time as has been `stolen`.
    pub fn of(run: &Profiled, way: Way, stolen: f64) -> Self {
        let mut comparison = Self {
            faults: Vec::new(),
            stolen,
            state: (0.0, String::new()),
            held: 0.0,
            blame: 0.0,
            forced: (0, 0),
            waits: (0, 0),
        };
        comparison.check_quality(&run.profile);
        let open = open_questions(&run.truth);
        for truth in list(&run.truth, "threads") {
            let Some(found) = list(&run.profile, "threads").iter().find(|found| found["tid"] == truth["tid"]) else {
                comparison.faults.push(format!("no thread {}", truth["tid"]));
                continue;
            };
            let open = &open[&number(truth, "tid")];
            comparison.check_states(found, truth, open, pause(truth, run, way));
            comparison.check_counts(found, truth, open);
        }
        let stamps = open.values().map(|open| open.stamps).sum();
        comparison.check_lock(&run.profile["locks"][0], &run.truth["locks"][0], stamps);
        comparison.check_blame(run, open.values().map(|open| open.suspense).sum(), stamps);
        comparison
    }

    fn expect(&mut self, what: &str, found: f64, allowed: RangeInclusive<f64>) {
        if !allowed.contains(&found) {
            self.faults.push(format!("{what} is {found}, not within {} and {}", allowed.start(), allowed.end()));
        }
    }

    fn check_quality(&mut self, profile: &Value) {
        let quality = &profile["quality"];
        for amount in ["lost_events", "unmatched_events", "unknown_ns"] {
            self.expect(amount, amount_of(quality, amount), 0.0..=0.0);
        }
        if quality["invariants_broken"] != Value::Array(Vec::new()) {
            self.faults.push(format!("invariants broken: {}", quality["invariants_broken"]));
        }
    }

    /// `pause`: how much of the thread's life the recording may have missed.
    fn check_states(&mut self, found: &Value, truth: &Value, open: &Open, pause: f64) {
        let lifetime = amount_of(truth, "lifetime_ns");
        let extra = (amount_of(found, "lifetime_ns") - lifetime + pause).max(0.0);
        let suspense = open.suspense as f64;
        for group in groups(truth) {
            let sum = |of: &Value| group.iter().map(|state| amount_of(&of["states_ns"], state)).sum::<f64>();
            let off = sum(found) - sum(truth);
            let misplaced = if group.len() == 1 { misplaced(truth, group[0]) } else { 0.0 };
            let switches = SWITCH * amount_of(truth, "holds");
            let explained = match group[0] {
                "held_running" => -switches..=0.0,
                "outside_running" => -suspense - switches..=extra,
                "outside_blocked" => -suspense - pause - misplaced..=extra + misplaced + switches,
                "outside_preempted" => -suspense - misplaced..=extra + misplaced + switches,
                "wait_queued" | "wait_handoff" => 0.0..=suspense,
                "unknown" => 0.0..=0.0,
                _ => -misplaced..=misplaced + switches,
            };
            let stolen = if group[0] == "unknown" { 0.0 } else { self.stolen };
            let share = (off - off.clamp(explained.start() - stolen, explained.end() + stolen)) / lifetime;
            let what = format!("{} of {}", group.join("+"), truth["name"]);
            if share.abs() > self.state.0.abs() {
                self.state = (share, what.clone());
            }
            self.expect(&what, share, -TOLERANCE..=TOLERANCE);
        }
    }

    /// A release misjudged may make a wait, or unmake one.
    fn check_counts(&mut self, found: &Value, truth: &Value, open: &Open) {
        let count = |field| (number(found, field), number(truth, field));
        let (forced, waits) = (count("forced_releases"), count("waits"));
        self.forced = (self.forced.0 + forced.0, self.forced.1 + forced.1);
        self.waits = (self.waits.0 + waits.0, self.waits.1 + waits.1);
        let who = format!("of {}", truth["name"]);
        self.expect(&format!("holds {who}"), (count("holds").0 - count("holds").1) as f64, 0.0..=0.0);
        let missed = forced.0 - forced.1;
        let most_missed = forced.1 / 20 + 1;
        let most_missed = most_missed as f64 + self.stolen / TAKEN;
        self.expect(&format!("forced {who}"), missed as f64, -most_missed..=open.asked as f64);
        let misjudged = (missed.abs() + 2 * open.asked) as f64;
        self.expect(&format!("waits {who}"), (waits.0 - waits.1) as f64, -misjudged..=misjudged);
    }

    fn check_lock(&mut self, found: &Value, truth: &Value, stamps: f64) {
        let held = amount_of(truth, "held_ns");
        let off = amount_of(found, "held_ns") - held;
        self.held = off / held;
        let allowed = HELD_TOLERANCE * held + stamps;
        self.expect("held", off, -allowed..=allowed);
    }

    fn check_blame(&mut self, run: &Profiled, suspense: u64, stamps: f64) {
        let (found, truth) = (blame(&run.profile), blame(&run.truth));
        let total = truth.values().sum::<f64>();
        for pair in found.keys().chain(truth.keys()) {
            let of = |blame: &BTreeMap<_, f64>| blame.get(pair).copied().unwrap_or(0.0);
            let off = of(&found) - of(&truth);
            let share = if total > 0.0 { off / total } else { 0.0 };
            if share.abs() > self.blame.abs() {
                self.blame = share;
            }
            let allowed = TOLERANCE * total + stamps + self.stolen;
            self.expect(&format!("blame {pair:?}"), off, -allowed..=allowed + suspense as f64);
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:+.3} %", share * 100.0);
        let of = |(found, truth): (i64, i64)| format!("{found}/{truth}");
        let state = format!("{} {}", percent(self.state.0), self.state.1);
        let (held, blame) = (percent(self.held), percent(self.blame));
        write!(f, "{state:<47} {held:>9} {blame:>9} {:>9} {:>9}", of(self.forced), of(self.waits))
    }
}

/// The states that are compared, one by one as far as possible.
fn groups(truth: &Value) -> Vec<Vec<&'static str>> {
    let mut groups = vec![vec!["held_blocked", "held_preempted"], vec!["outside_blocked", "outside_preempted"]];
    groups
        .extend(["held_running", "wait_queued", "wait_handoff", "outside_running", "unknown"].map(|state| vec![state]));
    let often = amount_of(truth, "holds") * INTERVAL > amount_of(truth, "lifetime_ns");
    if !often {
        let split = ["held_blocked", "held_preempted", "outside_blocked", "outside_preempted"];
        groups.extend(split.map(|state| vec![state]));
    }
    groups
}

/// How much of a state may be in another one, since the latency of a sleep is inferred.
fn misplaced(truth: &Value, state: &str) -> f64 {
    let inferred = state.ends_with("blocked") || state.ends_with("preempted");
    if inferred { 0.5 * amount_of(truth, "run_queue_delay_ns") } else { 0.0 }
}

/// The pause before the first statement, of which the recording of an attachment sees some.
fn pause(thread: &Value, run: &Profiled, way: Way) -> f64 {
    if way.attaches() && thread["name"] == "<main>" {
        amount_of(&run.truth, "go_ns") - amount_of(&run.truth, "ready_ns")
    } else {
        0.0
    }
}

/// For each thread, the releases that look forced but are not.
fn open_questions(truth: &Value) -> BTreeMap<i64, Open> {
    let mut open: BTreeMap<i64, Open> = BTreeMap::new();
    let interval = truth["switch_interval_ns"].as_u64().unwrap();
    let mut voluntary: BTreeMap<i64, u64> = BTreeMap::new();
    let mut asked: BTreeMap<i64, u64> = BTreeMap::new();
    for event in list(truth, "events") {
        let (tid, at) = (number(event, "tid"), event["at_ns"].as_u64().unwrap());
        let entry = open.entry(tid).or_default();
        if event["step"] == "acquired" {
            entry.stamps += if at - entry.last > WHILE { COLD_STAMP } else { STAMP };
        }
        let since_last = at - std::mem::replace(&mut entry.last, at);
        match event["step"].as_str().unwrap() {
            "released" if event["forced"] == true => {}
            "released" if since_last >= interval => drop(asked.insert(tid, at)),
            "released" => drop(voluntary.insert(tid, at)),
            "yielded" => asked.extend(voluntary.remove(&tid).map(|since| (tid, since))),
            "want" | "acquired" => {
                voluntary.remove(&tid);
                let since = asked.remove(&tid);
                entry.asked += i64::from(since.is_some());
                entry.suspense += since.map_or(0, |since| at - since).min(SUSPENSE);
            }
            _ => {}
        }
    }
    open
}

fn blame(document: &Value) -> BTreeMap<(i64, i64), f64> {
    let mut pairs = BTreeMap::new();
    for entry in list(document, "blame") {
        let pair = (number(entry, "waiter_tid"), number(entry, "holder_tid"));
        *pairs.entry(pair).or_default() += amount_of(entry, "wait_ns");
    }
    pairs
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().unwrap()
}

fn number(value: &Value, field: &str) -> i64 {
    value[field].as_i64().unwrap_or_else(|| panic!("{field} in {value}"))
}

fn amount_of(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_else(|| panic!("{field} in {value}"))
}
