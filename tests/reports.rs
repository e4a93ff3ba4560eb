//! Reports of a profile made by hand, against its own totals. Rendered files stay in the test folder of `target` for
//! a look at them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::HashMap, fs, path::Path};

use gilscope::{
    model::{
        counts::{ClassCounts, CountedPlace, Counter, Counters, Counts, GoneEvent, Meaning, Measured, Slot},
        profile::{Blame, Profile, StackTime, ThreadProfile},
        stack::{Frame, FrameKind, StackTable},
        state::{State, StateClass, StateTimes},
        time::Nanos,
    },
    report::{Format, Report, text::Text, view::View},
};
use serde_json::Value;

fn render(profile: &Profile, format: Format, view: View) -> String {
    let text = render_only(profile, format, view);
    let name = format!("shop-{view}.{}", format.extensions()[0]);
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), &text).unwrap();
    text
}

fn render_only(profile: &Profile, format: Format, view: View) -> String {
    let mut bytes = Vec::new();
    format.report(view).write(profile, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn total(profile: &Profile, state: State) -> u64 {
    profile.threads.iter().map(|thread| thread.states.get(state).as_nanos()).sum()
}

/// `shop` with everything that could have happened taken out.
fn nothing() -> Profile {
    let mut profile = support::shop();
    profile.threads.clear();
    profile.blame.clear();
    profile.long_holds.clear();
    profile.stacks = StackTable::default();
    profile.locks[0].holds = 0;
    profile
}

/// One frame of an SVG.
struct Bar {
    /// Without the amount.
    name: String,
    start: u64,
    width: u64,
    fill: [u8; 3],
}

fn bars(svg: &str) -> Vec<Bar> {
    let (_, frames) = svg.split_once("<svg id=\"frames\"").unwrap();
    frames.split("<title>").skip(1).map(bar).collect()
}

fn bar(text: &str) -> Bar {
    let (title, rest) = text.split_once("</title>").unwrap();
    let attribute = |name: &str| rest.split_once(&format!(" {name}=\"")).unwrap().1.split_once('"').unwrap().0;
    let fill: Vec<u8> =
        attribute("fill")[4..].trim_end_matches(')').split(',').map(|channel| channel.parse().unwrap()).collect();
    Bar {
        name: title.rsplit_once(" (").unwrap().0.to_owned(),
        start: attribute("fg:x").parse().unwrap(),
        width: attribute("fg:w").parse().unwrap(),
        fill: fill.try_into().unwrap(),
    }
}

fn widths(svg: &str) -> HashMap<String, u64> {
    bars(svg).into_iter().map(|bar| (bar.name, bar.width)).collect()
}

#[test]
fn the_bars_of_every_view_sum_to_the_profiles_totals() {
    let profile = support::shop();
    for view in [View::All, View::Held, View::Wait, View::Outside] {
        let widths = widths(&render(&profile, Format::Svg, view));
        for state in State::ALL {
            let expected = view.shows(state).then(|| total(&profile, state)).filter(|total| *total > 0);
            assert_eq!(widths.get(state.name()).copied(), expected, "{state} in {view}");
        }
    }
    let blamed: u64 = profile.blame.iter().map(|blame| blame.wait.as_nanos()).sum();
    let widths = widths(&render(&profile, Format::Svg, View::Blame));
    assert_eq!(widths["made others wait"], blamed);
    assert_eq!(widths["all"], blamed);
}

#[test]
fn titles_show_times_and_no_private_marks() {
    let svg = render(&support::shop(), Format::Svg, View::All);
    assert!(svg.contains("<title>parse_request (http.py:98) (512 ms, "), "no time in a title");
    assert!(!svg.contains(" ns, "), "a title kept its raw count");
    assert!(!svg.contains(|shown: char| ('\u{e000}'..='\u{f8ff}').contains(&shown)), "a mark was left in");
    assert!(svg.contains("log (&lt;größe&gt;&amp;&quot;x&quot;.py:9)"), "a foreign name was not escaped");
}

#[test]
fn the_frames_of_a_state_wear_tints_of_its_colour() {
    let bars = bars(&render(&support::shop(), Format::Svg, View::All));
    let state = bars.iter().find(|bar| bar.name == "wait_queued").unwrap();
    let within = |bar: &&Bar| bar.start >= state.start && bar.start + bar.width <= state.start + state.width;
    let queued: Vec<&Bar> = bars.iter().filter(within).collect();
    assert!(queued.len() > 20, "{} frames", queued.len());
    for bar in queued {
        let [r, g, b] = bar.fill;
        assert!(r >= 232 && r - g > 70 && r - b > 80, "{} is not in the red of waiting: {:?}", bar.name, bar.fill);
    }
}

#[test]
fn the_same_profile_gives_the_same_bytes() {
    for (format, view) in [(Format::Svg, View::All), (Format::Svg, View::Blame), (Format::Json, View::All)] {
        assert_eq!(render(&support::shop(), format, view), render(&support::shop(), format, view));
    }
}

#[test]
fn an_empty_view_is_a_picture_with_a_sentence() {
    for view in View::ALL {
        let svg = render_only(&nothing(), Format::Svg, view);
        assert!(svg.starts_with("<?xml") && svg.ends_with("</svg>\n") && svg.contains(view.empty_words()), "{svg}");
    }
}

#[test]
fn hostile_names_change_neither_widths_nor_structure() {
    let hostile = [
        "</title><script>alert(1)</script>",
        "--",
        "-",
        "# comment",
        "f 12",
        "f 1 2",
        "g_[k]",
        "a;b",
        "tab\tnew\nline",
        "\u{e004}mark",
        "end ",
        "",
        "x (9 ns, 5%)",
        "\u{1b}[31mred",
        "]]>",
        "名前",
        "f",
        "f g",
        "held_running",
        "all",
    ];
    let mut profile = support::shop();
    let mut thread = profile.threads[0].clone();
    thread.stacks.clear();
    thread.states = StateTimes::default();
    thread.name = "<t>;\u{0}".to_owned();
    for (weight, name) in (1_000..).zip(hostile) {
        let frame = Frame { kind: FrameKind::Script, function: name.to_owned(), file: String::new(), line: None };
        let time = Nanos::from_nanos(weight);
        thread.states.add(State::HeldRunning, time);
        thread.stacks.push(StackTime {
            state: State::HeldRunning,
            lock: None,
            stack: profile.stacks.intern(&[frame]),
            time,
        });
    }
    profile.threads = vec![thread];
    let bars = bars(&render_only(&profile, Format::Svg, View::Held));
    assert_eq!(bars.len(), 4 + hostile.len(), "all, state, kind, thread and one bar a name");
    assert!(bars.iter().any(|bar| bar.name == "&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;"));
    let mut leaves: Vec<u64> = bars.iter().map(|bar| bar.width).filter(|width| *width < 2_000).collect();
    leaves.sort_unstable();
    assert_eq!(leaves, (1_000..).take(hostile.len()).collect::<Vec<u64>>());
    let folded = render_only(&profile, Format::Folded, View::Held);
    assert_eq!(folded.lines().count(), hostile.len());
    assert!(folded.lines().all(|line| line.matches(';').count() == 1), "{folded}");
}

#[test]
fn stackless_time_is_charged_to_a_marker_and_not_dropped() {
    let mut profile = support::shop();
    profile.threads[0].stacks.clear();
    let bars = bars(&render_only(&profile, Format::Svg, View::Wait));
    let unseen: u64 = bars.iter().filter(|bar| bar.name == "[no stack]").map(|bar| bar.width).sum();
    assert_eq!(unseen, profile.threads[0].states.class(StateClass::Waiting).as_nanos());
}

#[test]
fn folded_lines_sum_to_the_states() {
    let profile = support::shop();
    let folded = render(&profile, Format::Folded, View::All);
    for state in State::ALL {
        let lines = folded.lines().filter_map(|line| line.split_once(&format!(" [{state}] ")));
        let sum: u64 = lines.map(|(_, weight)| weight.parse::<u64>().unwrap()).sum();
        assert_eq!(sum, total(&profile, state), "{state}");
    }
    let first = "python3 (tid 4242);<module> (app.py:88);main (app.py:71);serve_forever (server.py:232);";
    assert!(folded.starts_with(first), "{folded}");
}

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
            "backend blame counters counters_missing estimates exact exactness fault_ns findings functions hold_sites holds_by_kind locks long_hold_threshold_ns long_holds matrix native parking processes quality ratios schema subprocesses target threads window_ns",
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

/// Blame of `threads` threads that all wait for each other, more of it for the later ones.
fn everybody_waits_for_everybody(threads: i32) -> Profile {
    let mut profile = support::shop();
    let model = profile.blame[0];
    let pairs = (1..=threads).flat_map(|waiter| (1..=threads).map(move |holder| (waiter, holder)));
    let charge = |(waiter, holder): (i32, i32)| {
        let wait = Nanos::from_nanos(u64::try_from(1_000 * waiter + holder).unwrap());
        Blame { waiter: Some(support::tid(waiter)), holder: Some(support::tid(holder)), wait, ..model }
    };
    profile.blame = pairs.filter(|(waiter, holder)| waiter != holder).map(charge).collect();
    profile.blame.push(Blame { waiter: None, ..model });
    profile
}

#[test]
fn the_matrix_sums_to_the_blame_however_much_of_it_is_summed_up() {
    for threads in [1, 3, 64, 70] {
        let profile = everybody_waits_for_everybody(threads);
        let json: Value = serde_json::from_str(&render_only(&profile, Format::Json, View::All)).unwrap();
        let matrix = &json["matrix"][0];
        let list = |name: &str| matrix[name].as_array().unwrap().clone();
        let (waiters, holders, cells) = (list("waiters"), list("holders"), list("wait_ns"));
        assert!(waiters.len() <= 65 && waiters.last() == Some(&Value::Null), "{threads}");
        let cell = |row: usize, column: usize| cells[row][column].as_u64().unwrap();
        let whole = |of: &dyn Fn(&Blame) -> bool| -> u64 {
            profile.blame.iter().filter(|blame| of(blame)).map(|blame| blame.wait.as_nanos()).sum()
        };
        let all: u64 =
            (0..waiters.len()).flat_map(|r| (0..holders.len()).map(move |c| (r, c))).map(|(r, c)| cell(r, c)).sum();
        assert_eq!(all, whole(&|_| true), "{threads}");
        for (row, waiter) in waiters.iter().enumerate().filter(|(_, waiter)| !waiter.is_null()) {
            let sum: u64 = (0..holders.len()).map(|column| cell(row, column)).sum();
            let tid = i32::try_from(waiter.as_i64().unwrap()).unwrap();
            assert_eq!(sum, whole(&|blame| blame.waiter == Some(support::tid(tid))), "waiter {tid} of {threads}");
        }
        for (column, holder) in holders.iter().enumerate().filter(|(_, holder)| !holder.is_null()) {
            let sum: u64 = (0..waiters.len()).map(|row| cell(row, column)).sum();
            let tid = i32::try_from(holder.as_i64().unwrap()).unwrap();
            assert_eq!(sum, whole(&|blame| blame.holder == Some(support::tid(tid))), "holder {tid} of {threads}");
        }
    }
}

#[test]
fn the_matrix_of_the_summary_fits_its_width() {
    let profile = everybody_waits_for_everybody(70);
    for width in [60, 80, 100, 200] {
        let mut bytes = Vec::new();
        Text::fitting(width).write(&profile, &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let matrix = text.split("Who waited for whom").nth(1).unwrap().split("\n\n").next().unwrap();
        let widest = matrix.lines().skip(1).map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(width) && widest > usize::from(width.min(120)) - 16, "{widest}:\n{matrix}");
        assert!(matrix.contains("others"), "{matrix}");
    }
}

#[test]
fn percentiles_of_nothing_are_null() {
    let json: Value = serde_json::from_str(&render_only(&nothing(), Format::Json, View::All)).unwrap();
    assert_eq!(json["locks"][0]["hold_ns"]["max"], Value::Null);
    assert_ne!(json["locks"][0]["wait_ns"]["max"], Value::Null);
}

#[test]
fn the_summary_reads_as_agreed() {
    let text = render(&support::shop(), Format::Text, View::All);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/shop.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(golden.parent().unwrap()).unwrap();
        fs::write(&golden, &text).unwrap();
    }
    let expected = fs::read_to_string(&golden).expect("tests/golden/shop.txt; BLESS=1 writes it");
    assert!(expected.lines().count() <= 200);
    assert!(text == expected, "differs from tests/golden/shop.txt (BLESS=1 rewrites it):\n{text}");
}

#[test]
fn without_any_thread_the_summary_says_just_that() {
    let text = render_only(&nothing(), Format::Text, View::All);
    assert!(text.contains("No thread was observed: nothing can be said."), "{text}");
    assert!(text.contains("What this means\n  1. No thread was observed: nothing can be judged\n"), "{text}");
    assert!(!text.contains("What the lock was held for") && !text.contains("Who waited for whom"), "{text}");
}

#[test]
fn a_broken_invariant_is_said_loudly() {
    let mut profile = support::shop();
    profile.quality.invariants_broken.push("thread 4243: states sum to 9 s of 10 s".to_owned());
    profile.quality.probe_cost = None;
    profile.quality.unknown = Nanos::ZERO;
    let text = render_only(&profile, Format::Text, View::All);
    assert!(text.contains("!! THESE NUMBERS CONTRADICT EACH OTHER"), "{text}");
    assert!(text.contains("!! broken: thread 4243: states sum to 9 s of 10 s"), "{text}");
    assert!(text.contains("cost of the probe  unknown"), "{text}");
}

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
fn measured_shop() -> Profile {
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
