//! Observing a process that is already running, until it ends, the duration is over or a signal arrives.

use crate::{
    model::{ids::Pid, profile::Profile},
    session::{
        checkpoint::Checkpoints,
        error::SessionError,
        ladder,
        options::RecordOptions,
        recording::{End, Recording},
        signals::Signals,
    },
    target::{discover::Target, proc_mount},
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
        proc_mount::check()?;
        let target = Target::discover(pid)?;
        let (_, recording) = ladder::climb(&target, options, Vec::new())?;
        Ok(Self { pid, recording, signals })
    }

    /// How lock events are taken.
    pub fn taken(&self) -> &str {
        self.recording.first_note()
    }

    /// Records to the end.
    pub fn record(mut self, checkpoints: &mut Option<Checkpoints>) -> Profile {
        let end = loop {
            self.recording.turn();
            if let Some(checkpoints) = checkpoints {
                checkpoints.consider(|| self.recording.snapshot());
            }
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
