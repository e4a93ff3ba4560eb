//! What the in-target probe does to the environment of the program it is loaded into.

#![expect(unsafe_code, reason = "builds an environment as libc keeps it")]

#[path = "../probes/preload/environ.rs"]
mod environ;

use std::{ffi::CStr, ptr::null_mut};

use environ::Environment;

/// Lets `change` loose on an environment of `entries` and returns what is left.
fn changed(entries: &[&str], change: impl FnOnce(Environment<'_>)) -> Vec<String> {
    let mut strings: Vec<Vec<u8>> = entries.iter().map(|entry| format!("{entry}\0").into_bytes()).collect();
    let mut array: Vec<*mut u8> = strings.iter_mut().map(Vec::as_mut_ptr).chain([null_mut()]).collect();
    // SAFETY: an array as libc keeps it, which lives to the end of the function.
    change(unsafe { Environment::at(array.as_mut_ptr()) }.expect("an array"));
    let left = array.iter().take_while(|entry| !entry.is_null()).map(|entry| {
        // SAFETY: the array still points to strings that end in NUL.
        let entry = unsafe { CStr::from_ptr(entry.cast()) };
        entry.to_str().expect("only ASCII").to_owned()
    });
    left.collect()
}

fn preload_left(list: &str) -> Vec<String> {
    let entry = format!("LD_PRELOAD={list}");
    changed(&["A=1", &entry, "B=2"], |environment| environment.remove_path(b"LD_PRELOAD=", 700))
}

#[test]
fn our_entry_goes_and_the_users_stay() {
    assert_eq!(preload_left("/proc/self/fd/700"), ["A=1", "B=2"]);
    assert_eq!(preload_left("X.so:/proc/self/fd/700"), ["A=1", "LD_PRELOAD=X.so", "B=2"]);
    assert_eq!(preload_left("/proc/self/fd/700:X.so Y.so"), ["A=1", "LD_PRELOAD=X.so:Y.so", "B=2"]);
    assert_eq!(preload_left("X.so /proc/self/fd/700 /lib/y.so"), ["A=1", "LD_PRELOAD=X.so:/lib/y.so", "B=2"]);
    assert_eq!(
        preload_left("/proc/self/fd/7000:/proc/self/fd/70"),
        ["A=1", "LD_PRELOAD=/proc/self/fd/7000:/proc/self/fd/70", "B=2"]
    );
    assert_eq!(preload_left(""), ["A=1", "B=2"]);
}

#[test]
fn entries_are_removed_by_prefix_wherever_they_stand() {
    let left = |entries: &[&str]| changed(entries, |environment| environment.remove(b"GILSCOPE_"));
    assert_eq!(left(&["GILSCOPE_A=1", "A=GILSCOPE_", "GILSCOPE_B=2", "B=2", "GILSCOPE_C="]), ["A=GILSCOPE_", "B=2"]);
    assert_eq!(left(&["GILSCOPE_A=1"]), [""; 0]);
    assert_eq!(left(&[]), [""; 0]);
}

#[test]
fn numbers_are_decimal_or_nothing() {
    let number = |entry: &str| {
        let mut found = None;
        changed(&["A=1", entry], |environment| found = environment.number(b"FD="));
        found
    };
    assert_eq!(number("FD=703"), Some(703));
    assert_eq!([number("FD="), number("FD=7x"), number("FD=-1"), number("XFD=1")], [None; 4]);
    assert_eq!(number("FD=99999999999999999999999"), None);
}

#[test]
fn the_way_to_the_family_is_read_and_removed_with_the_path_of_the_probe() {
    let entries = ["GILSCOPE_FAMILY=12.700.34.", "LD_PRELOAD=X.so:/proc/12/fd/9:/proc/13/fd/9", "A=1"];
    let left = changed(&entries, |environment| {
        assert_eq!(environment.numbers(b"GILSCOPE_FAMILY="), Some([12, 700, 34]));
        environment.remove(b"GILSCOPE_FAMILY=");
        environment.remove_observed(b"LD_PRELOAD=", 12);
    });
    assert_eq!(left, ["LD_PRELOAD=X.so:/proc/13/fd/9", "A=1"]);
    for damaged in ["GILSCOPE_FAMILY=", "GILSCOPE_FAMILY=1.2", "GILSCOPE_FAMILY=1.x.3."] {
        changed(&[damaged], |environment| assert_eq!(environment.numbers(b"GILSCOPE_FAMILY="), None, "{damaged}"));
    }
}
