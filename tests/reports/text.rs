//! The summary in words.

use std::{fs, path::Path};

use gilscope::{
    model::time::Nanos,
    report::{Format, view::View},
};

use crate::{nothing, render, render_only, support};

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
