//! What a profile means: at most three findings in words, each with the figures it rests on and the usual remedy.
//!
//! A finding only says what figures of the profile show; its thresholds are named constants with their reasons. Findings are
//! weighed against each other by how much of all waiting each explains.

mod convoy;
mod evidence;
mod faults;
mod function;
mod handoff;
mod held_for;
mod memory;
mod quiet;
mod turns;
mod unknown;

use std::cmp::Reverse;

use crate::{
    model::{profile::Profile, time::Nanos},
    report::verdict::{
        evidence::{Evidence, Place},
        unknown::Doubt,
    },
};

/// How many findings a reader can act upon.
const MOST: usize = 3;
/// CPython's default: a waiter asks the owner to give way after this long. It stands in where the program's own is not known.
const SWITCH_INTERVAL: Nanos = Nanos::from_millis(5);
/// The part of all waiting that a finding must explain to be worth reading.
const WORTH_SAYING: f64 = 0.1;

/// One thing that a profile shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// Its name for programs.
    pub(super) id: &'static str,
    /// What was found, with its figures.
    pub(super) words: String,
    /// What usually helps; empty when nothing is called for.
    pub(super) remedy: String,
    /// The figures by name.
    pub(super) figures: Vec<(&'static str, Figure)>,
    /// How much waiting it explains.
    explains: Nanos,
    /// The function it is about, so that no other finding repeats it.
    place: Option<Place>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Figure {
    /// A duration; its name ends in `_ns`.
    Time(Nanos),
    /// A number of things.
    Count(u64),
    /// A share, 0 to 1.
    Share(f64),
    /// How much of one thing there is for each of another.
    Ratio(f64),
    /// What somebody or something is called; `None` when not known.
    Name(Option<String>),
}

impl Finding {
    fn new(id: &'static str, words: String, remedy: &str) -> Self {
        let (figures, explains, place) = (Vec::new(), Nanos::ZERO, None);
        Self { id, words, remedy: remedy.to_owned(), figures, explains, place }
    }

    fn time(self, name: &'static str, time: Nanos) -> Self {
        self.figure(name, Figure::Time(time))
    }

    fn count(self, name: &'static str, count: u64) -> Self {
        self.figure(name, Figure::Count(count))
    }

    fn share(self, name: &'static str, part: Nanos, whole: Nanos) -> Self {
        self.figure(name, Figure::Share(part.share_of(whole)))
    }

    /// A relation, if it is known.
    fn ratio(self, name: &'static str, ratio: Option<f64>) -> Self {
        match ratio {
            Some(ratio) => self.figure(name, Figure::Ratio(ratio)),
            None => self,
        }
    }

    fn name(self, name: &'static str, called: Option<&str>) -> Self {
        self.figure(name, Figure::Name(called.map(str::to_owned)))
    }

    fn figure(mut self, name: &'static str, figure: Figure) -> Self {
        self.figures.push((name, figure));
        self
    }

    fn explaining(self, waiting: Nanos) -> Self {
        Self { explains: waiting, ..self }
    }

    fn about(self, place: Option<Place>) -> Self {
        Self { place, ..self }
    }
}

/// The findings, most important first.
pub(super) fn findings(profile: &Profile) -> Vec<Finding> {
    let evidence = Evidence::of(profile);
    let doubt = match unknown::doubt(&evidence) {
        Doubt::TooMuch(finding) => return vec![finding],
        Doubt::Some(finding) => Some(finding),
        Doubt::None => None,
    };
    if let Some(quiet) = quiet::finding(&evidence) {
        return doubt.into_iter().chain([quiet]).collect();
    }
    let patterns = [
        turns::finding(&evidence),
        convoy::finding(&evidence),
        handoff::finding(&evidence),
        faults::finding(&evidence),
        memory::finding(&evidence),
    ];
    let kinds = held_for::findings(&evidence);
    let mut found: Vec<Finding> =
        patterns.into_iter().flatten().chain(kinds).chain(function::finding(&evidence)).collect();
    found.retain(|finding| finding.explains.share_of(evidence.waited()) >= WORTH_SAYING);
    found.sort_by_key(|finding| Reverse(finding.explains));
    let mut findings: Vec<Finding> = doubt.into_iter().collect();
    for finding in found {
        let repeats = findings.iter().any(|other| finding.place.is_some() && other.place == finding.place);
        if !repeats && findings.len() < MOST {
            findings.push(finding);
        }
    }
    findings
}

#[cfg(test)]
mod tests;
