//! Signals end the recording, reach the program, and leave the last word to it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use crate::{
    live::interpreters::usual,
    place::{Ended, Place, backends, end_of, kill, wait_for},
};

/// Says which signals it got, and ends with 40 and their number.
const CATCH: &str = "
import signal, sys, time
got = []
for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(s, lambda s, _: got.append(s))
print('ready', flush=True)
end = time.monotonic() + 30
while not got and time.monotonic() < end: sum(range(1000))
time.sleep(0.3)
print(*[signal.Signals(s).name for s in got], flush=True)
sys.exit(40 + len(got))
";

/// Starts gilscope and waits for the program's first line.
fn started(mut command: Command) -> Child {
    let mut child = command.spawn().unwrap();
    // Byte by byte, so that what follows is left to others.
    let mut line = String::new();
    BufReader::with_capacity(1, child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

fn caught(place: &Place, backend: &str, signal: &str) -> Ended {
    place.file("catch.py", CATCH);
    let child = started(place.gilscope(&format!("run --backend {backend} catch.py")));
    kill(signal, child.id());
    end_of(child)
}

#[test]
fn a_signal_to_gilscope_reaches_the_program_once() {
    for backend in backends() {
        for signal in ["INT", "TERM", "HUP"] {
            let place = Place::new();
            let mut names = place.names();
            let ended = caught(&place, backend, signal);
            ended.assert_code(41).assert_said("gilscope: wrote gilscope.svg");
            assert_eq!(ended.out, format!("SIG{signal}\n"));
            names.extend(["catch.py", "gilscope.svg"].map(str::to_owned));
            ended.assert_left(&place, &names);
            assert!(place.read("gilscope.svg").trim_end().ends_with("</svg>"));
        }
    }
}

#[test]
fn a_program_that_dies_of_the_signal_says_so() {
    let place = Place::new();
    let child = started(place.gilscope("run spin.py 30"));
    kill("TERM", child.id());
    let ended = end_of(child);
    ended.assert_code(128 + 15).assert_said("gilscope: the program was ended by signal 15 (SIGTERM)");
    ended.assert_said("gilscope: wrote gilscope.svg");
}

/// Runs its arguments in a terminal of their own and types Ctrl-C when they are ready.
const TERMINAL: &str = "
import os, pty, sys
def read(file):
    data = os.read(file, 1024)
    if b'ready' in data: os.write(file, b'\\x03')
    return data
status = pty.spawn(sys.argv[1:], read)
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 99)
";

#[test]
fn control_c_in_a_terminal_reaches_the_program_once() {
    let place = Place::new();
    place.file("catch.py", CATCH);
    for backend in backends() {
        let mut terminal = place.prepared(usual().command());
        let words = ["-c", TERMINAL, env!("CARGO_BIN_EXE_gilscope"), "run", "--backend", backend, "catch.py"];
        let mut child = terminal.args(words).stdin(Stdio::piped()).spawn().unwrap();
        let typing = child.stdin.take();
        let ended = end_of(child);
        drop(typing);
        assert_eq!(ended.status.code(), Some(41), "{ended:?}");
        assert!(ended.out.contains("SIGINT\r\n") && !ended.out.contains("SIGINT SIGINT"), "{}", ended.out);
        assert!(ended.out.contains("gilscope: wrote gilscope.svg"), "{}", ended.out);
    }
}

#[test]
fn a_recording_under_nohup_outlives_the_terminal() {
    let place = Place::new();
    let gilscope = [env!("CARGO_BIN_EXE_gilscope"), "run", "-o", "p.json", "spin.py", "0.5", "6"];
    let mut shell = place.prepared(Command::new("bash"));
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "bash"]).args(gilscope);
    let child = started(shell);
    kill("HUP", child.id());
    let ended = end_of(child);
    ended.assert_code(6).assert_said("gilscope: wrote p.json");
    assert_eq!(ended.out, "done\n");
}

#[test]
fn when_the_duration_is_over_the_report_is_written_and_the_program_goes_on() {
    for backend in backends() {
        let place = Place::new();
        let mut child = started(place.gilscope(&format!("run -q --backend {backend} -d 0.3 -o p.json until.py go 6")));
        wait_for("the report", || place.path("p.json").metadata().is_ok_and(|file| file.len() > 0));
        assert!(child.try_wait().unwrap().is_none());
        place.go();
        let ended = end_of(child);
        ended.assert_code(6);
        assert_eq!(ended.out, "done\n");
        let profile: serde_json::Value = serde_json::from_str(&place.read("p.json")).unwrap();
        assert_eq!(profile["window_ns"], 300_000_000);
    }
}

#[test]
fn a_signal_after_the_report_still_reaches_the_program() {
    let place = Place::new();
    place.file("catch.py", CATCH);
    let child = started(place.gilscope("run -q -d 0.1 catch.py"));
    wait_for("the report", || place.path("gilscope.svg").metadata().is_ok_and(|file| file.len() > 0));
    kill("INT", child.id());
    let ended = end_of(child);
    ended.assert_code(41);
    assert_eq!(ended.out, "SIGINT\n");
}
