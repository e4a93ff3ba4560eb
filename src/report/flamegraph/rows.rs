//! What lies under what: state, which lock where there are several, what it was held for (if it was), thread, its frames; for the
//! blame view: which lock, what it was held for, holder, its frames, who waited.
//!
//! The invariant: the weights sum to the profile's totals of what the view shows, in whole nanoseconds.

use std::collections::BTreeMap;

use crate::{
    model::{
        ids::LockId,
        profile::Profile,
        stack::{StackId, StackTable},
        state::{State, StateClass},
        time::Nanos,
    },
    report::{
        charge::{charges, frames_of},
        flamegraph::paint::{Painted, Tone},
        kind::HoldKind,
        kinds::Kinds,
        names::{ThreadNames, clean_frame, process_label},
        view::View,
    },
};

/// One stack of the picture with its width.
#[derive(Debug)]
pub(super) struct Row {
    /// From the base outwards.
    pub(super) frames: Vec<Painted>,
    /// The width.
    pub(super) weight: u64,
}

impl Row {
    /// The row as inferno reads it.
    pub(super) fn line(&self) -> String {
        let frames: Vec<String> = self.frames.iter().map(Painted::marked).collect();
        format!("{} {}", frames.join(";"), self.weight)
    }
}

/// The rows of `view` in the order in which they are to stand, equal stacks merged.
pub(super) fn rows(profile: &Profile, view: View) -> Vec<Row> {
    let book = Book { profile, names: ThreadNames::of(profile), kinds: Kinds::of(profile) };
    match view {
        View::Event => book.event_rows(),
        View::Blame => book.blame_rows(),
        view => {
            State::ALL.into_iter().filter(|state| view.shows(*state)).flat_map(|state| book.state_rows(state)).collect()
        }
    }
}

/// The same rows, each with the process below it.
pub(super) fn rows_on_base(profile: &Profile, view: View) -> Vec<Row> {
    // The colour of no state in particular.
    let base = base(&process_label(profile), State::Unknown);
    let mut rows = rows(profile, view);
    rows.iter_mut().for_each(|row| row.frames.insert(0, base.clone()));
    rows
}

/// What rows are made from.
struct Book<'a> {
    profile: &'a Profile,
    names: ThreadNames<'a>,
    kinds: Kinds<'a>,
}

impl Book<'_> {
    /// States in customary order, then what the lock was held for, if it was; threads by first sight, functions by name.
    fn state_rows(&self, state: State) -> Vec<Row> {
        let mut merged = BTreeMap::new();
        for (order, thread) in self.profile.threads.iter().enumerate() {
            for charge in charges(thread).filter(|charge| charge.state == state) {
                let kind = (state.class() == StateClass::Inside).then(|| self.kinds.held(state, charge.stack));
                let mut frames = vec![base(state.name(), state)];
                frames.extend(self.lock_name(charge.lock).map(|name| base(name, state)));
                frames.extend(kind.map(|kind| base(&kind.words(), state)));
                frames.push(base(&self.names.label(thread.tid), state));
                frames.extend(script(&self.profile.stacks, charge.stack, state));
                *merged.entry((kind.map(HoldKind::words), order, frames)).or_insert(Nanos::ZERO) += charge.time;
            }
        }
        merged.into_iter().map(|((_, _, frames), time)| Row { frames, weight: time.as_nanos() }).collect()
    }

    /// The lock by name, where there are several; `None` where none is owned or wanted, or not known which.
    fn lock_name(&self, id: Option<LockId>) -> Option<&str> {
        let several = self.profile.locks.len() > 1;
        let lock = self.profile.locks.iter().find(|lock| several && Some(lock.id) == id)?;
        Some(&lock.name)
    }

    /// Culprits wear the colour of owning, their victims, at the ends, the colour of waiting.
    fn blame_rows(&self) -> Vec<Row> {
        let mut merged = BTreeMap::new();
        for blame in &self.profile.blame {
            for (kind, wait) in self.kinds.inflicted((blame.holder, blame.stack), blame.wait) {
                let (kind, holder) = (kind.words(), self.names.label(blame.holder));
                let bases = [Some("made others wait"), self.lock_name(Some(blame.lock)), Some(&kind), Some(&holder)];
                let mut frames: Vec<_> =
                    bases.into_iter().flatten().map(|name| base(name, State::HeldRunning)).collect();
                frames.extend(script(&self.profile.stacks, Some(blame.stack), State::HeldRunning));
                frames.push(base(&format!("waited: {}", self.names.label(blame.waiter)), State::WaitQueued));
                *merged.entry(frames).or_insert(Nanos::ZERO) += wait;
            }
        }
        merged.into_iter().map(|(frames, time)| Row { frames, weight: time.as_nanos() }).collect()
    }

    /// Classes of states in customary order, each in the colour of those of its threads that run.
    fn event_rows(&self) -> Vec<Row> {
        let mut merged = BTreeMap::new();
        for row in self.profile.event.iter().flat_map(|event| &event.sums.rows) {
            let state = running(row.class);
            let mut frames = vec![base(row.class.name(), state)];
            frames.extend(script(&self.profile.stacks, Some(row.stack), state));
            *merged.entry((row.class, frames)).or_insert(0) += row.weight;
        }
        merged.into_iter().map(|((_, frames), weight)| Row { frames, weight }).collect()
    }
}

/// The state whose colour stands for the class where something other than time is shown.
pub(super) const fn running(class: StateClass) -> State {
    match class {
        StateClass::Inside => State::HeldRunning,
        StateClass::Waiting => State::WaitQueued,
        StateClass::Outside => State::OutsideRunning,
        StateClass::Unknown => State::Unknown,
    }
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
