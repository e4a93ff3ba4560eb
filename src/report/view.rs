//! The views: which part of a profile a flame graph or a folded file shows.

use std::fmt;

use crate::model::{
    profile::Profile,
    state::{State, StateClass},
};

/// Which part of the profile to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum View {
    /// Every nanosecond of every thread, under its state.
    #[default]
    All,
    /// Time inside the lock.
    Held,
    /// Time spent waiting for the lock: the victims and their stacks.
    Wait,
    /// The same time charged to whoever owned the lock meanwhile: the culprits and their stacks.
    Blame,
    /// Time during which the thread neither owned nor wanted the lock.
    Outside,
    /// No time, but the event that was sampled, by what its threads did with the lock. Where none was: as `All`.
    Event,
}

impl View {
    /// All views, the default first.
    pub const ALL: [Self; 6] = [Self::All, Self::Held, Self::Wait, Self::Blame, Self::Outside, Self::Event];

    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Held => "held",
            Self::Wait => "wait",
            Self::Blame => "blame",
            Self::Outside => "outside",
            Self::Event => "event",
        }
    }

    /// What the view shows, as a heading.
    pub const fn words(self) -> &'static str {
        match self {
            Self::All => "where the threads' time went",
            Self::Held => "who held the lock",
            Self::Wait => "who waited for the lock",
            Self::Blame => "who made others wait",
            Self::Outside => "time spent without the lock",
            Self::Event => "the event of --event, inside, waiting and outside",
        }
    }

    /// What to say when the view has nothing to show.
    pub const fn empty_words(self) -> &'static str {
        match self {
            Self::All => "No thread was observed.",
            Self::Held => "No thread held the lock.",
            Self::Wait => "No thread waited for the lock.",
            Self::Blame => "No thread made another one wait for the lock.",
            Self::Outside => "No thread spent time without owning or wanting the lock.",
            Self::Event => "The event was not sampled once.",
        }
    }

    /// Whether the view shows threads in `state`; `Blame` shows no states but charges.
    pub fn shows(self, state: State) -> bool {
        match self {
            Self::All => true,
            Self::Held => state.class() == StateClass::Inside,
            Self::Wait => state.class() == StateClass::Waiting,
            Self::Outside => state.class() == StateClass::Outside,
            Self::Blame | Self::Event => false,
        }
    }

    /// What is shown of these profiles.
    pub(super) fn of(self, profiles: &[&Profile]) -> Self {
        let sampled = profiles.iter().any(|profile| profile.event.is_some());
        if self == Self::Event && !sampled { Self::All } else { self }
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
