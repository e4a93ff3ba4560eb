//! Ends of programs: their exit code is passed on, whatever became of the report.

use crate::place::{Place, backends};

/// What ends within milliseconds may be over before a busy machine lets gilscope look at it.
const LONG_ENOUGH: &str = "import time; time.sleep(0.5)";

#[test]
fn a_program_without_an_interpreter_is_no_profile() {
    for (words, code) in [
        ("-- true", 1),
        ("-- bash wrong.sh", 3),
        // Says its version and ends before it becomes an interpreter.
        ("-- python3 -V", 1),
    ] {
        for backend in backends() {
            let place = Place::new();
            place.file("wrong.sh", "exit 3");
            let before = place.names();
            let ended = place.end(&format!("run --backend {backend} {words}"));
            ended.assert_refusal(code, "the program ran no interpreter that could be observed");
            ended.assert_left(&place, &before);
        }
    }
}

#[test]
fn a_programs_failure_is_passed_on_with_the_report() {
    let place = Place::new();
    place.file("broken.py", "def f(:");
    place.file("wrong.py", &format!("{LONG_ENOUGH}\nimport broken"));
    for backend in backends() {
        let ended = place.end(&format!("run --backend {backend} -o wrong.svg wrong.py"));
        ended.assert_code(1).assert_said("SyntaxError").assert_said("gilscope: wrote wrong.svg");
        assert!(place.read("wrong.svg").trim_end().ends_with("</svg>"));
        let ended = place.end(&format!("run --backend {backend} -o 7.svg spin.py 0.5 7"));
        ended.assert_code(7).assert_said("gilscope: wrote 7.svg");
        assert!(place.read("7.svg").contains("spin"));
    }
}

#[test]
fn a_program_ended_by_a_signal_is_reported_as_such() {
    let place = Place::new();
    place.file("die.py", &format!("{LONG_ENOUGH}\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)"));
    for backend in backends() {
        let ended = place.end(&format!("run --backend {backend} die.py"));
        ended.assert_code(128 + 9).assert_said("gilscope: wrote gilscope.svg");
        ended.assert_said("gilscope: the program was ended by signal 9 (SIGKILL)");
        assert!(place.read("gilscope.svg").trim_end().ends_with("</svg>"));
        place.end(&format!("run -q --backend {backend} die.py")).assert_code(128 + 9);
    }
}
