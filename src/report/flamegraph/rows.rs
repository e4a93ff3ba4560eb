//! What lies under what: state, thread, script frames; for the blame view: holder, its frames, who waited.
//!
//! The invariant: the weights sum to the profile's totals of what the view shows, in whole nanoseconds.

use std::collections::BTreeMap;

use crate::{
    model::{
        profile::Profile,
        stack::{StackId, StackTable},
        state::State,
        time::Nanos,
    },
    report::{
        charge::{charges, frames_of},
        flamegraph::paint::{Painted, Tone},
        names::{ThreadNames, clean_frame},
        view::View,
    },
};

/// One stack of the picture with its width.
#[derive(Debug)]
pub(super) struct Row {
    /// From the base outwards.
    pub(super) frames: Vec<Painted>,
    /// The width.
    pub(super) weight: Nanos,
}

impl Row {
    /// The row as inferno reads it.
    pub(super) fn line(&self) -> String {
        let frames: Vec<String> = self.frames.iter().map(Painted::marked).collect();
        format!("{} {}", frames.join(";"), self.weight.as_nanos())
    }
}

/// The rows of `view` in the order in which they are to stand, equal stacks merged.
pub(super) fn rows(profile: &Profile, view: View) -> Vec<Row> {
    let names = ThreadNames::of(profile);
    match view {
        View::Blame => blame_rows(profile, &names),
        view => State::ALL
            .iter()
            .filter(|state| view.shows(**state))
            .flat_map(|state| state_rows(profile, &names, *state))
            .collect(),
    }
}

/// States in customary order, threads by first sight, functions by name.
fn state_rows(profile: &Profile, names: &ThreadNames<'_>, state: State) -> Vec<Row> {
    let mut rows = Vec::new();
    for thread in &profile.threads {
        let mut merged = BTreeMap::new();
        for charge in charges(thread).filter(|charge| charge.state == state) {
            let mut frames = vec![base(state.name(), state), base(&names.label(thread.tid), state)];
            frames.extend(script(&profile.stacks, charge.stack, state));
            *merged.entry(frames).or_insert(Nanos::ZERO) += charge.time;
        }
        rows.extend(merged.into_iter().map(|(frames, weight)| Row { frames, weight }));
    }
    rows
}

/// Culprits wear the colour of owning, their victims, at the ends, the colour of waiting.
fn blame_rows(profile: &Profile, names: &ThreadNames<'_>) -> Vec<Row> {
    let mut merged = BTreeMap::new();
    for blame in profile.blame.iter().filter(|blame| blame.wait > Nanos::ZERO) {
        let mut frames =
            vec![base("made others wait", State::HeldRunning), base(&names.label(blame.holder), State::HeldRunning)];
        frames.extend(script(&profile.stacks, Some(blame.stack), State::HeldRunning));
        frames.push(base(&format!("waited: {}", names.label(blame.waiter)), State::WaitQueued));
        *merged.entry(frames).or_insert(Nanos::ZERO) += blame.wait;
    }
    merged.into_iter().map(|(frames, weight)| Row { frames, weight }).collect()
}

fn base(name: &str, state: State) -> Painted {
    Painted { tone: Tone::Pure, name: clean_frame(name), state }
}

fn script(stacks: &StackTable, stack: Option<StackId>, state: State) -> impl Iterator<Item = Painted> {
    frames_of(stacks, stack).into_iter().map(move |frame| Painted {
        tone: Tone::Varied,
        name: clean_frame(&frame.to_string()),
        state,
    })
}
