//! gilscope's own memory while the pipe loop runs for longer and longer.

use std::{
    fs,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::{bench::Bench, loads};

/// Batches of the pipe loop, of 20,000 cycles each.
const BATCHES: [u32; 3] = [10, 50, 200];

pub fn report(bench: &Bench) {
    println!("\ngilscope's own peak memory, pipe loop");
    let script = bench.script("pipe.py", loads::PIPE);
    for batches in BATCHES {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gilscope"));
        command
            .args(["run", "-q", "--max-overhead", "none", "-o"])
            .arg(bench.file("out.json"))
            .args(["--", &bench.python])
            .arg(&script);
        command.arg(bench.file("told")).arg(batches.to_string());
        let mut child = command.stdout(Stdio::null()).spawn().expect("gilscope starts");
        let mut peak = None;
        while child.try_wait().expect("gilscope can be waited for").is_none() {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let now = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(|line| line.trim().to_owned());
            peak = now.or(peak);
            sleep(Duration::from_millis(20));
        }
        println!("  {:>8} cycles         {}", 20_000 * batches, peak.unwrap_or_else(|| "unknown".to_owned()));
    }
}
