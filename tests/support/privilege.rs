//! What this machine lets a test do.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::{fs, process::Command};

use gilscope::{
    model::ids::Pid,
    source::scheduler::{SchedulerSource, Scope},
};

use super::outcome;

/// Whether uprobes can be armed; says so when not.
pub fn may_use_uprobes() -> bool {
    let may = fs::metadata("/sys/kernel/tracing/uprobe_events").is_ok() && is_root();
    if !may {
        outcome::skipped("uprobes: need root and tracefs");
    }
    may
}

/// Whether the kernel tells of our own threads' events; says so of `what` when not.
pub fn may_watch_threads(what: &str) -> bool {
    let us = Pid::from_raw(std::process::id().cast_signed()).expect("a process has a positive pid");
    let refused = SchedulerSource::open(us, Scope::Running).err();
    refused.iter().for_each(|why| outcome::skipped(&format!("{what}: {why}")));
    refused.is_none()
}

/// Whether this is root.
pub fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("a process can read its own status");
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

/// The beginning of a command that must do without programs in the kernel: root, but for what those need.
pub fn without_programs() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-bpf,-sys_admin", "--inh-caps", "-bpf,-sys_admin"]);
    command
}
