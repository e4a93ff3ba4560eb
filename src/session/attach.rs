//! Observing a process that is already running, until it ends, the duration is over or a signal arrives.

use std::time::Duration;

use crate::{
    model::{
        family::{Family, Reach},
        ids::Pid,
    },
    session::{
        checkpoint::Checkpoints,
        error::SessionError,
        family::{Household, births, family, snapshot},
        ladder,
        options::RecordOptions,
        recording::{End, Recording},
        signals::Signals,
    },
    source::kin::KinStream,
    target::{discover::Target, proc_mount},
};

/// A running program under observation.
#[derive(Debug)]
pub struct AttachSession {
    pid: Pid,
    recording: Recording,
    household: Option<Household>,
    signals: Signals,
}

impl AttachSession {
    /// Attaches to `pid`; from now on everything is recorded.
    pub fn start(pid: Pid, options: RecordOptions, signals: Signals) -> Result<Self, SessionError> {
        proc_mount::check()?;
        let options = options.tried();
        let target = Target::discover(pid)?;
        if options.reach == Reach::Root {
            let (_, recording) = ladder::climb(&target, (options, None), Vec::new())?;
            return Ok(Self { pid, recording, household: None, signals });
        }
        let there = births::descendants(pid);
        let kin = KinStream::open(pid, there.iter().map(|(child, _)| *child).collect())?.shared();
        let (rung, recording) = ladder::climb(&target, (options, Some(&kin)), Vec::new())?;
        let mut household = Household::with_rung(rung, kin, (pid, options), &recording);
        there.into_iter().for_each(|(child, parent)| household.add_existing(child, Some(parent)));
        Ok(Self { pid, recording, household: Some(household), signals })
    }

    /// How lock events are taken.
    pub fn taken(&self) -> &str {
        self.recording.first_note()
    }

    /// Records to the end.
    pub fn record(mut self, checkpoints: &mut Option<Checkpoints>) -> Family {
        let end = loop {
            self.recording.turn();
            if let Some(household) = &mut self.household {
                household.turn(&self.recording);
            }
            if let Some(checkpoints) = checkpoints {
                checkpoints.consider(|| snapshot(&self.recording, self.household.as_ref()));
            }
            if !has_threads(self.pid) {
                break End::TargetEnded;
            }
            if self.recording.is_over() || self.signals.take().is_some() {
                break End::Now;
            }
            self.recording.pause(self.household.as_ref().map_or(Duration::MAX, Household::pace));
        };
        if let Some(household) = &mut self.household {
            household.stop(&self.recording);
        }
        family(self.recording.finish(end), self.household)
    }
}

/// Whether any thread of the process still runs: a zombie has a folder in `/proc` and no memory.
fn has_threads(pid: Pid) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}
