//! What the user may decide about a recording.

use std::{num::NonZeroU32, time::Duration};

use crate::{
    model::{family::Reach, profile::Backend},
    session::{chosen::Chosen, event_choice::EventChoice, ladder::Rung},
};

/// How to record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordOptions {
    /// End the recording after this long; `None`: when the target ends.
    pub duration: Option<Duration>,
    /// Stack samples a second and thread; `None` reads no stacks.
    pub rate: Option<NonZeroU32>,
    /// Holds at least this long are listed one by one.
    pub long_hold: Duration,
    /// What observing may cost the target.
    pub budget: Budget,
    /// What is counted of each thread beside time, where it can be.
    pub counters: Chosen,
    /// The event that is sampled, if one is.
    pub event: Option<EventChoice>,
    /// Which frames stacks have.
    pub frames: FrameDetail,
    /// Where to take lock events from.
    pub backend: BackendChoice,
    /// Which processes to record.
    pub reach: Reach,
    /// Whether to show how the recording goes.
    pub progress: ProgressLine,
    /// How much to say about how the recording came about.
    pub notes: NoteDetail,
}

impl RecordOptions {
    /// The same once the events have been tried that are to be counted and sampled.
    #[must_use]
    pub(super) fn tried(self) -> Self {
        Self { counters: self.counters.tried(), event: self.event.map(EventChoice::tried), ..self }
    }
}

/// What observing may cost the target: probes may take this part of the elapsed time from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Budget {
    /// Whatever it takes: every event is wanted.
    Unlimited,
    /// This many millionths.
    Millionths(u32),
}

impl Default for Budget {
    fn default() -> Self {
        Self::Millionths(30_000)
    }
}

/// Which frames stacks have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FrameDetail {
    /// Those of the script.
    #[default]
    Script,
    /// Those of machine code as well.
    ScriptAndNative,
}

/// Where lock events are to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendChoice {
    /// The best rung that works.
    Auto,
    /// The best rung of this backend, or none.
    Only(Backend),
    /// This rung or none.
    Exactly(Rung),
}

impl BackendChoice {
    /// All choices, the default first.
    pub const ALL: [Self; 7] = [
        Self::Auto,
        Self::Only(Backend::Preload),
        Self::Only(Backend::Uprobe),
        Self::Only(Backend::Watchpoint),
        Self::Only(Backend::Poll),
        Self::Exactly(Rung::Programs),
        Self::Exactly(Rung::Tracepoints),
    ];

    /// The name used on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Only(backend) => backend.name(),
            Self::Exactly(rung) => rung.name(),
        }
    }

    /// What the choice means.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Auto => "the best one that works",
            Self::Only(Backend::Preload) => "a probe loaded into a started program; needs no privilege",
            Self::Only(Backend::Uprobe) => "kernel probes; attaches to running programs, needs root",
            Self::Only(Backend::Watchpoint) => {
                "hardware watchpoints on the lock; attaches to running programs, needs no privilege, dear"
            }
            Self::Exactly(rung) => rung.words(),
            Self::Only(Backend::Poll) => {
                "looks at the lock 1000 times a second; estimates with intervals, needs the same user"
            }
        }
    }

    /// Whether the choice leaves this rung.
    pub fn allows(self, rung: Rung) -> bool {
        match self {
            Self::Auto => true,
            Self::Only(backend) => rung.backend() == backend,
            Self::Exactly(only) => rung == only,
        }
    }
}

/// How much a recording's notes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteDetail {
    /// What one should know to judge the numbers.
    Brief,
    /// And why things are as they are.
    Full,
}

/// Whether a line on the terminal shows how the recording goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressLine {
    /// If standard error is a terminal.
    OnTerminal,
    /// Never.
    Hidden,
}
