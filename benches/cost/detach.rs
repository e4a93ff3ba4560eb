//! How long it takes to leave a program with many threads, report included.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{bench::Bench, figures::Figures, loads};

const SETTINGS: [(&str, &[&str]); 4] = [
    ("uprobe, no stacks", &["-r", "0"]),
    ("uprobe, 100 Hz", &[]),
    ("uprobe, 1 kHz", &["-r", "1000"]),
    ("uprobe, 1 kHz, -n", &["-r", "1000", "-n"]),
];
/// How long it is watched.
const WATCHED: Duration = Duration::from_millis(700);
/// A tool that has not begun by then will not.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn report(bench: &Bench) {
    let script = bench.script("many.py", loads::MANY);
    let mut command = Command::new(&bench.python);
    let mut program = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
    let out = program.stdout.take().expect("it is a pipe");
    BufReader::new(out).read_line(&mut String::new()).expect("the program says that it is ready");
    let rounds: Vec<_> =
        (0..bench.rounds).map(|_| SETTINGS.map(|(_, options)| leave_after(bench, program.id(), options))).collect();
    program.kill().expect("a child can be ended");
    program.wait().expect("a child can be waited for");
    println!("\nLeaving 64 threads: ms from the signal to the end, report written");
    for (at, (name, _)) in SETTINGS.iter().enumerate() {
        match Figures::of(rounds.iter().filter_map(|round| round[at])) {
            None => println!("  {name:<23} skipped: not permitted here"),
            Some(figures) => println!("  {name:<23} {:>6.0}, at most {:.0}", figures.median(), figures.highest()),
        }
    }
}

/// Milliseconds; `None` when the recording does not begin.
fn leave_after(bench: &Bench, pid: u32, options: &[&str]) -> Option<f64> {
    let mut gilscope = attached(bench, pid, options)?;
    sleep(WATCHED);
    let asked = Instant::now();
    leave(&mut gilscope);
    Some(asked.elapsed().as_secs_f64() * 1e3)
}

/// gilscope attached to `pid`; `None` when the recording does not begin.
pub fn attached(bench: &Bench, pid: u32, options: &[&str]) -> Option<Child> {
    let said = bench.file("said");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    command
        .args(["attach", "-v", "--max-overhead", "none", "--backend", "uprobe", "-o"])
        .arg(bench.file("out.json"))
        .args(options);
    command.arg(pid.to_string()).stderr(File::create(&said).expect("the temporary folder is writable"));
    let mut gilscope = command.spawn().expect("gilscope starts");
    let start = Instant::now();
    while !fs::read_to_string(&said).unwrap_or_default().contains("recording process ") {
        if start.elapsed() > PATIENCE || gilscope.try_wait().expect("a child can be waited for").is_some() {
            end(&mut gilscope);
            return None;
        }
        sleep(Duration::from_millis(5));
    }
    Some(gilscope)
}

/// Ends the recording and waits for the report.
pub fn leave(gilscope: &mut Child) {
    Command::new("kill").args(["-INT", &gilscope.id().to_string()]).status().expect("there is a kill");
    gilscope.wait().expect("a child can be waited for");
}

fn end(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}
