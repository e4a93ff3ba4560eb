//! Launching a program under observation, from its first instruction to its last.
//!
//! The program is never in danger from us: whatever fails on our side, it runs on, and its exit status is passed on.

use std::{
    ffi::OsString,
    io,
    process::ExitStatus,
    time::{Duration, Instant},
};

use crate::{
    model::profile::{Backend, Profile},
    session::{
        error::SessionError,
        options::RecordOptions,
        poll::PollWatch,
        preload::{self, PreloadWatch},
        recording::End,
        signals::{Signals, pass_on},
        uprobe::UprobeWatch,
        watch::Watch,
    },
    target::{
        discover::Target,
        launch::{Launched, Program},
    },
};

/// What to launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The executable: a path, or a name that is looked up in `PATH`.
    pub executable: OsString,
    /// Its arguments, without the name.
    pub arguments: Vec<OsString>,
}

/// A launched program under observation.
#[derive(Debug)]
pub struct RunSession {
    child: Launched,
    signals: Signals,
    watch: Option<Watch>,
    options: RecordOptions,
    started: Instant,
    ended: Option<ExitStatus>,
}

/// How long between two looks for the interpreter; it takes some ten milliseconds to start.
const LOOK: Duration = Duration::from_millis(1);

impl RunSession {
    /// Starts the program with the chosen source in place.
    pub fn start(command: Command, options: RecordOptions, signals: Signals) -> Result<Self, SessionError> {
        let mut program = Program {
            executable: command.executable,
            arguments: command.arguments,
            environment: Vec::new(),
            inherit: Vec::new(),
            ignore: signals.ignored().to_vec(),
        };
        let (child, watch) = match options.backend.for_launch().backend {
            Backend::Preload => {
                let prepared = preload::prepare(&mut program)?;
                let suspended = program.suspended()?;
                let watch = PreloadWatch::before_start(prepared, suspended.pid(), options);
                (suspended.start()?, Watch::Preload(Box::new(watch)))
            }
            Backend::Poll => {
                let suspended = program.suspended()?;
                let watch = PollWatch::of(suspended.pid());
                (suspended.start()?, Watch::Poll(watch))
            }
            Backend::Uprobe => {
                let suspended = program.suspended()?;
                let watch = UprobeWatch::before_start(suspended.pid())?;
                (suspended.start()?, Watch::Uprobe(watch))
            }
        };
        Ok(Self { child, signals, watch: Some(watch), options, started: Instant::now(), ended: None })
    }

    /// Records until the program ends, the duration is over or a signal ends the recording.
    pub fn record(&mut self) -> Result<Profile, SessionError> {
        let watch = self.watch.take().ok_or_else(|| self.no_interpreter())?;
        let (watch, target) = self.await_interpreter(watch)?;
        let mut recording = watch.begin(target, self.options).map_err(|error| self.unless_ended(error))?;
        let end = loop {
            recording.turn();
            if let Some(status) = self.child.try_wait().ok().flatten() {
                self.ended = Some(status);
                break End::TargetEnded;
            }
            if recording.is_over() || self.signal_received() {
                break End::Now;
            }
            recording.pause();
        };
        let profile = recording.finish(end);
        let never_began = end == End::TargetEnded && profile.locks.is_empty() && !profile.target.free_threaded;
        if never_began { Err(self.no_interpreter()) } else { Ok(profile) }
    }

    /// That the program has ended explains whatever else went wrong.
    fn unless_ended(&mut self, error: SessionError) -> SessionError {
        self.ended = self.ended.or_else(|| self.child.try_wait().ok().flatten());
        if self.ended.is_some() { self.no_interpreter() } else { error }
    }

    fn no_interpreter(&self) -> SessionError {
        SessionError::NoInterpreter { backend: self.options.backend.for_launch().backend }
    }

    /// Waits for the program to end, passing on signals meanwhile.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended.map_or_else(|| self.child.try_wait(), |status| Ok(Some(status)))? {
                return Ok(status);
            }
            self.signal_received();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until an interpreter runs and can be described.
    fn await_interpreter(&mut self, mut watch: Watch) -> Result<(Watch, Target), SessionError> {
        loop {
            if let Some(target) = watch.look()? {
                return Ok((watch, target));
            }
            if let Some(status) = self.child.try_wait().map_err(SessionError::Wait)? {
                self.ended = Some(status);
                return Err(self.no_interpreter());
            }
            if self.signal_received() || self.options.duration.is_some_and(|limit| self.started.elapsed() >= limit) {
                return Err(self.no_interpreter());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn signal_received(&mut self) -> bool {
        let mut received = false;
        while let Some(signal) = self.signals.take() {
            pass_on(signal, &mut self.child);
            received = true;
        }
        received
    }
}
