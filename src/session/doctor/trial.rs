//! Trying a rung: begin to record on it, wait for events, end. What it leaves is nothing.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use crate::{
    model::{family::Reach, time::Nanos},
    session::{
        chosen::Chosen,
        doctor::toy::{ToyPatient, ToyProgram, await_target},
        error::SessionError,
        ladder::{Climbed, Rung, climb_before_start},
        options::{BackendChoice, Budget, FrameDetail, NoteDetail, ProgressLine, RecordOptions},
        recording::{End, Recording},
    },
    source::Tally,
    target::discover::Target,
};

/// A patient of our own makes an event every millisecond at least; on a busy machine it may get no CPU for a while.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOKING: Duration = Duration::from_millis(200);
const STACKS_A_SECOND: NonZeroU32 = NonZeroU32::new(100).expect("it is above zero");

/// A rung that bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bears {
    /// What one event costs; `None` when not measured.
    pub(super) cost: Option<Nanos>,
}

/// Tries a rung on somebody else's process, which need not do anything meanwhile.
pub(super) fn on_process(rung: Rung, target: &Target) -> Result<Bears, SessionError> {
    let mut recording = rung.attach(target, options(rung))?;
    recording.turn();
    Ok(ended(recording))
}

/// Tries a rung on a program of our own, from its start if need be.
pub(super) fn on_toy(rung: Rung) -> Result<Bears, SessionError> {
    let toy = ToyProgram::new()?;
    if rung.attaches() {
        let patient = toy.start()?;
        let target = Target::discover(patient.child.pid())?;
        let recording = rung.attach(&target, options(rung))?;
        return if rung.tells_events() { await_event(recording) } else { await_estimate(recording) };
    }
    let mut climbed = climb_before_start(&toy.program(), options(rung)).map_err(sole_reason)?;
    let target = await_target(&mut climbed);
    let Climbed { child, watch, .. } = climbed;
    let _patient = ToyPatient { child };
    await_event(watch.begin(target?, options(rung))?.0)
}

fn await_event(mut recording: Recording) -> Result<Bears, SessionError> {
    let since = Instant::now();
    loop {
        recording.turn();
        if recording.tally().lock_events > 0 {
            return Ok(ended(recording));
        }
        if since.elapsed() > PATIENCE {
            recording.finish(End::Now);
            return Err(SessionError::Silent);
        }
        recording.pause(Duration::MAX);
    }
}

/// The lock is held for a fifth of the time: a few looks suffice.
fn await_estimate(mut recording: Recording) -> Result<Bears, SessionError> {
    let since = Instant::now();
    while since.elapsed() < LOOKING {
        recording.turn();
        recording.pause(Duration::MAX);
    }
    let profile = recording.finish(End::Now);
    let held = profile.locks.iter().any(|lock| lock.held > Nanos::ZERO);
    if held { Ok(Bears { cost: None }) } else { Err(SessionError::Silent) }
}

fn ended(recording: Recording) -> Bears {
    let Tally { cost_per_event, .. } = recording.tally();
    recording.finish(End::Now);
    Bears { cost: cost_per_event }
}

/// Only one rung was asked for: its reason is the whole one.
fn sole_reason(error: SessionError) -> SessionError {
    match error {
        SessionError::NoRung { mut fallen, .. } if fallen.len() == 1 => fallen.remove(0).why,
        other => other,
    }
}

fn options(rung: Rung) -> RecordOptions {
    RecordOptions {
        reach: Reach::Root,
        duration: None,
        rate: Some(STACKS_A_SECOND),
        long_hold: Duration::from_secs(1),
        budget: Budget::Unlimited,
        counters: Chosen::default(),
        event: None,
        frames: FrameDetail::Script,
        backend: BackendChoice::Exactly(rung),
        progress: ProgressLine::Hidden,
        notes: NoteDetail::Brief,
    }
}
