//! What was counted beside time: in the summary and in JSON, by class and by hold; what is not known is not told.

use gilscope::{
    model::{
        counts::{ClassCounts, CountedPlace, Counter, Counters, Counts, GoneEvent, Meaning, Measured, Slot},
        profile::Profile,
        state::StateClass,
    },
    report::{Format, Report, text::Text, view::View},
};
use serde_json::Value;

use crate::{render_only, support};

#[test]
fn counters_are_told_by_class_and_unknown_ones_are_not() {
    let mut profile = support::shop();
    assert!(!render_only(&profile, Format::Text, View::All).contains("minor-faults"));
    profile.counters = Counters::these(&[Counter::TaskClock, Counter::MinorFaults]);
    let mut counts = ClassCounts::default();
    counts.class_mut(StateClass::Inside).add(Counter::MinorFaults, 1_234);
    counts.class_mut(StateClass::Waiting).add(Counter::TaskClock, 5_000_000);
    profile.threads.iter_mut().for_each(|thread| thread.counts = Some(counts));
    let all = profile.threads.len() as u64;
    let text = render_only(&profile, Format::Text, View::All);
    let row = text.lines().find(|line| line.contains("minor-faults")).unwrap();
    let inside: String = row.split('│').nth(2).unwrap().split_whitespace().collect();
    assert_eq!(inside, (1_234 * all).to_string());
    assert!(!text.contains("context-switches"), "{text}");
    let json: Value = serde_json::from_str(&render_only(&profile, Format::Json, View::All)).unwrap();
    assert_eq!(json["counters"], serde_json::json!(["task-clock", "minor-faults"]));
    let expected = serde_json::json!({"task-clock": 5_000_000, "minor-faults": 0});
    assert_eq!(json["threads"][0]["counters"]["waiting"], expected);
    profile.threads[1].counts = None;
    let json: Value = serde_json::from_str(&render_only(&profile, Format::Json, View::All)).unwrap();
    assert_eq!(json["threads"][1]["counters"], Value::Null);
    assert_eq!(json["hold_sites"][0]["tally"]["counters"], Value::Null);
    assert!(render_only(&profile, Format::Text, View::All).contains("Counters: unknown"));
}

const EVENTS: [(&str, Meaning); 4] = [
    ("cycles", Meaning::Cycles),
    ("instructions", Meaning::Instructions),
    ("cache-misses", Meaning::CacheMisses),
    ("branch-misses", Meaning::BranchMisses),
];

/// So many cycles at an IPC of 0.4, with 31 cache misses and 2 branch misses in a thousand instructions.
fn memory_bound(cycles: u64) -> Counts {
    let mut counts = Counts::default();
    let instructions = cycles * 2 / 5;
    let numbers = [cycles, instructions, instructions * 31 / 1000, instructions / 500];
    let slots = Slot::all().zip(numbers);
    slots.for_each(|(slot, number)| counts.add(Counter::Measured(slot), number));
    counts.add(Counter::MinorFaults, 3_000);
    counts
}

/// The shop on a processor that counts: inside it waits for memory.
pub(super) fn measured_shop() -> Profile {
    let mut profile = support::shop();
    let event = |(name, meaning): (&str, _)| Measured {
        name: name.to_owned(),
        meaning: Some(meaning),
        place: CountedPlace::Everywhere,
    };
    profile.measured = EVENTS.map(event).into();
    profile.counters = Counters::these(&Counter::OWN).with(Counters::measured(EVENTS.len()));
    let gone = |name: &str, why: &str| GoneEvent { name: name.to_owned(), why: why.to_owned() };
    profile.gone = vec![gone("r1", "no such thing"), gone("ref-cycles", "no room"), gone("r2", "no such thing")];
    let mut counts = ClassCounts::default();
    *counts.class_mut(StateClass::Inside) = memory_bound(2_500_000_000);
    counts.class_mut(StateClass::Outside).add(Counter::Measured(Slot::at(0).unwrap()), 1_000_000);
    counts.class_mut(StateClass::Outside).add(Counter::Measured(Slot::at(1).unwrap()), 2_100_000);
    profile.threads.iter_mut().for_each(|thread| thread.counts = Some(counts));
    profile.hold_sites.iter_mut().for_each(|site| site.tally.counts = memory_bound(site.tally.holds * 1_000_000));
    profile
}

/// The cells of the first line that contains `word`, after the heading `title`.
fn cells<'a>(text: &'a str, title: &str, word: &str) -> Vec<&'a str> {
    let (_, section) = text.split_once(title).unwrap_or_else(|| panic!("no `{title}` in:\n{text}"));
    let line = section.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no `{word}` in {section}"));
    line.trim_matches('│').split('│').map(str::trim).collect()
}

#[test]
fn what_events_say_is_in_the_text_at_any_width() {
    for width in [80, 100, 120, 160] {
        let mut bytes = Vec::new();
        Text::fitting(width).write(&measured_shop(), &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let mut rows = text.lines().filter(|line| line.starts_with('│'));
        assert!(rows.all(|row| row.chars().count() <= width.into()), "wider than {width}:\n{text}");
        assert_eq!(cells(&text, "Counters", "IPC")[1..5], ["0.40", "–", "2.1", "–"]);
        assert_eq!(cells(&text, "Counters", "cache misses")[1], "31", "{text}");
        assert_eq!(cells(&text, "Counters", "│ cycles")[1], "10.0 G", "{text}");
        let thread = cells(&text, "Threads by time on the CPUs", "worker-1");
        assert_eq!((thread[1], thread[3], thread[4]), ("inside", "0.40", "31"), "{text}");
        let function = cells(&text, "Functions by cycles inside", "_expand");
        assert_eq!(function[..4], ["2 100", "1.00 M", "0.40", "31"], "{text}");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let gone = "Not counted: r1, r2: no such thing; ref-cycles: no room What";
        assert!(words.contains(gone), "{text}");
    }
}

#[test]
fn what_events_say_is_in_the_json_by_class_and_by_hold() {
    let profile = measured_shop();
    let json: Value = serde_json::from_str(&render_only(&profile, Format::Json, View::All)).unwrap();
    let inside = serde_json::json!({
        "ipc": 0.4,
        "cache_misses_per_1000_instructions": 31.0,
        "cache_miss_rate": null,
        "branch_misses_per_1000_instructions": 2.0,
        "stalled_share": null,
    });
    assert_eq!((&json["ratios"]["inside"], &json["threads"][0]["ratios"]["inside"]), (&inside, &inside));
    assert_eq!(json["threads"][0]["ratios"]["outside"]["ipc"], 2.1);
    assert_eq!(json["threads"][0]["ratios"]["waiting"]["ipc"], Value::Null, "no cycle, no relation");
    let site = &json["hold_sites"][0]["tally"];
    assert_eq!((&site["ratios"], &site["counters_per_hold"]["cycles"]), (&inside, &1_000_000.0.into()));
    let function = json["functions"].as_array().unwrap().iter().find(|it| it["seen"]["holds"] == 2_100).unwrap();
    assert_eq!(function["seen"]["counters"]["minor-faults"], 3_000);
    assert_eq!((&function["seen"]["ratios"], &json["locks"][0]["unseen"]["ratios"]["ipc"]), (&inside, &Value::Null));
    let missing = serde_json::json!({"r1": "no such thing", "ref-cycles": "no room", "r2": "no such thing"});
    assert_eq!(json["counters_missing"], missing);
    let found = json["findings"].as_array().unwrap().iter().find(|finding| finding["id"] == "memory_bound_inside");
    assert_eq!(found.unwrap()["figures"]["cache_misses_per_1000_instructions"], 31.0);
}

#[test]
fn without_any_counter_what_is_missing_is_told_alone() {
    let mut profile = measured_shop();
    (profile.counters, profile.measured) = (Counters::default(), Vec::new());
    let text = render_only(&profile, Format::Text, View::All);
    assert!(text.contains("\n\nNot counted: r1, r2: no such thing; ref-cycles: no room\n\n"), "{text}");
    assert!(!text.contains("\nCounters"), "{text}");
    profile.counters = Counters::these(&[Counter::TaskClock, Counter::Migrations]);
    let text = render_only(&profile, Format::Text, View::All);
    assert!(text.contains("; counted instead: task-clock,"), "{text}");
}

#[test]
fn an_event_that_stood_still_for_one_thread_is_unknown() {
    let mut profile = measured_shop();
    let mut counts = profile.threads[0].counts.unwrap();
    counts.miss(Counters::these(&[Counter::Measured(Slot::at(1).unwrap())]));
    profile.threads[0].counts = Some(counts);
    let json: Value = serde_json::from_str(&render_only(&profile, Format::Json, View::All)).unwrap();
    assert_eq!(json["threads"][0]["ratios"]["inside"]["ipc"], Value::Null);
    assert_eq!(json["threads"][1]["ratios"]["inside"]["ipc"], 0.4);
    assert_eq!(json["ratios"]["inside"]["ipc"], Value::Null);
    assert_eq!(json["hold_sites"][0]["tally"]["ratios"]["ipc"], Value::Null);
    assert_eq!(json["hold_sites"][0]["tally"]["counters_per_hold"]["cycles"], 1_000_000.0);
    let text = render_only(&profile, Format::Text, View::All);
    assert_eq!(cells(&text, "Counters", "instructions")[1], "unknown", "{text}");
    assert!(!text.contains("IPC"), "{text}");
}

#[test]
fn functions_are_sorted_by_an_event_without_a_meaning_too() {
    let mut profile = measured_shop();
    profile.measured[0] = Measured { name: "r1a8".to_owned(), meaning: None, place: CountedPlace::Program };
    profile.counters = Counters::these(&[Counter::MinorFaults]).with(Counters::measured(1));
    let text = render_only(&profile, Format::Text, View::All);
    let function = cells(&text, "Functions by r1a8 inside", "parse_request");
    assert_eq!(function[..3], ["1 083", "1.08 G", "3 000"], "{text}");
}
