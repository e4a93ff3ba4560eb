//! What a test program used and what it left out, printed when it ends: a test that passes prints nothing else.

#![allow(dead_code, reason = "each test program uses a part of this")]
#![expect(unsafe_code, reason = "the standard library has no way to run something at the end of the process")]
#![expect(clippy::print_stdout, reason = "saying it is what this is for")]

use std::{
    collections::BTreeSet,
    sync::{Mutex, Once},
};

static USED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static SKIPPED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// An interpreter was used.
pub fn used(interpreter: &str) {
    note(&USED, interpreter);
}

/// Something was left out, for this reason.
pub fn skipped(reason: &str) {
    println!("skipped: {reason}");
    note(&SKIPPED, reason);
}

fn note(list: &Mutex<BTreeSet<String>>, line: &str) {
    static AT_EXIT: Once = Once::new();
    // SAFETY: the function that is registered lives as long as the program and does not unwind.
    AT_EXIT.call_once(|| assert_eq!(unsafe { libc::atexit(print_outcome) }, 0, "atexit takes one more function"));
    list.lock().expect("nobody panics").insert(line.to_owned());
}

extern "C" fn print_outcome() {
    // A list is poisoned at most by a panic that has been reported already.
    let lines = |list: &Mutex<BTreeSet<String>>| list.lock().map(|list| list.clone()).unwrap_or_default();
    let used = lines(&USED);
    println!("{} interpreters were used", used.len());
    used.iter().for_each(|interpreter| println!("  {interpreter}"));
    lines(&SKIPPED).iter().for_each(|reason| println!("skipped: {reason}"));
}
