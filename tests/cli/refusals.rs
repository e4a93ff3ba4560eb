//! What cannot be done is refused in one sentence, before anything starts.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::{
    live::outcome,
    place::{Place, kill, wait_for},
};

/// Leaves a mark when it runs.
const MARK: &str = "open('it-ran', 'w').close()";

#[track_caller]
fn assert_refused(words: &str, code: i32, sentence: &str) {
    let place = Place::new();
    place.file("mark.py", MARK);
    let before = place.names();
    place.end(words).assert_refusal(code, sentence).assert_left(&place, &before);
}

#[test]
fn what_is_not_there_is_named() {
    assert_refused("run nosuch.py", 1, "no such script: `nosuch.py`");
    assert_refused("run --python nosuch mark.py", 1, "no such interpreter: `nosuch`");
    assert_refused("run -- nosuch", 1, "no such command: `nosuch`");
    assert_refused("run -- ./mark.py", 1, "`./mark.py` is not an executable file");
    assert_refused("toyvm nosuch.toy", 1, "no such script: `nosuch.toy`");
    assert_refused("attach 2147483647", 1, "there is no process 2147483647");
}

#[test]
fn an_output_that_cannot_be_written_keeps_the_program_from_starting() {
    assert_refused("run -o nosuch/x.svg mark.py", 1, "the folder `nosuch` does not exist");
    assert_refused("run -o tmp mark.py", 1, "write to `tmp`: it is a folder");
    assert_refused("run --json tmp mark.py", 1, "write to `tmp`: it is a folder");
    assert_refused("run --json nosuch/x.json mark.py", 1, "the folder `nosuch` does not exist");
    assert_refused("run -o /proc/x.svg mark.py", 1, "`/proc/x.svg`");
    assert_refused("run -o x.png mark.py", 2, "cannot tell the format of `x.png`");
    assert_refused("run -o x.json --json x.json mark.py", 2, "-o and --json both name `x.json`");
}

#[test]
fn wrong_words_are_a_matter_of_usage() {
    for (words, sentence) in [
        ("run -d 5x mark.py", "`5x` is not a duration"),
        ("run -d -1 mark.py", "-1"),
        ("run -r 10001 mark.py", "10001 is not in 0..=10000"),
        ("run -r fast mark.py", "'fast'"),
        ("run --backend magic mark.py", "possible values: auto, preload, uprobe"),
        ("run --bogus mark.py", "unexpected argument '--bogus'"),
        ("run -q -v mark.py", "cannot be used with"),
        ("run", "required arguments were not provided"),
        ("attach", "<PID>"),
        ("attach python3", "a process id is a whole number above 0"),
        ("run -e page-faults -r 0 mark.py", "--event has no meaning with --rate 0"),
        ("run --view event mark.py", "--view event shows the event that --event names"),
        ("run -e page-fault mark.py", "there is no event `page-fault`"),
        ("run -e cycles -c 1 -F 1 mark.py", "cannot be used with"),
        ("attach --backend preload 1", "the backend preload cannot attach"),
        ("frobnicate", "unrecognized subcommand 'frobnicate'"),
    ] {
        assert_refused(words, 2, sentence);
    }
}

#[test]
fn a_process_that_runs_no_interpreter_is_named() {
    for (program, words) in [("sleep", vec!["60"]), ("bash", vec!["-c", "read line"])] {
        let mut child = Command::new(program).args(words).stdin(Stdio::piped()).spawn().unwrap();
        let name = format!("/proc/{}/comm", child.id());
        wait_for("exec", || fs::read_to_string(&name).unwrap().trim() == program);
        let sentence = format!("process {} is {program}, not a Python interpreter", child.id());
        assert_refused(&format!("attach {}", child.id()), 1, &sentence);
        kill("KILL", child.id());
        let stat = format!("/proc/{}/stat", child.id());
        wait_for("a zombie", || fs::read_to_string(&stat).unwrap().contains(") Z "));
        assert_refused(&format!("attach {}", child.id()), 1, "has ended and only its exit status is left");
        child.wait().unwrap();
    }
}

#[test]
fn a_part_of_the_kernel_is_named() {
    if fs::read_to_string("/proc/2/comm").ok().as_deref() != Some("kthreadd\n") {
        outcome::skipped("kernel threads: process 2 is not kthreadd here");
        return;
    }
    assert_refused("attach 2", 1, "process 2 is a part of the kernel");
}
