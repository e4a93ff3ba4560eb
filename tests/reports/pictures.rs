//! Flame graphs and the folded stacks that they are made of: widths are the times of the profile, whatever names it has.

use std::collections::HashMap;

use gilscope::{
    model::{
        profile::StackTime,
        stack::{Frame, FrameKind},
        state::{State, StateClass, StateTimes},
        time::Nanos,
    },
    report::{Format, view::View},
};

use crate::{nothing, render, render_only, support, total};

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
        // No event was sampled.
        let words = if view == View::Event { View::All } else { view }.empty_words();
        assert!(svg.starts_with("<?xml") && svg.ends_with("</svg>\n") && svg.contains(words), "{svg}");
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
