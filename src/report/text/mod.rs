//! The summary for a person in a terminal. Owns the order of the sections; each section has its own file.
//!
//! Plain text without colour codes; foreign names are cleaned; what is not known reads `unknown`.

pub(super) mod words;

mod counters;
mod estimates;
mod event;
mod findings;
mod functions;
mod kinds;
mod locks;
mod long_holds;
mod matrix;
mod pairs;
mod parking;
mod processes;
pub(super) mod table;
mod threads;
mod trust;

use std::io;

use crate::{
    model::{
        family::Family,
        ids::Pid,
        profile::Profile,
        state::{StateClass, StateTimes},
        surroundings::Surroundings,
        time::Nanos,
    },
    report::{
        Report, ReportError,
        names::{ThreadNames, clean, shortened},
        scaled::scaled,
        text::words::{bare_share, counted, exactness, runtime, share},
    },
};

/// Processes that have a section of their own.
const MOST_SECTIONS: usize = 12;

/// The text report.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    width: u16,
}

/// The width of a text that no terminal limits.
impl Default for Text {
    fn default() -> Self {
        Self { width: 100 }
    }
}

impl Text {
    /// A text whose tables are at most `columns` wide, as far as that is possible.
    pub fn fitting(columns: u16) -> Self {
        Self { width: columns.max(60) }
    }
}

impl Report for Text {
    fn write(&self, profile: &Profile, out: &mut dyn io::Write) -> Result<(), ReportError> {
        let scaled = scaled(profile);
        let profile = &*scaled;
        let names = ThreadNames::of(profile);
        let sections = [
            headline(profile, self.width),
            answer(profile),
            locks::section(profile, self.width),
            threads::section(profile, self.width),
            estimates::section(profile, &names, self.width),
            counters::section(profile, self.width),
            event::section(profile, self.width),
            kinds::section(profile, self.width),
            functions::costs_section(profile, self.width),
            functions::victims_section(profile, self.width),
            matrix::section(profile, &names, self.width),
            pairs::section(profile, &names, self.width),
            long_holds::section(profile, &names, self.width),
            parking::section(profile, &names, self.width),
            findings::section(profile, self.width),
            trust::section(profile),
        ];
        let text: Vec<String> = sections.into_iter().filter(|section| !section.is_empty()).collect();
        writeln!(out, "{}", text.join("\n\n"))?;
        Ok(())
    }

    /// All processes together, then a section for each, the busiest first.
    fn write_family(&self, family: &Family, out: &mut dyn io::Write) -> Result<(), ReportError> {
        if family.relatives.is_empty() {
            return self.write(&family.root, out);
        }
        writeln!(out, "{}", processes::summary(family, self.width))?;
        let busiest = processes::busiest(family);
        for profile in busiest.iter().take(MOST_SECTIONS) {
            writeln!(out, "\n{}", processes::rule(profile, self.width))?;
            self.write(profile, out)?;
        }
        let left_out = busiest.len().saturating_sub(MOST_SECTIONS);
        if left_out > 0 {
            writeln!(out, "\n… and {left_out} more; --json FILE has them all")?;
        }
        Ok(())
    }
}

fn headline(profile: &Profile, width: u16) -> String {
    let target = &profile.target;
    let exactness = exactness(profile);
    format!(
        "gilscope: {}\npid {}{} · {} · window {} · {} · backend {} ({exactness})",
        shortened(&clean(&target.command), usize::from(width).saturating_sub(10)),
        target.pid,
        apart(&target.surroundings, target.pid),
        runtime(target),
        profile.window,
        counted(profile.threads.len(), "thread"),
        profile.backend.name(),
    )
}

/// Where the target lives, if that is not where we do.
fn apart(surroundings: &Surroundings, pid: Pid) -> String {
    let inner =
        surroundings.inner_pid(pid).filter(|inner| *inner != pid.raw()).map(|inner| format!(" = {inner} inside"));
    let own = match surroundings.namespaces.as_slice() {
        [] => None,
        kinds => Some(format!(" (its own namespaces: {})", kinds.join(", "))),
    };
    let root = surroundings.root.as_ref().map(|root| format!(" (its root: {})", clean(root)));
    [inner, own, root].into_iter().flatten().collect()
}

/// The question this program is for, answered in a sentence or two.
fn answer(profile: &Profile) -> String {
    let states = all_states(profile);
    let (waited, lifetime) = (states.class(StateClass::Waiting), states.total());
    let locks: Vec<String> = profile
        .locks
        .iter()
        .map(|lock| {
            let (held, contended) = (share(lock.held, profile.window), share(lock.contended, profile.window));
            format!("The {} was held for {held} of the window, for {contended} while others waited.", clean(&lock.name))
        })
        .collect();
    if lifetime == Nanos::ZERO {
        return "No thread was observed: nothing can be said.".to_owned();
    }
    if profile.target.free_threaded && profile.locks.iter().all(|lock| lock.held == Nanos::ZERO) {
        return "The GIL was off all the time: no thread could wait for it.".to_owned();
    }
    let unknown = states.class(StateClass::Unknown);
    let doubt = match unknown {
        Nanos::ZERO => String::new(),
        _ => format!(" (at least: {} is unknown)", share(unknown, lifetime)),
    };
    let spent = format!("Threads spent {waited} waiting for the GIL: {} of their lifetime", share(waited, lifetime));
    let first = format!("{spent}{}{doubt}.", interval(profile, lifetime));
    std::iter::once(first).chain(locks.into_iter().take(4)).collect::<Vec<_>>().join("\n")
}

/// How sure that is, where it was estimated.
fn interval(profile: &Profile, lifetime: Nanos) -> String {
    let total = profile.estimates.iter().flat_map(|estimates| &estimates.total);
    let waiting = total.filter(|part| part.class == StateClass::Waiting).map(|part| part.time).next();
    waiting.map_or_else(String::new, |time| {
        let (low, high) = (bare_share(time.low, lifetime), share(time.high, lifetime));
        format!(", estimated ({low} to {high}, 95 times in 100)")
    })
}

fn all_states(profile: &Profile) -> StateTimes {
    let mut all = StateTimes::default();
    for (state, time) in profile.threads.iter().flat_map(|thread| thread.states.iter()) {
        all.add(state, time);
    }
    all
}
