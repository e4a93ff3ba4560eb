//! Carrying out a plan: open the outputs, record, write the reports, end with the right code.

use std::{
    io::{self, Write},
    os::unix::process::ExitStatusExt,
};

use anyhow::Context;

use crate::{
    cli::{
        exit::Exit,
        messages::{Messages, Verbosity, columns, stdout_columns},
        plan::{AttachPlan, DoctorPlan, Plan, Reader, RecordPlan, RunPlan, ToyVmPlan},
    },
    model::family::Family,
    report::{
        Report, diagnosis,
        json::Json,
        outlet::{Outlet, OutletError},
        text::Text,
    },
    session::{
        attach::AttachSession,
        checkpoint::{Checkpoints, Intended},
        doctor::examine,
        heir::inherit,
        options::{NoteDetail, ProgressLine, RecordOptions},
        run::{Command, RunSession},
        signals::Signals,
        sweep,
    },
    toyvm,
};

/// Does what the plan says, telling the user through `messages`.
pub fn execute(plan: Plan, messages: Messages) -> anyhow::Result<Exit> {
    match plan {
        Plan::Run(plan) => run(plan, messages),
        Plan::Attach(plan) => attach(plan, messages),
        Plan::Doctor(plan) => doctor(&plan),
        Plan::ToyVm(plan) => toy_vm(plan),
        Plan::Inherit { files, shared, destinations } => {
            let said = inherit((files, &shared), &destinations)
                .context("the recorder was killed, and its last report is lost")?;
            said.iter().for_each(|said| messages.say(said));
            Ok(Exit::Done)
        }
        Plan::Sweep { group } => sweep(&group).map(|()| Exit::Done).context("cannot clear the probes away"),
    }
}

fn run(plan: RunPlan, messages: Messages) -> anyhow::Result<Exit> {
    let outlets = Outlets::open(&plan.record)?;
    let signals = Signals::collect().context("cannot handle signals")?;
    messages.detail(&started(&plan));
    let command = Command { executable: plan.program.into(), arguments: plan.arguments };
    let mut session = RunSession::start(command, options(&plan.record), signals)?;
    messages.detail(&session.taken());
    let mut checkpoints = Checkpoints::begin(intended(&plan.record), &session.shared());
    let recorded = session.record(&mut checkpoints);
    let written = recorded.map_err(anyhow::Error::from).and_then(|family| outlets.fill(&family, messages));
    if let Some(checkpoints) = checkpoints {
        checkpoints.end();
    }
    let exit = match &written {
        Ok(()) => Exit::Done,
        Err(error) => {
            messages.error(error);
            Exit::of_error(error)
        }
    };
    let status = session.wait().context("cannot wait for the program")?;
    match status.signal() {
        Some(signal) => messages.say(&format!("the program was ended by {}", signal_words(signal))),
        None => messages.detail(&format!("the program ended with code {}", status.code().unwrap_or_default())),
    }
    Ok(exit.after(status))
}

fn signal_words(signal: i32) -> String {
    let name = signal_hook::low_level::signal_name(signal);
    name.map_or_else(|| format!("signal {signal}"), |name| format!("signal {signal} ({name})"))
}

fn started(plan: &RunPlan) -> String {
    let words = std::iter::once(plan.program.as_os_str()).chain(plan.arguments.iter().map(|word| word.as_os_str()));
    let words: Vec<_> = words.map(|word| word.to_string_lossy().escape_debug().to_string()).collect();
    format!("starting {}", words.join(" "))
}

fn attach(plan: AttachPlan, messages: Messages) -> anyhow::Result<Exit> {
    let outlets = Outlets::open(&plan.record)?;
    let signals = Signals::collect().context("cannot handle signals")?;
    messages.detail(&format!("looking at process {}", plan.pid));
    let session = AttachSession::start(plan.pid, options(&plan.record), signals)?;
    messages.detail(session.taken());
    messages.detail(&format!("recording process {}", plan.pid));
    let mut checkpoints = Checkpoints::begin(intended(&plan.record), &[]);
    let written = outlets.fill(&session.record(&mut checkpoints), messages);
    if let Some(checkpoints) = checkpoints {
        checkpoints.end();
    }
    written.map(|()| Exit::Done)
}

fn doctor(plan: &DoctorPlan) -> anyhow::Result<Exit> {
    let diagnosis = examine(plan.pid);
    let text = match plan.reader {
        Reader::Person => diagnosis::text(&diagnosis, stdout_columns()),
        Reader::Program => diagnosis::json(&diagnosis),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot print the diagnosis"),
        _ => Ok(Exit::of_diagnosis(&diagnosis)),
    }
}

fn toy_vm(plan: ToyVmPlan) -> anyhow::Result<Exit> {
    let announce = if plan.announce { toyvm::Announce::AndWait } else { toyvm::Announce::No };
    let options =
        toyvm::Options { program: plan.program, truth: plan.truth, switch_interval: plan.switch_interval, announce };
    toyvm::run(options)?;
    Ok(Exit::Done)
}

fn options(plan: &RecordPlan) -> RecordOptions {
    let progress = if plan.verbosity == Verbosity::Quiet { ProgressLine::Hidden } else { ProgressLine::OnTerminal };
    let notes = if plan.verbosity == Verbosity::Verbose { NoteDetail::Full } else { NoteDetail::Brief };
    let RecordPlan { duration, rate, long_hold, budget, counters, event, frames, reach, backend, .. } = *plan;
    RecordOptions { duration, rate, long_hold, budget, counters, event, frames, backend, reach, progress, notes }
}

/// The reports that are to be written.
fn intended(plan: &RecordPlan) -> Vec<Intended> {
    let main = (plan.output.clone(), plan.report());
    let json = plan.json.clone().map(|json| (json, Box::new(Json) as Box<dyn Report + Send>));
    std::iter::once(main).chain(json).collect()
}

/// Where the reports go; opened before anything starts, so that a bad path fails in the first second.
struct Outlets {
    main: (Outlet, Box<dyn Report + Send>),
    json: Option<Outlet>,
    shown: String,
}

impl Outlets {
    fn open(plan: &RecordPlan) -> anyhow::Result<Self> {
        let json = plan.json.as_ref().map(Outlet::open).transpose()?;
        Ok(Self { main: (Outlet::open(&plan.output)?, plan.report()), json, shown: plan.output.to_string() })
    }

    fn fill(self, family: &Family, messages: Messages) -> anyhow::Result<()> {
        let (outlet, report) = self.main;
        let filled =
            [Some(outlet.fill_family(&*report, family)), self.json.map(|json| json.fill_family(&Json, family))];
        // Each has its own place: that one is full says nothing of the others.
        let failed: Vec<OutletError> = filled.into_iter().flatten().filter_map(Result::err).collect();
        let lost = failed.iter().any(|error| matches!(error, OutletError::Write { kept: None, .. }));
        if messages.wants_summary() || lost {
            let mut text = Vec::new();
            Text::fitting(columns()).write_family(family, &mut text)?;
            messages.summary(&String::from_utf8_lossy(&text));
        }
        let mut failed = failed.into_iter().map(anyhow::Error::new);
        if let Some(first) = failed.next() {
            failed.for_each(|error| messages.error(&error));
            return Err(first);
        }
        messages.say(&format!("wrote {}", self.shown));
        Ok(())
    }
}
