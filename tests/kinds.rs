//! What the lock was held for, in every report of a profile whose stacks go on into machine code.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path};

use gilscope::{
    model::{
        profile::{Profile, StackTime},
        stack::{Frame, NATIVE_UNREAD},
        state::State,
    },
    report::{Format, view::View},
};
use serde_json::Value;

const JSON_MODULE: &str = "/usr/lib/python3.12/lib-dynload/_json.cpython-312-x86_64-linux-gnu.so";
const PYTHON: &str = "/usr/bin/python3.12";

/// What the innermost function of the program, in this state, goes on into.
fn tail(function: &str, state: State) -> Vec<Frame> {
    match (function, state) {
        ("dumps", State::HeldRunning) => {
            vec![Frame::native("encoder_call", JSON_MODULE), Frame::native("ascii_escape_unicode.isra.0", JSON_MODULE)]
        }
        ("dumps", State::HeldBlocked) => vec![Frame::native("encoder_call", JSON_MODULE), Frame::kernel("read")],
        ("parse_request", State::HeldRunning) => vec![Frame::native("gc_collect_main", PYTHON)],
        ("log", State::HeldRunning) => {
            vec![
                Frame::native("cfunction_vectorcall_FASTCALL_KEYWORDS", PYTHON),
                Frame::native("builtin_print", PYTHON),
            ]
        }
        ("flush", State::HeldRunning) => vec![Frame::kernel("page fault")],
        _ => Vec::new(),
    }
}

/// The shop with machine code on the stacks of ticks; those that waiters read of the holders say that they have none.
fn shop_with_native_frames() -> Profile {
    let mut profile = support::shop();
    profile.native = true;
    let Profile { threads, stacks, blame, long_holds, .. } = &mut profile;
    let read = blame.iter_mut().map(|blame| &mut blame.stack).chain(long_holds.iter_mut().map(|hold| &mut hold.stack));
    for stack in read {
        let mut frames: Vec<Frame> = stacks.frames(*stack).cloned().collect();
        frames.push(Frame::marker(NATIVE_UNREAD));
        *stack = stacks.intern(&frames);
    }
    for part in threads.iter_mut().flat_map(|thread| &mut thread.stacks) {
        let mut frames: Vec<Frame> = stacks.frames(part.stack).cloned().collect();
        frames.extend(tail(&frames.last().unwrap().function, part.state));
        part.stack = stacks.intern(&frames);
    }
    profile
}

fn render(profile: &Profile, format: Format, view: View) -> String {
    let mut bytes = Vec::new();
    format.report(view).write(profile, &mut bytes).unwrap();
    let name = format!("native-{view}.{}", format.extensions()[0]);
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), &bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// All time in `state` whose stack has `function` in it.
fn time_in(profile: &Profile, state: State, function: &str) -> u64 {
    let is_there = |part: &&StackTime| {
        part.state == state && profile.stacks.frames(part.stack).any(|frame| frame.function == function)
    };
    let parts = profile.threads.iter().flat_map(|thread| &thread.stacks);
    parts.filter(is_there).map(|part| part.time.as_nanos()).sum()
}

struct Kinds(Vec<Value>);

impl Kinds {
    fn of(profile: &Profile) -> Self {
        let json: Value = serde_json::from_str(&render(profile, Format::Json, View::All)).unwrap();
        Self(json["holds_by_kind"].as_array().unwrap().clone())
    }

    fn sum(&self, kind: &str, field: &str) -> u64 {
        let of_kind = self.0.iter().filter(|entry| entry["kind"] == kind);
        of_kind.map(|entry| entry[field].as_u64().unwrap()).sum()
    }

    fn first(&self, kind: &str) -> &Value {
        self.0.iter().find(|entry| entry["kind"] == kind).unwrap()
    }
}

#[test]
fn held_time_is_told_by_kind_to_the_nanosecond() {
    let profile = shop_with_native_frames();
    let kinds = Kinds::of(&profile);
    let held = |state, function| time_in(&profile, state, function);
    assert_eq!(
        kinds.sum("c_code", "held_ns"),
        held(State::HeldRunning, "encoder_call") + held(State::HeldRunning, "builtin_print")
    );
    assert_eq!(kinds.sum("garbage_collection", "held_ns"), held(State::HeldRunning, "gc_collect_main"));
    assert_eq!(kinds.sum("blocked", "held_ns"), held(State::HeldBlocked, "read"));
    assert_eq!(kinds.sum("page_fault", "held_ns"), held(State::HeldRunning, "flush"));
    let bytecode = held(State::HeldRunning, "_expand") + held(State::HeldRunning, "<listcomp>");
    assert_eq!(kinds.sum("bytecode", "held_ns"), bytecode);
    let c_code = kinds.first("c_code");
    assert_eq!((&c_code["object"], &c_code["function"]), (&JSON_MODULE.into(), &"encoder_call".into()));
    assert_eq!(c_code["detail"], "ascii_escape_unicode");
    assert_eq!((&c_code["caller"]["function"], &c_code["caller"]["line"]), (&"dumps".into(), &200.into()));
    assert_eq!(kinds.first("blocked")["detail"], "read");
    assert_eq!(kinds.first("bytecode")["caller"], Value::Null);
}

/// The blame of a line goes to what ticks saw there, in proportion.
#[test]
fn waits_go_to_the_kinds_seen_at_the_same_place() {
    let profile = shop_with_native_frames();
    let kinds = Kinds::of(&profile);
    let blamed: u64 = profile.blame.iter().map(|blame| blame.wait.as_nanos()).sum();
    let all: u64 = kinds.0.iter().map(|entry| entry["inflicted_wait_ns"].as_u64().unwrap()).sum();
    assert_eq!(all, blamed);
    let of_dumps = profile.blame.iter().filter(|b| profile.stacks.frames(b.stack).any(|f| f.function == "dumps"));
    let of_dumps: u64 = of_dumps.map(|blame| blame.wait.as_nanos()).sum();
    let [running, blocked, preempted] =
        [State::HeldRunning, State::HeldBlocked, State::HeldPreempted].map(|state| time_in(&profile, state, "dumps"));
    let share = u128::from(of_dumps) * u128::from(blocked) / u128::from(running + blocked + preempted);
    let told = kinds.first("blocked")["inflicted_wait_ns"].as_u64().unwrap();
    assert!(u128::from(told).abs_diff(share) <= 4, "{told} instead of {share}");
}

#[test]
fn the_summary_names_the_c_code_that_keeps_the_lock() {
    let text = render(&shop_with_native_frames(), Format::Text, View::All);
    for line in [
        "_json.so: encoder_call() held the lock 1.44 s, called from dumps() encoder.py:200",
        "python3.12: builtin_print() held the lock 187 ms, called from log() <größe>&\"x\".py:9",
        "asleep in read() held the lock 92.4 ms, called from dumps() encoder.py:200",
    ] {
        assert!(text.contains(line), "no `{line}` in:\n{text}");
    }
    assert!(text.contains("What the lock was held for\n"), "{text}");
}

#[test]
fn the_picture_has_a_row_of_kinds_below_the_states_of_holding() {
    let profile = shop_with_native_frames();
    for view in [View::All, View::Held, View::Blame] {
        let svg = render(&profile, Format::Svg, view);
        for name in ["bytecode", "garbage collection", "C code: _json.so", "blocked in read"] {
            assert_eq!(svg.matches(&format!("<title>{name} (")).count(), 1, "{name} in {view}");
        }
    }
    assert!(!render(&profile, Format::Svg, View::Wait).contains("bytecode"));
}
