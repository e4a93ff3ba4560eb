//! Observing a process that is already running, until it ends, the duration is over or a signal arrives.

use crate::{
    model::{
        ids::Pid,
        profile::{Backend, Profile},
    },
    session::{error::SessionError, options::RecordOptions, recording::End, signals::Signals, uprobe},
    target::discover::Target,
};

/// Attaches to `pid` and records.
pub fn record(pid: Pid, options: RecordOptions, mut signals: Signals) -> Result<Profile, SessionError> {
    let target = Target::discover(pid)?;
    let mut recording = match options.backend.for_attach().backend {
        Backend::Uprobe => uprobe::attach(target, options)?,
        Backend::Preload => return Err(SessionError::PreloadNeedsLaunch),
    };
    let end = loop {
        recording.turn();
        if !has_threads(pid) {
            break End::TargetEnded;
        }
        if recording.is_over() || signals.take().is_some() {
            break End::Now;
        }
        recording.pause();
    };
    Ok(recording.finish(end))
}

/// Whether any thread of the process still runs: a zombie has a folder in `/proc` and no memory.
fn has_threads(pid: Pid) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}
