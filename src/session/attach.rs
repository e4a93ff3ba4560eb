//! Observing a process that is already running, until it ends, the duration is over or a signal arrives.

use crate::{
    model::{
        ids::Pid,
        profile::{Backend, Profile},
    },
    session::{
        error::SessionError,
        options::RecordOptions,
        poll,
        recording::{End, Recording},
        signals::Signals,
        uprobe,
    },
    target::discover::Target,
};

/// A running program under observation.
#[derive(Debug)]
pub struct AttachSession {
    pid: Pid,
    recording: Recording,
    signals: Signals,
}

impl AttachSession {
    /// Attaches to `pid`; from now on everything is recorded.
    pub fn start(pid: Pid, options: RecordOptions, signals: Signals) -> Result<Self, SessionError> {
        let target = Target::discover(pid)?;
        let recording = match options.backend.for_attach().backend {
            Backend::Uprobe => uprobe::attach(target, options)?,
            Backend::Poll => poll::begin(target, options)?,
            Backend::Preload => return Err(SessionError::PreloadNeedsLaunch),
        };
        Ok(Self { pid, recording, signals })
    }

    /// Records to the end.
    pub fn record(mut self) -> Profile {
        let end = loop {
            self.recording.turn();
            if !has_threads(self.pid) {
                break End::TargetEnded;
            }
            if self.recording.is_over() || self.signals.take().is_some() {
                break End::Now;
            }
            self.recording.pause();
        };
        self.recording.finish(end)
    }
}

/// Whether any thread of the process still runs: a zombie has a folder in `/proc` and no memory.
fn has_threads(pid: Pid) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}
