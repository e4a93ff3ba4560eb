//! Carrying out a plan: open the outputs, record, write the reports, end with the right code.

use std::os::unix::process::ExitStatusExt;

use anyhow::Context;

use crate::{
    cli::{
        exit::Exit,
        messages::{Messages, Verbosity, columns},
        plan::{AttachPlan, Plan, RecordPlan, RunPlan, ToyVmPlan},
    },
    model::profile::Profile,
    report::{Report, json::Json, outlet::Outlet, text::Text},
    session::{
        attach::AttachSession,
        options::{Chosen, NoteDetail, ProgressLine, RecordOptions},
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
        Plan::ToyVm(plan) => toy_vm(plan),
        Plan::Sweep { group } => sweep(&group).map(|()| Exit::Done).context("cannot clear the probes away"),
    }
}

fn run(plan: RunPlan, messages: Messages) -> anyhow::Result<Exit> {
    let outlets = Outlets::open(&plan.record)?;
    let signals = Signals::collect().context("cannot handle signals")?;
    messages.detail(&started(&plan));
    messages.detail(&source(plan.record.backend.for_launch()));
    let command = Command { executable: plan.program.into(), arguments: plan.arguments };
    let mut session = RunSession::start(command, options(&plan.record), signals)?;
    let recorded = session.record();
    let written = recorded.map_err(anyhow::Error::from).and_then(|profile| outlets.fill(&profile, messages));
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

fn source(chosen: Chosen) -> String {
    format!("lock events come from {}: {}", chosen.backend.name(), chosen.why)
}

fn attach(plan: AttachPlan, messages: Messages) -> anyhow::Result<Exit> {
    let outlets = Outlets::open(&plan.record)?;
    let signals = Signals::collect().context("cannot handle signals")?;
    messages.detail(&format!("looking at process {}", plan.pid));
    messages.detail(&source(plan.record.backend.for_attach()));
    let session = AttachSession::start(plan.pid, options(&plan.record), signals)?;
    messages.detail(&format!("recording process {}", plan.pid));
    outlets.fill(&session.record(), messages)?;
    Ok(Exit::Done)
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
    let RecordPlan { duration, rate, long_hold, budget, frames, backend, .. } = *plan;
    RecordOptions { duration, rate, long_hold, budget, frames, backend, progress, notes }
}

/// Where the reports go; opened before anything starts, so that a bad path fails in the first second.
struct Outlets {
    main: (Outlet, Box<dyn Report>),
    json: Option<Outlet>,
    shown: String,
}

impl Outlets {
    fn open(plan: &RecordPlan) -> anyhow::Result<Self> {
        let json = plan.json.as_ref().map(Outlet::open).transpose()?;
        Ok(Self { main: (Outlet::open(&plan.output)?, plan.report()), json, shown: plan.output.to_string() })
    }

    fn fill(self, profile: &Profile, messages: Messages) -> anyhow::Result<()> {
        let (outlet, report) = self.main;
        outlet.fill(&*report, profile)?;
        if let Some(json) = self.json {
            json.fill(&Json, profile)?;
        }
        if messages.wants_summary() {
            let mut text = Vec::new();
            Text::fitting(columns()).write(profile, &mut text)?;
            messages.summary(&String::from_utf8_lossy(&text));
        }
        messages.say(&format!("wrote {}", self.shown));
        Ok(())
    }
}
