//! Blame by function against the truth: the holder's long holds are, in turn, those of `short`, `middle` and `long`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::profiled::Profiled;

/// How far a culprit may be off, as a share of what it inflicted; what the innocent may be charged, as a share of all.
const TOLERANCE: f64 = 0.01;
const SPILLED: f64 = 0.001;
/// The holder's holds in between are far shorter.
const SHORTEST: u64 = 10_000_000;

/// From when to when, of a hold or a wait.
type Span = (u64, u64);

/// What is wrong in one run, with what was measured.
pub fn faults(run: &Profiled) -> Vec<String> {
    let (charged, inflicted) = (charged(run), inflicted(&run.truth));
    let of = |name: &str| charged.get(name).copied().unwrap_or(0.0);
    let mut faults = Vec::new();
    for (name, inflicted) in &inflicted {
        let off = of(name) / inflicted - 1.0;
        println!("    {name} inflicted {inflicted:.0} ns, off by {:.2} %", off * 100.0);
        if off.abs() >= TOLERANCE {
            faults.push(format!("{name} is off by {off}"));
        }
    }
    let spilled = of("innocent") / inflicted.values().sum::<f64>();
    if spilled >= SPILLED {
        faults.push(format!("{spilled} of all blame is on the innocent"));
    }
    faults
}

/// What the waiters waited, by the innermost function of whoever they waited for.
fn charged(run: &Profiled) -> BTreeMap<String, f64> {
    let waiters = tids(&run.truth, "waiter");
    let mut charged = BTreeMap::new();
    for entry in run.profile["blame"].as_array().unwrap() {
        let frames = entry["stack"].as_array().unwrap();
        let innermost =
            frames.iter().rfind(|frame| frame["kind"] != "kernel").and_then(|frame| frame["function"].as_str());
        if let (true, Some(function)) = (waiters.contains(&entry["waiter_tid"]), innermost) {
            *charged.entry(function.to_owned()).or_default() += entry["wait_ns"].as_f64().unwrap();
        }
    }
    charged
}

fn inflicted(truth: &Value) -> BTreeMap<&'static str, f64> {
    let holder = &tids(truth, "holder")[0];
    let holds = spans(truth, holder, ["acquired", "released"]);
    let long = holds.into_iter().filter(|(begun, ended)| ended - begun >= SHORTEST);
    let waits: Vec<Span> =
        tids(truth, "waiter").iter().flat_map(|tid| spans(truth, tid, ["want", "acquired"])).collect();
    let mut inflicted = BTreeMap::new();
    for (name, hold) in ["short", "middle", "long"].into_iter().cycle().zip(long) {
        let waited = waits.iter().map(|wait| wait.1.min(hold.1).saturating_sub(wait.0.max(hold.0))).sum::<u64>();
        *inflicted.entry(name).or_default() += waited as f64;
    }
    assert_eq!(inflicted.len(), 3, "the holder has long holds");
    inflicted
}

fn tids(truth: &Value, name: &str) -> Vec<Value> {
    let threads = truth["threads"].as_array().unwrap().iter();
    threads.filter(|thread| thread["name"] == name).map(|thread| thread["tid"].clone()).collect()
}

/// From each `first` step of the thread to the next `last` one.
fn spans(truth: &Value, tid: &Value, [first, last]: [&str; 2]) -> Vec<Span> {
    let (mut spans, mut begun) = (Vec::new(), None);
    for event in truth["events"].as_array().unwrap().iter().filter(|event| event["tid"] == *tid) {
        let at = event["at_ns"].as_u64();
        if event["step"] == first {
            begun = begun.or(at);
        } else if event["step"] == last {
            spans.extend(begun.take().zip(at));
        }
    }
    spans
}
