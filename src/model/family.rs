//! The result of recording a program with the processes that it started: a profile each, where there is one.

use crate::model::{
    ids::Pid,
    profile::Profile,
    state::{StateClass, StateTimes},
    time::Nanos,
};

/// Everything known about a recording of several processes.
#[derive(Debug, Clone)]
pub struct Family {
    /// The process that was launched or attached to.
    pub root: Profile,
    /// The others, in order of first sight.
    pub relatives: Vec<Relative>,
    /// Whether other processes were looked for at all.
    pub reach: Reach,
}

/// Which processes a recording covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reach {
    /// The one that was launched or attached to.
    #[default]
    Root,
    /// That one and all that descend from it.
    Descendants,
}

/// A process that descends from the root, or a program that such a process executed later.
#[derive(Debug, Clone)]
pub struct Relative {
    /// The process.
    pub pid: Pid,
    /// Which process began it; for a program that a process executed later, that process itself. `None` when that is not known.
    pub parent: Option<Pid>,
    /// Its command line, or the name of its first thread when it was gone before that could be read.
    pub command: String,
    /// How it began.
    pub began: Began,
    /// From the start of the root's window to its beginning, or to its first sight.
    pub start: Nanos,
    /// From there to its end, or to the end of the recording.
    pub lifetime: Nanos,
    /// How it ended.
    pub end: RelativeEnd,
    /// What is known of its locks.
    pub record: Record,
}

/// How a process, or a program in it, began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Began {
    /// It was there when the recording began.
    Existed,
    /// It was forked, and runs its parent's program.
    Forked,
    /// It executed a program.
    Executed,
}

impl Began {
    /// The name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Existed => "existed",
            Self::Forked => "fork",
            Self::Executed => "exec",
        }
    }
}

/// How a process, or a program in it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelativeEnd {
    /// It did.
    Exited,
    /// It executed another program.
    Executed,
    /// It went on when the recording ended.
    Alive,
}

impl RelativeEnd {
    /// The name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exited => "exit",
            Self::Executed => "exec",
            Self::Alive => "alive",
        }
    }
}

/// What is known of a process's locks.
#[derive(Debug, Clone)]
pub enum Record {
    /// Everything.
    Profile(Box<Profile>),
    /// There is none: it never ran an interpreter, as far as could be seen.
    NoInterpreter,
    /// It ran an interpreter, which was not recorded.
    Missed {
        /// Why.
        why: String,
    },
}

impl Relative {
    /// What was recorded of it.
    pub fn profile(&self) -> Option<&Profile> {
        match &self.record {
            Record::Profile(profile) => Some(profile),
            Record::NoInterpreter | Record::Missed { .. } => None,
        }
    }
}

impl Family {
    /// One process alone.
    pub fn alone(root: Profile) -> Self {
        Self { root, relatives: Vec::new(), reach: Reach::Root }
    }

    /// The profiles there are, the root's first.
    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        std::iter::once(&self.root).chain(self.relatives.iter().filter_map(Relative::profile))
    }

    /// The time of all threads of all recorded processes in each state.
    pub fn states(&self) -> StateTimes {
        let mut all = StateTimes::default();
        for (state, time) in self.profiles().flat_map(|profile| &profile.threads).flat_map(|it| it.states.iter()) {
            all.add(state, time);
        }
        all
    }
}

/// How much of a class of states the threads of a process spent.
pub fn class_time(profile: &Profile, class: StateClass) -> Nanos {
    profile.threads.iter().map(|thread| thread.states.class(class)).sum()
}
