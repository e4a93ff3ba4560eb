//! Folded stacks: `thread;outermost;…;innermost [state] nanoseconds`, one line a distinct stack, for other tools.
//!
//! Where several processes were recorded, `pid 12: command;` stands in front. The view `blame` has
//! `holder;outermost;…;innermost;waiter [blame] nanoseconds`, the view `event` no thread, and the class in brackets with the event's own
//! numbers. Weights are whole and sum to the profile's totals.

use std::{collections::BTreeMap, io};

use crate::{
    model::{family::Family, profile::Profile, time::Nanos},
    report::{
        Report, ReportError,
        charge::{charges, frames_of},
        names::{ThreadNames, clean_frame, process_label},
        scaled::scaled,
        view::View,
    },
};

/// The folded report of one view.
#[derive(Debug, Clone, Copy)]
pub struct Folded {
    view: View,
}

impl Folded {
    /// The report of `view`.
    pub fn of(view: View) -> Self {
        Self { view }
    }
}

impl Report for Folded {
    fn write(&self, profile: &Profile, out: &mut dyn io::Write) -> Result<(), ReportError> {
        for (stack, amount) in lines(profile, self.view.of(&[profile])) {
            writeln!(out, "{stack} {amount}")?;
        }
        Ok(())
    }

    /// All processes in one file, each line with its process first.
    fn write_family(&self, family: &Family, out: &mut dyn io::Write) -> Result<(), ReportError> {
        if family.profiles().count() < 2 {
            return self.write(&family.root, out);
        }
        let view = self.view.of(&family.profiles().collect::<Vec<_>>());
        for profile in family.profiles() {
            let process = clean_frame(&process_label(profile));
            for (stack, amount) in lines(profile, view) {
                writeln!(out, "{process};{stack} {amount}")?;
            }
        }
        Ok(())
    }
}

type Lines = BTreeMap<String, u64>;

fn lines(profile: &Profile, view: View) -> Lines {
    let scaled = scaled(profile);
    let profile = &*scaled;
    let names = ThreadNames::of(profile);
    match view {
        View::Event => event_lines(profile),
        View::Blame => blamed_lines(profile, &names),
        view => state_lines(profile, &names, view),
    }
}

fn state_lines(profile: &Profile, names: &ThreadNames<'_>, view: View) -> Lines {
    let mut lines = Lines::new();
    for thread in &profile.threads {
        for charge in charges(thread).filter(|charge| view.shows(charge.state)) {
            let mut stack = clean_frame(&names.label(thread.tid));
            for frame in frames_of(&profile.stacks, charge.stack) {
                stack.push(';');
                stack.push_str(&clean_frame(&frame.to_string()));
            }
            *lines.entry(format!("{stack} [{}]", charge.state)).or_default() += charge.time.as_nanos();
        }
    }
    lines
}

fn blamed_lines(profile: &Profile, names: &ThreadNames<'_>) -> Lines {
    let mut lines = Lines::new();
    for blame in profile.blame.iter().filter(|blame| blame.wait > Nanos::ZERO) {
        let mut stack = clean_frame(&names.label(blame.holder));
        for frame in frames_of(&profile.stacks, Some(blame.stack)) {
            stack.push(';');
            stack.push_str(&clean_frame(&frame.to_string()));
        }
        *lines.entry(format!("{stack};{} [blame]", clean_frame(&names.label(blame.waiter)))).or_default() +=
            blame.wait.as_nanos();
    }
    lines
}

fn event_lines(profile: &Profile) -> Lines {
    let mut lines = Lines::new();
    for row in profile.event.iter().flat_map(|event| &event.sums.rows) {
        let frames = frames_of(&profile.stacks, Some(row.stack)).into_iter();
        let stack: Vec<String> = frames.map(|frame| clean_frame(&frame.to_string())).collect();
        *lines.entry(format!("{} [{}]", stack.join(";"), row.class.name())).or_default() += row.weight;
    }
    lines
}
