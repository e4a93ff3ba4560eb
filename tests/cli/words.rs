//! What gilscope says when all goes well, and where.

use std::process::Command;

use crate::place::{Place, end, patiently};

#[test]
fn help_and_version_go_to_standard_output() {
    let place = Place::new();
    for (words, expected) in [
        ("--help", "Usage: gilscope <COMMAND>"),
        ("run --help", "gilscope run [OPTIONS] -- COMMAND [ARGS]..."),
        ("attach -h", "Usage: gilscope attach [OPTIONS] <PID>"),
        ("--version", concat!("gilscope ", env!("CARGO_PKG_VERSION"), "\n")),
    ] {
        let ended = place.end(words);
        ended.assert_code(0);
        assert!(ended.out.contains(expected) && !ended.out.contains("__sweep"), "{words}: {}", ended.out);
        assert_eq!(ended.said, "", "{words}");
    }
}

#[test]
fn no_words_at_all_are_answered_with_help() {
    let place = Place::new();
    let ended = end(&mut place.prepared(Command::new(env!("CARGO_BIN_EXE_gilscope"))));
    ended.assert_code(2).assert_said("Usage: gilscope <COMMAND>").assert_said("EXAMPLES:");
    assert_eq!(ended.out, "");
}

#[test]
fn a_summary_is_said_unless_quiet_and_reasons_if_verbose() {
    let place = Place::new();
    let usual = place.end("run spin.py 0.2");
    usual.assert_code(0).assert_said("backend preload").assert_said("Pairs that waited longest");
    usual.assert_said("gilscope: wrote gilscope.svg");
    assert!(!usual.said.contains("gilscope: lock events are taken"), "{}", usual.said);
    assert_eq!(place.end("run -q spin.py 0.2").assert_code(0).said, "");
    let verbose = place.end("run -v spin.py 0.2");
    verbose.assert_said("gilscope: starting ").assert_said("/python3 spin.py 0.2\n");
    verbose.assert_said("gilscope: lock events are taken by a probe loaded into the program\n");
    verbose.assert_said("gilscope: the program ended with code 0\n").assert_said("gilscope: wrote gilscope.svg");
}

#[test]
fn a_report_on_standard_output_follows_the_programs_own() {
    let place = Place::new();
    let before = place.names();
    let ended = place.end("run -q -o - -f json spin.py 0.2");
    let report = ended.assert_code(0).out.strip_prefix("ready\ndone\n").unwrap();
    let profile: serde_json::Value = serde_json::from_str(report).unwrap();
    assert_eq!(profile["schema"], "gilscope/1");
    ended.assert_left(&place, &before);
    let ended = place.end("run -q -o - --json p.json spin.py 0.2");
    assert!(ended.assert_code(0).out.contains("Pairs that waited longest"), "{}", ended.out);
    assert!(place.read("p.json").contains("gilscope/1"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    place.file("quiet.py", "sum(range(3000000))");
    for format in ["text", "json", "svg", "folded"] {
        let mut shell = place.prepared(Command::new("bash"));
        let pipe = "\"$@\" | head -c 1 >/dev/null; echo ${PIPESTATUS[0]}";
        let gilscope = [env!("CARGO_BIN_EXE_gilscope"), "run", "-q", "-o", "-", "-f", format, "quiet.py"];
        let output = patiently("the pipe", move || shell.args(["-c", pipe, "bash"]).args(gilscope).output().unwrap());
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{format}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{format}");
    }
}

#[test]
fn how_long_is_a_long_hold_is_said_and_counted() {
    let place = Place::new();
    let ended = place.end("run -q -o - --long-hold 50us --json p.json spin.py 0.2");
    let profile: serde_json::Value = serde_json::from_str(&place.read("p.json")).unwrap();
    assert_eq!(profile["long_hold_threshold_ns"], 50_000);
    let long = profile["locks"][0]["long_holds"].as_u64().unwrap();
    let listed = profile["long_holds"].as_array().unwrap();
    assert!(long >= 1 && listed.len() == usize::try_from(long).unwrap().min(100), "{long} of {}", listed.len());
    assert!(listed.iter().all(|hold| hold["duration_ns"].as_u64() >= Some(50_000)));
    assert!(ended.assert_code(0).out.contains(" lasted 50.0 µs or longer (--long-hold)"), "{}", ended.out);
    let none = place.end("run -q -o - --long-hold 1h spin.py 0.2");
    assert!(none.assert_code(0).out.contains("No hold lasted 3600 s or longer (--long-hold)."), "{}", none.out);
}
