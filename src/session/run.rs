//! Launching a program under observation, from its first instruction to its last.
//!
//! The program is never in danger from us: whatever fails on our side, it runs on, and its exit status is passed on.

use std::{
    ffi::OsString,
    io,
    os::fd::BorrowedFd,
    process::ExitStatus,
    time::{Duration, Instant},
};

use crate::{
    model::family::{Family, Reach},
    session::{
        checkpoint::Checkpoints,
        error::SessionError,
        family::{Household, births, family, snapshot},
        ladder::{self, Climbed, Fallen, Rung, climb_before_start},
        options::{BackendChoice, NoteDetail, RecordOptions},
        recording::{End, Recording},
        signals::{Signals, pass_on},
        watch::Watch,
    },
    source::kin::KinStream,
    target::{
        discover::{DiscoverError, Target},
        launch::{Launched, Program},
        proc_mount,
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
    rung: Rung,
    watch: Option<Watch>,
    /// Better rungs that did not bear.
    fallen: Vec<Fallen>,
    options: RecordOptions,
    started: Instant,
    ended: Option<ExitStatus>,
}

/// How long between two looks for the interpreter; it takes some ten milliseconds to start.
const LOOK: Duration = Duration::from_millis(1);
/// After so many it is asked whether the program is another Python.
const LOOKS_FOR_OTHERS: u32 = 100;

impl RunSession {
    /// Starts the program with the chosen source in place.
    pub fn start(command: Command, options: RecordOptions, signals: Signals) -> Result<Self, SessionError> {
        proc_mount::check()?;
        let options = RecordOptions { counters: options.counters.tried(), ..options };
        let program = Program {
            executable: command.executable,
            arguments: command.arguments,
            environment: Vec::new(),
            inherit: Vec::new(),
            ignore: signals.ignored().to_vec(),
        };
        let climbed = climb_before_start(&program, options)?;
        let Climbed { rung, child, watch, fallen } = climbed;
        Ok(Self { child, signals, rung, watch: Some(watch), fallen, options, started: Instant::now(), ended: None })
    }

    /// How lock events are taken, and why not in a better way.
    pub fn taken(&self) -> String {
        ladder::taken(self.rung, &self.fallen, NoteDetail::Full)
    }

    /// The memory that is shared with probes inside the program, for whoever must end them when this process is killed.
    pub fn shared(&self) -> Vec<BorrowedFd<'_>> {
        self.watch.as_ref().map(Watch::shared).unwrap_or_default()
    }

    /// Records until the program ends, the duration is over or a signal ends the recording.
    pub fn record(&mut self, checkpoints: &mut Option<Checkpoints>) -> Result<Family, SessionError> {
        let watch = self.watch.take().ok_or_else(|| self.no_interpreter())?;
        let (mut recording, mut household) = self.begin(watch).map_err(|error| self.unless_ended(error))?;
        let end = loop {
            recording.turn();
            if let Some(household) = &mut household {
                household.turn(&recording);
            }
            if let Some(checkpoints) = checkpoints {
                checkpoints.consider(|| snapshot(&recording, household.as_ref()));
            }
            if let Some(status) = self.child.try_wait().ok().flatten() {
                self.ended = Some(status);
                break End::TargetEnded;
            }
            if recording.is_over() || self.signal_received() {
                break End::Now;
            }
            recording.pause(household.as_ref().map_or(Duration::MAX, Household::pace));
        };
        if let Some(household) = &mut household {
            household.stop(&recording);
        }
        let profile = recording.finish(end);
        let never_began = end == End::TargetEnded && profile.locks.is_empty() && !profile.target.free_threaded;
        if never_began { Err(self.no_interpreter()) } else { Ok(family(profile, household)) }
    }

    /// Begins to record once there is an interpreter; on another rung if it turns out to be beyond the reach of the first.
    fn begin(&mut self, watch: Watch) -> Result<(Recording, Option<Household>), SessionError> {
        let mut fallen = std::mem::take(&mut self.fallen);
        let why = match self.await_interpreter(watch)? {
            Some((_, target)) if !self.rung.suits(&target) => SessionError::Unsuited,
            Some((watch, target)) => match watch.begin(target, self.options) {
                Ok((mut recording, household)) => {
                    recording.note_rung((self.rung, self.options), &fallen);
                    let household = household.or_else(|| self.late_household(&recording));
                    return Ok((recording, household));
                }
                Err(why) => why,
            },
            None if !self.rung.suits(&Target::discover(self.child.pid())?) => SessionError::Unsuited,
            None => SessionError::ProbeNotLoaded,
        };
        if self.options.backend != BackendChoice::Auto {
            return Err(why);
        }
        let target = Target::discover(self.child.pid())?;
        fallen.push(Fallen::because(self.rung, why, None));
        let (rung, mut recording) = ladder::climb(&target, (self.options, None), fallen)?;
        recording.note(format!(
            "the program was attached to by {} after it had begun: its first moments are missing",
            rung.name()
        ));
        self.rung = rung;
        let household = self.late_household(&recording);
        Ok((recording, household))
    }

    /// The other processes, if they are wanted and were not watched from the start.
    fn late_household(&self, recording: &Recording) -> Option<Household> {
        if self.options.reach == Reach::Root {
            return None;
        }
        let child = self.child.pid();
        let there = births::descendants(child);
        let kin = KinStream::open(child, there.iter().map(|(other, _)| *other).collect()).ok()?.shared();
        let mut household = Household::with_rung(self.rung, kin, (child, self.options), recording);
        let others = there.into_iter().filter(|(other, _)| *other != recording.target().pid);
        others.for_each(|(other, parent)| household.add_existing(other, Some(parent)));
        Some(household)
    }

    /// That the program has ended explains whatever else went wrong.
    fn unless_ended(&mut self, error: SessionError) -> SessionError {
        self.ended = self.ended.or_else(|| self.child.try_wait().ok().flatten());
        if self.ended.is_some() { self.no_interpreter() } else { error }
    }

    fn no_interpreter(&self) -> SessionError {
        SessionError::NoInterpreter { backend: self.rung.backend() }
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

    /// Waits until an interpreter runs and can be described; `None` if what was put in place has no effect on it.
    fn await_interpreter(&mut self, mut watch: Watch) -> Result<Option<(Watch, Target)>, SessionError> {
        for look in 1_u32.. {
            if let Some(target) = watch.look()? {
                return Ok(Some((watch, target)));
            }
            if watch.has_missed() {
                return Ok(None);
            }
            if let Some(status) = self.child.try_wait().map_err(SessionError::Wait)? {
                self.ended = Some(status);
                return Err(self.no_interpreter());
            }
            if self.signal_received() || self.options.duration.is_some_and(|limit| self.started.elapsed() >= limit) {
                return Err(self.no_interpreter());
            }
            if look.is_multiple_of(LOOKS_FOR_OTHERS) {
                self.refuse_others()?;
            }
            std::thread::sleep(LOOK);
        }
        Err(self.no_interpreter())
    }

    /// Another Python than those that can be observed stays one, however long one waits.
    fn refuse_others(&self) -> Result<(), SessionError> {
        match Target::discover(self.child.pid()) {
            Err(DiscoverError::Foreign { pid, what }) if what.advice().is_some() => {
                Err(DiscoverError::Foreign { pid, what }.into())
            }
            _ => Ok(()),
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
