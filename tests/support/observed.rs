//! Programs that gilscope launches, or that wait for a line until it has attached: every lock event is taken, and what they say is
//! returned.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::{
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use super::{attached::attached_with, privilege::without_programs};

/// Prints how many of some 600,000 page faults it has made: memory that malloc gives back and takes anew.
pub const STORM: &str = "import resource\nfor _ in range(900): kept = [bytes(300000) for _ in range(40)]\n\
                         print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)";

pub fn gilscope() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gilscope"))
}

/// The same where the kernel loads no programs.
pub fn gilscope_without_programs() -> Command {
    let mut without = without_programs();
    without.arg(env!("CARGO_BIN_EXE_gilscope"));
    without
}

/// Launches the program with this backend and these options.
pub fn launch(mut gilscope: Command, (backend, options): (&str, &[&str]), program: &Command, report: &Path) -> String {
    gilscope.args(["run", "-q", "--max-overhead", "none", "--backend", backend]).args(options);
    gilscope.arg("-o").arg(report).arg("--").arg(program.get_program()).args(program.get_args());
    let output = gilscope.stdin(Stdio::null()).output().expect("gilscope starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("programs say text")
}

/// Attaches to the program with them, and then lets it begin.
pub fn attach(program: &mut Command, (backend, options): (&str, &[&str]), report: &Path) -> String {
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = program.spawn().expect("the program starts");
    // It must have begun before it can be found.
    sleep(Duration::from_millis(500));
    let mut gilscope = attached_with(program.id(), report, &[&["--backend", backend], options].concat());
    writeln!(program.stdin.take().expect("it has one")).expect("the program waits for a line");
    let mut said = String::new();
    program.stdout.take().expect("it has one").read_to_string(&mut said).expect("programs say text");
    let ended = program.wait().expect("a child can be waited for").success();
    assert!(ended && gilscope.wait().expect("a child can be waited for").success());
    said
}
