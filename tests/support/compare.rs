//! What a program's own calls measured against the states that a profile gives its threads.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::ops::RangeInclusive;

use serde_json::Value;

/// How far a state may be off, as a share of the thread's lifetime.
pub const TOLERANCE: f64 = 0.01;

/// No invariant is broken and nothing is lost.
pub fn assert_sound(profile: &Value, case: &str) {
    assert_eq!(profile["quality"]["invariants_broken"], Value::Array(Vec::new()), "{case}");
    assert_eq!(profile["quality"]["lost_events"], 0, "{case}");
    assert_eq!(profile["exact"], true, "{case}");
}

/// The calls' own measures against the thread's states. What lies between the calls is waiting, except that there, too, a
/// thread may be preempted while it still owns the lock or no longer does: `between.delay` says how much at the most, which
/// is next to nothing on a machine with a CPU to spare. And on a busy one, some of the run-queue delay is found in the wrong
/// sleep (docs/method.md): a tenth of the thread's own is allowed to be.
/// Nor does the CPU clock know what a hypervisor has `stolen`.
pub fn compare(profile: &Value, truth: &Value, stolen: f64) -> Vec<String> {
    let tid = &truth["tid"];
    let Some(thread) = thread(profile, tid) else { return vec![format!("there is no thread {tid}")] };
    let state = |name: &str| thread["states_ns"][name].as_f64().expect("a number");
    let measure = |kind: &str, field: &str| truth[kind][field].as_f64().expect("a number");
    let blocked = |kind| measure(kind, "wall") - measure(kind, "cpu") - measure(kind, "delay");
    let lifetime = thread["lifetime_ns"].as_f64().expect("a number");
    let waiting = lifetime - measure("held", "wall") - measure("released", "wall");
    let between = measure("between", "delay");
    let misplaced = 0.1 * (measure("held", "delay") + measure("released", "delay") + between);
    let expected = [
        ("held_running", state("held_running"), measure("held", "cpu"), 0.0..=0.0),
        ("held_preempted", state("held_preempted"), measure("held", "delay"), -misplaced..=between + misplaced),
        ("held_blocked", state("held_blocked"), blocked("held"), -misplaced..=misplaced),
        ("waiting", state("wait_queued") + state("wait_handoff"), waiting, -between..=0.0),
        ("outside_running", state("outside_running"), measure("released", "cpu"), 0.0..=0.0),
        (
            "outside_preempted",
            state("outside_preempted"),
            measure("released", "delay"),
            -misplaced..=between + misplaced,
        ),
        ("outside_blocked", state("outside_blocked"), blocked("released"), -misplaced..=misplaced),
    ];
    let fault = |(name, found, expected, extra): (&str, f64, f64, RangeInclusive<f64>)| {
        let (least, most) = (expected + extra.start() - stolen, expected + extra.end() + stolen);
        let off = (found - found.clamp(least, most.max(least))) / lifetime;
        let percent = off * 100.0;
        let text = format!("{tid}: {name} is {found}, not {least} to {most}: {percent:.2} % of the life");
        (off.abs() >= TOLERANCE).then_some(text)
    };
    expected.into_iter().filter_map(fault).collect()
}

fn thread<'a>(profile: &'a Value, tid: &Value) -> Option<&'a Value> {
    profile["threads"].as_array()?.iter().find(|thread| thread["tid"] == *tid)
}
