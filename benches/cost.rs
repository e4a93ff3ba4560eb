//! What gilscope costs the program it watches: `cargo bench --bench cost`.
//!
//! Each load runs alone and under each source, in turn, for several rounds; the medians are printed as nanoseconds a
//! release/acquire cycle, or as a ratio of throughputs. Loads time themselves, so start-up does not count.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Writes and reads one byte at a time: two release/acquire cycles a round, and hardly anything else.
const PIPE: &str = "
import os, sys, time
rounds = int(sys.argv[1])
reader, writer = os.pipe()
start = time.perf_counter_ns()
for _ in range(rounds):
    os.write(writer, b'x')
    os.read(reader, 1)
print((time.perf_counter_ns() - start) / (2 * rounds))
";

/// Threads that only compute.
const SPIN: &str = "
import sys, threading, time
def spin():
    for _ in range(int(sys.argv[1])):
        sum(range(1000))
threads = [threading.Thread(target=spin) for _ in range(4)]
start = time.perf_counter_ns()
for thread in threads: thread.start()
for thread in threads: thread.join()
print(time.perf_counter_ns() - start)
";

const ROUNDS: usize = 7;
const SETTINGS: [(&str, &[&str]); 6] = [
    ("alone", &[]),
    ("preload, no stacks", &["--backend", "preload", "-r", "0"]),
    ("preload, 100 Hz", &["--backend", "preload"]),
    ("uprobe, no stacks", &["--backend", "uprobe", "-r", "0"]),
    ("uprobe, 100 Hz", &["--backend", "uprobe"]),
    ("uprobe, 1 kHz", &["--backend", "uprobe", "-r", "1000"]),
];

fn main() {
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let folder = env::temp_dir().join(format!("gilscope-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder is writable");
    report("pipe loop, ns a cycle", &python, &folder, ("pipe.py", PIPE, "200000"));
    report("4 computing threads, ns a run", &python, &folder, ("spin.py", SPIN, "6000"));
    memory(&python, &folder);
    fs::remove_dir_all(&folder).expect("the temporary folder is removable");
}

fn report(title: &str, python: &str, folder: &Path, (name, script, size): (&str, &str, &str)) {
    let path = folder.join(name);
    fs::write(&path, script).expect("the script can be written");
    let mut figures = vec![Vec::new(); SETTINGS.len()];
    for _ in 0..ROUNDS {
        for ((_, options), figures) in SETTINGS.iter().zip(&mut figures) {
            let words = [python, path.to_str().expect("the path is UTF-8"), size];
            figures.extend(measure(options, &words, folder));
        }
    }
    println!("{title} (median of {ROUNDS}, in turn)");
    let alone = median(&mut figures[0]);
    for ((setting, _), mut figures) in SETTINGS.iter().zip(figures) {
        if figures.is_empty() {
            println!("  {setting:<20} skipped: not permitted here");
            continue;
        }
        let figure = median(&mut figures);
        println!("  {setting:<20} {figure:>12.1}   {:>+10.1}   x {:.3}", figure - alone, figure / alone);
    }
}

/// What the load printed, under gilscope if there are options for it.
fn measure(options: &[&str], words: &[&str], folder: &Path) -> Option<f64> {
    let mut command = match options {
        [] => Command::new(words[0]),
        _ => {
            let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
            gilscope.args(["run", "-q", "-o"]).arg(folder.join("out.json")).args(options).args(["--", words[0]]);
            gilscope
        }
    };
    let output = command.args(&words[1..]).stderr(Stdio::null()).output().expect("the load starts");
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// gilscope's own memory while the pipe loop runs for longer and longer.
fn memory(python: &str, folder: &Path) {
    println!("gilscope's own peak memory, pipe loop");
    for rounds in ["200000", "1000000", "4000000"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gilscope"));
        command.args(["run", "-q", "-o"]).arg(folder.join("out.json")).args(["--", python]);
        let script = folder.join("pipe.py");
        let mut child = command.arg(script).arg(rounds).stdout(Stdio::null()).spawn().expect("gilscope starts");
        let mut peak = None;
        while child.try_wait().expect("gilscope can be waited for").is_none() {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let now = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(|line| line.trim().to_owned());
            peak = now.or(peak);
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("  {rounds:>8} rounds         {}", peak.unwrap_or_else(|| "unknown".to_owned()));
    }
}
