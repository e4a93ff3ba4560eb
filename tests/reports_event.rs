//! Reports of a profile with samples of an event, against its own totals.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use gilscope::{
    model::{
        counts::GoneEvent,
        profile::Profile,
        sampled_event::{EventProfile, EventRow, EventSums, EventUnit, Pace, SampledEvent},
        state::StateClass,
    },
    report::{Format, view::View},
};
use serde_json::Value;

/// The profile of a shop whose threads touched pages at stacks that it has.
fn shop() -> Profile {
    let mut profile = support::shop();
    let stacks: Vec<_> = profile.threads.iter().flat_map(|thread| &thread.stacks).map(|part| part.stack).collect();
    let row = |class, stack: usize, weight| EventRow { class, stack: stacks[stack], weight };
    let rows = vec![
        row(StateClass::Inside, 0, 12_000),
        row(StateClass::Outside, 0, 5_000),
        row(StateClass::Inside, stacks.len() - 1, 900),
        row(StateClass::Unknown, 1, 100),
    ];
    let event = SampledEvent {
        name: "page-faults".to_owned(),
        unit: EventUnit::Times,
        pace: Pace::Period(100),
        instead_of: None,
    };
    let sums = EventSums { samples: 180, without_stack: 0, rows };
    profile.event = Some(EventProfile { event, sums, counted: Some(18_044) });
    profile
}

/// The same where time stands in for what the machine cannot count.
fn stood_in() -> Profile {
    let mut profile = shop();
    let event = profile.event.as_mut().unwrap();
    let instead_of = Some(GoneEvent { name: "cycles".to_owned(), why: "there is no PMU".to_owned() });
    event.event =
        SampledEvent { name: "task-clock".to_owned(), unit: EventUnit::Nanos, pace: Pace::Frequency(999), instead_of };
    profile
}

fn render(profile: &Profile, format: Format) -> String {
    let mut bytes = Vec::new();
    format.report(View::Event).write(profile, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn the_picture_is_as_wide_as_the_event_was_frequent() {
    let svg = render(&shop(), Format::Svg);
    for words in
        ["inside (12,900 page-faults, 71.67%)", "outside (5,000 page-faults, 27.78%)", "unknown (100 page-faults, "]
    {
        assert!(svg.contains(&format!("<title>{words}")), "{words}");
    }
    assert!(
        svg.contains("gilscope: page-faults by state") && svg.contains("180 samples of page-faults, 18 000 in all")
    );
    assert!(!svg.contains("held_running"));
}

#[test]
fn time_that_stands_in_is_shown_as_time_and_said_to() {
    let svg = render(&stood_in(), Format::Svg);
    assert!(svg.contains("<title>inside (12.9 µs, 71.67%)"));
    assert!(svg.contains("task-clock, since cycles cannot be sampled here, by state"));
    let text = render(&stood_in(), Format::Text);
    assert!(text.contains("task-clock (in place of cycles: there is no PMU), sampled 999 times a second"), "{text}");
}

#[test]
fn folded_lines_add_up_to_what_was_sampled() {
    let folded = render(&shop(), Format::Folded);
    let of = |class: &str| -> u64 {
        let lines = folded.lines().filter_map(|line| line.split_once(&format!(" [{class}] ")));
        lines.map(|(_, amount)| amount.parse::<u64>().unwrap()).sum()
    };
    assert_eq!(["inside", "waiting", "outside", "unknown"].map(of), [12_900, 0, 5_000, 100]);
}

#[test]
fn without_an_event_the_view_shows_all() {
    let profile = support::shop();
    let all = |format: Format| {
        let mut bytes = Vec::new();
        format.report(View::All).write(&profile, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    for format in [Format::Svg, Format::Folded] {
        assert!(render(&profile, format) == all(format), "{format} differs");
    }
}

#[test]
fn the_text_tells_classes_and_functions() {
    let text = render(&shop(), Format::Text);
    let heading = "page-faults, every 100th sampled: 180 samples stand for 18 000; the kernel counted 18 044";
    let (_, section) = text.split_once(heading).unwrap_or_else(|| panic!("{text}"));
    let all = section.lines().find(|line| line.contains("(all)")).unwrap();
    let cells: Vec<&str> = all.split('│').map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells, ["12 900", "72 %", "0", "5 000", "100", "(all)"]);
}

#[test]
fn every_json_name_of_it_is_documented_and_the_amounts_are_its_own() {
    let json: Value = serde_json::from_str(&render(&stood_in(), Format::Json)).unwrap();
    let event = &json["event"];
    let pages = std::fs::read_to_string("docs/output.md").unwrap();
    for name in event.as_object().unwrap().keys().chain(event["stacks"][0].as_object().unwrap().keys()) {
        assert!(pages.contains(&format!("`{name}`")), "docs/output.md lacks `{name}`");
    }
    assert_eq!(
        (&event["instead_of"], &event["period"], &event["frequency_hz"]),
        (&"cycles".into(), &Value::Null, &999.into())
    );
    let sum = |amounts: &mut dyn Iterator<Item = &Value>| amounts.map(|amount| amount.as_u64().unwrap()).sum::<u64>();
    let by_stack = sum(&mut event["stacks"].as_array().unwrap().iter().map(|stack| &stack["sampled"]));
    let by_class = sum(&mut event["classes"].as_object().unwrap().values());
    assert_eq!((by_stack, by_class, event["sampled"].as_u64()), (18_000, 18_000, Some(18_000)));
}
