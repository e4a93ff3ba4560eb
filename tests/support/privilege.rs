//! What this machine lets a test do.

use std::fs;

/// Whether uprobes can be armed; says so when not.
pub fn may_use_uprobes() -> bool {
    let may = fs::metadata("/sys/kernel/tracing/uprobe_events").is_ok() && is_root();
    if !may {
        println!("skipped: uprobes (needs root and tracefs)");
    }
    may
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("a process can read its own status");
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}
