//! What of a process decides whether it may be looked into.

use std::{fs, os::unix::fs::MetadataExt};

use crate::{
    model::ids::Pid,
    session::doctor::place::{Capabilities, field},
};

/// A process, as everybody may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) pid: Pid,
    /// Real, effective and saved.
    pub(super) users: Vec<u32>,
    pub(super) capabilities: Capabilities,
    pub(super) dumpable: bool,
    pub(super) descent: Descent,
}

/// Whether a process descends from this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Descent {
    Ours,
    Strangers,
}

impl Subject {
    /// `None` when there is no such process any more.
    pub(super) fn of(pid: Pid) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let users: Vec<u32> =
            field(&status, "Uid")?.split_whitespace().take(3).filter_map(|id| id.parse().ok()).collect();
        let (_, effective) = (users.first()?, *users.get(1)?);
        let permitted = field(&status, "CapPrm").and_then(|bits| u64::from_str_radix(bits, 16).ok());
        // Files of a process that is not dumpable belong to root, whoever runs it.
        let owner = fs::metadata(format!("/proc/{pid}/mem")).ok()?.uid();
        let capabilities = Capabilities(permitted.unwrap_or_default());
        Some(Self { pid, dumpable: owner == effective, capabilities, descent: descent(pid), users })
    }
}

/// Links between processes may change meanwhile; a cycle ends the search.
fn descent(pid: Pid) -> Descent {
    const GENERATIONS: usize = 256;
    let us = std::process::id().to_string();
    let mut of = pid.to_string();
    for _ in 0..GENERATIONS {
        if of == us {
            return Descent::Ours;
        }
        let status = fs::read_to_string(format!("/proc/{of}/status")).unwrap_or_default();
        match field(&status, "PPid") {
            Some(parent) if parent != "0" => parent.clone_into(&mut of),
            _ => return Descent::Strangers,
        }
    }
    Descent::Strangers
}
