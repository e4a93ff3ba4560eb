//! The ladder for a program that is yet to be started: whatever is tried is in place before its first instruction.

use std::path::Path;

use crate::{
    session::{
        error::SessionError,
        ladder::{Fallen, Rung, nothing_bears},
        options::RecordOptions,
        poll::PollWatch,
        preload::{self, PreloadWatch},
        uprobe::{Means, UprobeWatch},
        watch::Watch,
        watchpoint::WatchpointWatch,
    },
    target::{
        launch::{Launched, Program},
        loader::PreloadReach,
        runtime::foreign::is_named_pypy,
    },
};

/// A started program under watch.
#[derive(Debug)]
pub(in crate::session) struct Climbed {
    pub(in crate::session) rung: Rung,
    pub(in crate::session) child: Launched,
    pub(in crate::session) watch: Watch,
    /// The better rungs that did not bear.
    pub(in crate::session) fallen: Vec<Fallen>,
}

/// Starts the program with the best source in place that bears. When none does, it is not started.
pub(in crate::session) fn climb_before_start(
    program: &Program,
    options: RecordOptions,
) -> Result<Climbed, SessionError> {
    let mut fallen = Vec::new();
    let is_pypy = is_named_pypy(Path::new(&program.executable));
    for rung in Rung::for_launch(options) {
        if is_pypy && rung != Rung::Looks {
            fallen.push(Fallen::because(rung, SessionError::Unsuited, None));
            continue;
        }
        match rung.start(program.clone(), options) {
            Ok((child, watch)) => return Ok(Climbed { rung, child, watch, fallen }),
            // No rung can start it.
            Err(why @ SessionError::Launch(_)) => return Err(why),
            Err(why) => fallen.push(Fallen::because(rung, why, None)),
        }
    }
    Err(nothing_bears(options.backend, None, fallen))
}

impl Rung {
    fn start(self, program: Program, options: RecordOptions) -> Result<(Launched, Watch), SessionError> {
        match self {
            Self::Preload => start_preloaded(program, options),
            Self::Programs => start_probed(program, Means::Programs, options),
            Self::Tracepoints => start_probed(program, Means::Tracepoints, options),
            Self::Watchpoints => start_watched(program, options),
            Self::Looks => start_looked_at(program),
        }
    }
}

fn start_preloaded(mut program: Program, options: RecordOptions) -> Result<(Launched, Watch), SessionError> {
    PreloadReach::of(&program.executable)?;
    let prepared = preload::prepare(&mut program, options.reach)?;
    let suspended = program.suspended()?;
    let watch = PreloadWatch::before_start(prepared, suspended.pid(), options);
    Ok((suspended.start()?, Watch::Preload(Box::new(watch))))
}

fn start_watched(program: Program, options: RecordOptions) -> Result<(Launched, Watch), SessionError> {
    let suspended = program.suspended()?;
    let watch = WatchpointWatch::before_start(suspended.pid(), options)?;
    Ok((suspended.start()?, Watch::Watchpoint(Box::new(watch))))
}

fn start_looked_at(program: Program) -> Result<(Launched, Watch), SessionError> {
    let suspended = program.suspended()?;
    let watch = PollWatch::of(suspended.pid());
    Ok((suspended.start()?, Watch::Poll(watch)))
}

fn start_probed(program: Program, means: Means, options: RecordOptions) -> Result<(Launched, Watch), SessionError> {
    let suspended = program.suspended()?;
    let watch = UprobeWatch::before_start(suspended.pid(), means, options)?;
    Ok((suspended.start()?, Watch::Uprobe(Box::new(watch))))
}
