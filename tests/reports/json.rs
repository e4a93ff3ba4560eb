//! The JSON profile: exactly the documented names, and the amounts of the profile.

use std::{fs, path::Path};

use gilscope::{
    model::{
        profile::ThreadProfile,
        state::{State, StateClass},
    },
    report::{Format, view::View},
};
use serde_json::Value;

use crate::{counters::measured_shop, nothing, render, render_only, support, total};

/// The fields of an object, in the order written.
fn fields(value: &Value) -> String {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(" ")
}

#[test]
fn the_json_profile_has_exactly_the_documented_fields() {
    let json: Value = serde_json::from_str(&render(&support::shop(), Format::Json, View::All)).unwrap();
    let states = "held_blocked held_preempted held_running outside_blocked outside_preempted outside_running unknown \
                  wait_handoff wait_queued";
    let expected = [
        (
            "",
            "backend blame counters counters_missing estimates event exact exactness fault_ns findings functions hold_sites holds_by_kind locks long_hold_threshold_ns long_holds matrix native parking processes quality ratios schema subprocesses target threads window_ns",
        ),
        ("/target", "command free_threaded inner_pid namespaces pid root runtime runtime_version"),
        (
            "/locks/0",
            "blamed_ns contended_ns counted forced_releases free_ns handoff_ns held_ns hold_ns holds id interpreter long_holds name switch_interval_ns \
             unknown_ns unseen wait_ns wait_total_ns wait_unknown_ns waits",
        ),
        ("/locks/0/hold_ns", "max p50 p90 p99"),
        ("/locks/0/wait_ns", "max p50 p90 p99"),
        (
            "/threads/0",
            "classes_ns counters forced_releases holds inner_tid lifetime_ns name ratios start_ns states_ns tid waits",
        ),
        ("/threads/0/states_ns", states),
        ("/blame/0", "holder_tid lock stack wait_ns waiter_tid"),
        ("/blame/0/stack/0", "file function kind line"),
        ("/matrix/0", "holders lock wait_ns waiters"),
        ("/hold_sites/0", "lock stack tally"),
        ("/hold_sites/0/tally", "contended_ns counters counters_per_hold forced held_ns holds longest_ns ratios"),
        ("/locks/0/unseen", "contended_ns counters counters_per_hold forced held_ns holds longest_ns ratios"),
        (
            "/long_holds/0",
            "detail duration_ns function kind lock object stack start_ns states_ns tid waited_ns waiters",
        ),
        ("/holds_by_kind/0", "caller detail function held_ns inflicted_wait_ns kind object"),
        ("/findings/0", "figures id remedy words"),
        ("/functions/0", "file function held_ns inflicted_wait_ns seen states_ns wait_ns"),
        ("/functions/0/states_ns", states),
        (
            "/quality",
            "invariants_broken lost_events notes overhead probe_cost_ns scheduler stack_failures stack_samples unknown_ns \
             unmatched_events",
        ),
    ];
    assert_eq!(fields(json.pointer("/quality/overhead").unwrap()), "budget duty own_cpu_ns share");
    for (place, names) in expected {
        assert_eq!(fields(json.pointer(place).unwrap()), names, "at `{place}`");
    }
    assert_eq!(json["schema"], "gilscope/1");
}

/// Every name in `value`, at any depth.
fn names(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(name, value)| std::iter::once(name.as_str()).chain(names(value))).collect()
        }
        Value::Array(values) => values.iter().flat_map(names).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_json_name_is_documented() {
    let mut profile = measured_shop();
    profile.gone.clear();
    let json: Value = serde_json::from_str(&render_only(&profile, Format::Json, View::All)).unwrap();
    let pages = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/output.md")).unwrap();
    for name in names(&json) {
        assert!(pages.contains(&format!("`{name}`")), "docs/output.md lacks `{name}`");
    }
}

fn inside(thread: &ThreadProfile) -> u64 {
    thread.states.class(StateClass::Inside).as_nanos()
}

#[test]
fn json_amounts_are_the_profiles() {
    let profile = support::shop();
    let json: Value = serde_json::from_str(&render(&profile, Format::Json, View::All)).unwrap();
    let sum = |list: &str, field: &str| -> u64 {
        json[list].as_array().unwrap().iter().map(|entry| entry.pointer(field).unwrap().as_u64().unwrap()).sum()
    };
    for state in State::ALL {
        let field = format!("/states_ns/{state}");
        assert_eq!(sum("threads", &field), total(&profile, state), "{state}");
        assert_eq!(sum("functions", &field), total(&profile, state), "{state} by function");
    }
    let lock = &json["locks"][0];
    assert_eq!(sum("blame", "/wait_ns"), lock["blamed_ns"].as_u64().unwrap());
    assert_eq!(sum("functions", "/inflicted_wait_ns"), lock["blamed_ns"].as_u64().unwrap());
    assert_eq!(sum("holds_by_kind", "/held_ns"), profile.threads.iter().map(inside).sum::<u64>());
    assert_eq!(sum("holds_by_kind", "/inflicted_wait_ns"), lock["blamed_ns"].as_u64().unwrap());
    for field in ["holds", "held_ns", "contended_ns"] {
        let unseen = lock["unseen"][field].as_u64().unwrap();
        let sites = sum("hold_sites", &format!("/tally/{field}"));
        assert_eq!(sum("functions", &format!("/seen/{field}")), sites, "{field}");
        assert_eq!(sites + unseen, lock[field].as_u64().unwrap(), "{field}");
    }
    assert_eq!(json["threads"][3]["name"], Value::Null);
    assert_eq!(json["threads"][0]["counters"], Value::Null);
}

#[test]
fn percentiles_of_nothing_are_null() {
    let json: Value = serde_json::from_str(&render_only(&nothing(), Format::Json, View::All)).unwrap();
    assert_eq!(json["locks"][0]["hold_ns"]["max"], Value::Null);
    assert_ne!(json["locks"][0]["wait_ns"]["max"], Value::Null);
}
