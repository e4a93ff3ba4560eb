//! The command line as it was meant: every choice made, every path resolved, every contradiction refused. A plan that
//! exists can be carried out as far as the command line is concerned.

use std::{
    ffi::OsString,
    num::NonZeroU32,
    os::fd::RawFd,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cli::{
        args::{Args, AttachArgs, Command, DoctorArgs, RecordArgs, RunArgs, ToyVmArgs},
        messages::Verbosity,
        program,
    },
    model::{family::Reach, ids::Pid, profile::Backend, sampled_event::Pace},
    report::{Format, Report, outlet::Destination, view::View},
    session::{
        chosen::{Chosen, EventError},
        event_choice::EventChoice,
    },
};

pub use crate::{
    cli::error::PlanError,
    session::options::{BackendChoice, Budget, FrameDetail},
};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Start a program and profile it.
    Run(RunPlan),
    /// Profile a running process.
    Attach(AttachPlan),
    /// Say what works.
    Doctor(DoctorPlan),
    /// Be the toy VM.
    ToyVm(ToyVmPlan),
    /// Remove a group of probes from the kernel.
    Sweep {
        /// The group's name.
        group: String,
    },
    /// Wait for the recorder's end and write its last reports if it was killed.
    Inherit {
        /// Numbers of the files that hold them.
        files: [RawFd; 2],
        /// Numbers of the memory that probes write to.
        shared: Vec<RawFd>,
        /// Where they go.
        destinations: Vec<Destination>,
    },
}

/// Start a program and profile it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPlan {
    /// The file to execute.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<OsString>,
    /// What to record and where to put it.
    pub record: RecordPlan,
}

/// Profile a running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachPlan {
    /// The process.
    pub pid: Pid,
    /// What to record and where to put it.
    pub record: RecordPlan,
}

/// Say what works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorPlan {
    /// The process that is asked about.
    pub pid: Option<Pid>,
    /// For whom.
    pub reader: Reader,
}

/// Who reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// People.
    Person,
    /// Programs.
    Program,
}

/// Run a program in the toy VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToyVmPlan {
    /// The program's source.
    pub program: PathBuf,
    /// Where to write what really happened.
    pub truth: Option<PathBuf>,
    /// How long a waiter waits before it asks the owner to give way.
    pub switch_interval: Duration,
    /// Whether to say when the program is about to start, and to wait for an answer.
    pub announce: bool,
}

/// What to record and where to put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPlan {
    /// Where the report goes.
    pub output: Destination,
    /// Its format.
    pub format: Format,
    /// What it shows, where the format has views.
    pub view: View,
    /// Where the whole profile goes besides, as JSON.
    pub json: Option<Destination>,
    /// How long to record; `None`: to the target's end or the user's signal.
    pub duration: Option<Duration>,
    /// Stack samples a second; `None`: no stacks.
    pub rate: Option<NonZeroU32>,
    /// Holds at least this long are listed one by one.
    pub long_hold: Duration,
    /// What observing may cost the program.
    pub budget: Budget,
    /// What is counted beside time.
    pub counters: Chosen,
    /// The event that is sampled, if one is.
    pub event: Option<EventChoice>,
    /// Which frames stacks have.
    pub frames: FrameDetail,
    /// Which processes are recorded.
    pub reach: Reach,
    /// Where lock events are to come from.
    pub backend: BackendChoice,
    /// How much to say.
    pub verbosity: Verbosity,
}

/// What a plan depends on besides the words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// gilscope's own file, which is also the toy VM.
    pub exe: PathBuf,
    /// The variable `PATH`.
    pub path: OsString,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_this_process() -> std::io::Result<Self> {
        Ok(Self { exe: std::env::current_exe()?, path: std::env::var_os("PATH").unwrap_or_default() })
    }
}

impl RecordPlan {
    /// The report that goes to `output`.
    pub fn report(&self) -> Box<dyn Report + Send> {
        self.format.report(self.view)
    }
}

impl Plan {
    /// How much to say while carrying it out.
    pub fn verbosity(&self) -> Verbosity {
        match self {
            Self::Run(plan) => plan.record.verbosity,
            Self::Attach(plan) => plan.record.verbosity,
            Self::Doctor(_) | Self::ToyVm(_) | Self::Sweep { .. } | Self::Inherit { .. } => Verbosity::default(),
        }
    }

    /// What `args` mean in these surroundings.
    pub fn of(args: Args, surroundings: &Surroundings) -> Result<Self, PlanError> {
        match args.command {
            Command::Run(run) => run_plan(run, surroundings).map(Self::Run),
            Command::Attach(attach) => attach_plan(attach).map(Self::Attach),
            Command::Doctor(doctor) => Ok(Self::Doctor(doctor_plan(&doctor))),
            Command::ToyVm(toy) => toy_plan(toy).map(Self::ToyVm),
            Command::Sweep { group } => Ok(Self::Sweep { group }),
            Command::Heir { files, shared, destinations } => Ok(inherit_plan((&files, shared), destinations)),
        }
    }
}

/// What the recorder has typed: numbers, and absolute paths.
fn inherit_plan((files, shared): (&[RawFd], Vec<RawFd>), destinations: Vec<PathBuf>) -> Plan {
    let destination =
        |path: PathBuf| if path == Path::new("-") { Destination::Stdout } else { Destination::File(path) };
    let files = [0, 1].map(|at| files.get(at).copied().unwrap_or(-1));
    Plan::Inherit { files, shared, destinations: destinations.into_iter().map(destination).collect() }
}

fn run_plan(run: RunArgs, surroundings: &Surroundings) -> Result<RunPlan, PlanError> {
    let record = record_plan(&run.record)?;
    let launch = program::launch_of(run, surroundings)?;
    Ok(RunPlan { program: launch.program, arguments: launch.arguments, record })
}

fn attach_plan(attach: AttachArgs) -> Result<AttachPlan, PlanError> {
    if attach.record.backend == BackendChoice::Only(Backend::Preload) {
        return Err(PlanError::PreloadCannotAttach);
    }
    Ok(AttachPlan { pid: attach.pid, record: record_plan(&attach.record)? })
}

fn doctor_plan(doctor: &DoctorArgs) -> DoctorPlan {
    DoctorPlan { pid: doctor.pid, reader: if doctor.json { Reader::Program } else { Reader::Person } }
}

fn toy_plan(toy: ToyVmArgs) -> Result<ToyVmPlan, PlanError> {
    program::check_script(&toy.program)?;
    Ok(ToyVmPlan {
        program: toy.program,
        truth: toy.truth,
        switch_interval: toy.switch_interval,
        announce: toy.announce,
    })
}

fn record_plan(record: &RecordArgs) -> Result<RecordPlan, PlanError> {
    let format = format_of(record)?;
    if let (Some(view), false) = (record.view, format.has_views()) {
        return Err(PlanError::NoViews { view, format });
    }
    let event = event_of(record)?;
    if record.view == Some(View::Event) && event.is_none() {
        return Err(PlanError::NoEvent);
    }
    let output = match &record.output {
        Some(path) => destination(path.clone()),
        None => Destination::File(PathBuf::from(format!("gilscope.{}", format.extensions()[0]))),
    };
    let json = record.json.clone().map(destination);
    if json.as_ref() == Some(&output) {
        return Err(PlanError::SameFileTwice { path: record.json.clone().unwrap_or_default() });
    }
    Ok(RecordPlan {
        output,
        format,
        view: record.view.unwrap_or(if event.is_some() { View::Event } else { View::default() }),
        json,
        duration: record.duration,
        rate: NonZeroU32::new(record.rate),
        long_hold: record.long_hold,
        budget: record.max_overhead,
        counters: record.counters,
        event,
        frames: frames_of(record)?,
        reach: if record.subprocesses { Reach::Descendants } else { Reach::Root },
        backend: record.backend,
        verbosity: verbosity(record),
    })
}

fn event_of(record: &RecordArgs) -> Result<Option<EventChoice>, PlanError> {
    let Some(name) = &record.event else { return Ok(None) };
    if record.rate == 0 {
        return Err(PlanError::EventWithoutStacks);
    }
    let frequency = Pace::Frequency(record.freq.unwrap_or(EventChoice::USUAL_FREQUENCY));
    let pace = record.count.map_or(frequency, Pace::Period);
    EventChoice::named(name, pace).map(Some).map_err(|why| match why {
        EventError::Unknown { word } => PlanError::UnknownEvent { word },
        why => PlanError::Event(why),
    })
}

fn frames_of(record: &RecordArgs) -> Result<FrameDetail, PlanError> {
    match (record.native, record.rate) {
        (true, 0) => Err(PlanError::NativeWithoutStacks),
        (true, _) => Ok(FrameDetail::ScriptAndNative),
        (false, _) => Ok(FrameDetail::Script),
    }
}

fn format_of(record: &RecordArgs) -> Result<Format, PlanError> {
    match (record.format, &record.output) {
        (Some(format), _) => Ok(format),
        (None, None) => Ok(Format::Svg),
        (None, Some(path)) if path.as_os_str() == "-" => Ok(Format::Text),
        // A folder is refused as such when the output is opened.
        (None, Some(path)) if path.is_dir() => Ok(Format::Svg),
        (None, Some(path)) => Format::of_path(path).ok_or_else(|| PlanError::UnknownFormat { path: path.clone() }),
    }
}

fn destination(path: PathBuf) -> Destination {
    if path.as_os_str() == "-" { Destination::Stdout } else { Destination::File(path) }
}

fn verbosity(record: &RecordArgs) -> Verbosity {
    match (record.quiet, record.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    }
}

#[cfg(test)]
mod tests;
