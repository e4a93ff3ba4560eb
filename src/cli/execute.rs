//! Carrying out a plan: open the outputs, record, write the reports, end with the right code.

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
        attach,
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
        Plan::ToyVm(plan) => toy_vm(plan),
        Plan::Sweep { group } => sweep(&group).map(|()| Exit::Done).context("cannot clear the probes away"),
    }
}

fn run(plan: RunPlan, messages: Messages) -> anyhow::Result<Exit> {
    let outlets = Outlets::open(&plan.record)?;
    let signals = Signals::collect().context("cannot handle signals")?;
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
    Ok(exit.after(session.wait().context("cannot wait for the program")?))
}

fn attach(plan: AttachPlan, messages: Messages) -> anyhow::Result<Exit> {
    let outlets = Outlets::open(&plan.record)?;
    let signals = Signals::collect().context("cannot handle signals")?;
    let profile = attach::record(plan.pid, options(&plan.record), signals)?;
    outlets.fill(&profile, messages)?;
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
    RecordOptions { duration: plan.duration, rate: plan.rate, backend: plan.backend, progress, notes }
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
