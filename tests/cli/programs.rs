//! Every way to name what is to be run.

use crate::place::{Ended, Place, backends, end, has_uprobes};

/// Runs to a JSON profile, quietly; the program's threads were recorded.
#[track_caller]
fn assert_recorded(place: &Place, words: &str, code: i32) -> Ended {
    let (options, rest) = words.split_once(' ').unwrap_or((words, ""));
    let ended = place.end(&format!("run -q -o p.json {options} {rest}"));
    ended.assert_code(code);
    assert_eq!(ended.said, "", "{words}");
    let profile: serde_json::Value = serde_json::from_str(&place.read("p.json")).unwrap();
    assert!(profile["threads"].as_array().unwrap().len() >= 3, "{words}: {profile}");
    assert!(profile["locks"][0]["held_ns"].as_u64().unwrap() > 50_000_000, "{words}: {profile}");
    ended
}

#[test]
fn scripts_modules_and_commands_are_recorded() {
    let place = Place::new();
    let python = crate::live::interpreters::usual().words[0].to_str().unwrap().to_owned();
    place.file("wrapper.sh", "python3 spin.py 0.2 5\nexit 9\n");
    for (words, code) in [
        ("spin.py 0.2 5".to_owned(), 5),
        ("-m spin 0.2 5".to_owned(), 5),
        (format!("--python {python} spin.py 0.2 5"), 5),
        ("-- python3 spin.py 0.2 5".to_owned(), 5),
        ("-- env X=1 python3 spin.py 0.2 5".to_owned(), 5),
        ("-- bash wrapper.sh".to_owned(), 9),
    ] {
        let ended = assert_recorded(&place, &words, code);
        assert_eq!(ended.out, "ready\ndone\n", "{words}");
    }
}

#[test]
fn programs_that_become_an_interpreter_are_recorded_by_uprobes() {
    if !has_uprobes() {
        return;
    }
    let place = Place::new();
    for words in ["--backend uprobe spin.py 0.3 5", "--backend uprobe -- env X=1 python3 spin.py 0.3 5"] {
        assert_recorded(&place, words, 5);
    }
}

#[test]
fn uprobes_do_not_follow_a_wrapper_and_say_so() {
    if !has_uprobes() {
        return;
    }
    let place = Place::new();
    place.file("wrapper.sh", "python3 spin.py 0.2\nexit 9\n");
    let before = place.names();
    let ended = place.end("run --backend uprobe -- bash wrapper.sh");
    ended.assert_refusal(9, "no interpreter that could be observed").assert_said("--backend preload");
    assert_eq!(ended.out, "ready\ndone\n");
    ended.assert_left(&place, &before);
}

#[test]
fn toy_programs_are_recorded() {
    let place = Place::new();
    let toy = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/toy/contended.toy");
    for backend in backends() {
        let ended = place.end(&format!("run -q --backend {backend} -o p.json {toy}"));
        ended.assert_code(0);
        let profile: serde_json::Value = serde_json::from_str(&place.read("p.json")).unwrap();
        assert_eq!((&profile["target"]["runtime"], &profile["backend"]), (&"toyvm".into(), &backend.into()));
        assert!(profile["locks"][0]["waits"].as_u64().unwrap() > 10, "{profile}");
    }
}

#[test]
fn a_script_from_standard_input_is_recorded() {
    let place = Place::new();
    let mut command = place.gilscope("run -q -o p.json - 0.2 5");
    command.stdin(std::fs::File::open(place.path("spin.py")).unwrap());
    let ended = end(&mut command);
    ended.assert_code(5);
    assert_eq!(ended.out, "ready\ndone\n");
}
