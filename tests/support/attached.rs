//! Attaching, and knowing when the recording has begun.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command},
    thread::sleep,
    time::{Duration, Instant},
};

/// Attaches to `pid` with the report going to `output`, and returns once the recording has begun. What gilscope says goes to
/// a file beside the report.
pub fn attached(pid: u32, output: &Path) -> Child {
    attached_with(pid, output, &[])
}

/// The same with more options.
pub fn attached_with(pid: u32, output: &Path, options: &[&str]) -> Child {
    let said = output.with_extension("said");
    let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    gilscope.args(["attach", "-v", "--max-overhead", "none", "-o"]).arg(output).args(options).arg(pid.to_string());
    let mut gilscope =
        gilscope.stderr(File::create(&said).expect("the folder is writable")).spawn().expect("gilscope starts");
    let begun = Instant::now();
    loop {
        let words = fs::read_to_string(&said).unwrap_or_default();
        if words.contains("gilscope: recording process ") {
            return gilscope;
        }
        let ended = gilscope.try_wait().expect("gilscope can be waited for");
        assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(60), "no recording: {words}");
        sleep(Duration::from_millis(10));
    }
}
