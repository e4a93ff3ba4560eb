//! Callbacks: script calls machine code, which calls script, which calls machine code.

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    keepers::mystery,
    live::{
        interpreters::some_interpreters,
        libraries::build,
        privilege::may_use_uprobes,
        profiled::{Outcome, Stage, Way},
        stolen::lasting_faults,
    },
};

/// Of stacks joined, how many may have native frames at their inner end only.
const UNFIT: f64 = 0.01;
const ATTEMPTS: u32 = 5;
/// What calls back, and what of another object than the interpreter must be seen in between.
const CALLBACKS: [(&str, Option<&str>); 5] =
    [("by_sorted", None), ("by_reduce", None), ("by_map", None), ("by_sub", None), ("by_qsort", Some("qsort"))];
const INNER: [&str; 3] = ["outer_c", "middle_c", "inner_c"];

#[test]
fn callbacks_are_in_order() {
    if !may_use_uprobes() {
        return;
    }
    let stage = Stage::new();
    let Some(library) = build("keeper.c", stage.folder(), &["-g"]) else { return };
    let script = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/native/nested.py"));
    let mut lasting = Vec::new();
    for interpreter in some_interpreters() {
        let run = || stage.run(Way::Attach, &interpreter, &[script.clone(), library.clone()], &[]).unwrap();
        lasting.extend(lasting_faults(ATTEMPTS, run, |outcome, _stolen| {
            let mut faults = order_faults(&outcome, &interpreter.name);
            faults.extend(mystery(&outcome));
            faults.extend(fit_fault(&outcome, &interpreter.name));
            faults
        }));
    }
    assert!(lasting.is_empty(), "{}", lasting.join("\n"));
}

fn fit_fault(outcome: &Outcome, name: &str) -> Option<String> {
    let [joined, unfit, all] = outcome.joined().unwrap();
    println!("{name}: {joined} of {all} joined, {unfit} ({:.2} %) at the inner end only", unfit / joined * 100.0);
    (unfit > UNFIT * joined).then(|| format!("{name}: {unfit} of {joined} do not fit"))
}

/// Whoever waits while the innermost function spins waits for a stack with everything in order.
fn order_faults(outcome: &Outcome, name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (caller, between) in CALLBACKS {
        let leaf = caller.replace("by", "leaf");
        let mut seen = 0;
        for blame in outcome.profile["blame"].as_array().unwrap() {
            let stack = blame["stack"].as_array().unwrap();
            let place = |function: &str| place(stack, function);
            if place(INNER[2]).is_none() || place(&leaf).is_none() {
                continue;
            }
            seen += 1;
            let wanted = [Some(caller), between, Some(&leaf)].into_iter().flatten().chain(INNER);
            let places: Option<Vec<usize>> = wanted.map(place).collect();
            if !places.is_some_and(|places| places.is_sorted()) || !is_alone(stack, (caller, &leaf), between) {
                faults.push(format!("{name} {caller}: {stack:?}"));
            }
        }
        println!("{name} {caller}: {seen} stacks in order");
        if seen == 0 {
            faults.push(format!("{name} {caller}: not seen"));
        }
    }
    faults
}

/// Where the interpreter itself calls back there is nothing in between, else no script.
fn is_alone(stack: &[Value], (caller, leaf): (&str, &str), between: Option<&str>) -> bool {
    let Some((caller, leaf)) = place(stack, caller).zip(place(stack, leaf)) else { return false };
    let Some(inside) = stack.get(caller + 1..leaf) else { return false };
    // `functools` and `re` have functions of their own in script.
    let is_other = |frame: &Value| frame["kind"] == "native" && between.is_none();
    let is_callback = |frame: &Value| between.is_some() && frame["kind"] == "script";
    !inside.iter().any(|frame| is_other(frame) || is_callback(frame))
}

/// Where a function is. One of the C library may have jumped to a variant of itself.
fn place(stack: &[Value], function: &str) -> Option<usize> {
    let is_it = |name: &str| name == function || (function == "qsort" && name.trim_start_matches('_') == "qsort_r");
    stack.iter().position(|frame| frame["function"].as_str().is_some_and(is_it))
}
