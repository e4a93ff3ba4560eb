//! What `gilscope doctor` found: the place, the process, every rung of the ladder with what shuts it, and what else there is.

use crate::model::{ids::Pid, time::Nanos};

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Where gilscope runs.
    pub place: Vec<Fact>,
    /// The process that was asked about.
    pub patient: Option<Patient>,
    /// The rungs, best first.
    pub rungs: Vec<RungFinding>,
    /// What else a recording would have.
    pub evidence: Vec<Evidence>,
    /// Hardware counters.
    pub counters: Vec<CounterFinding>,
    /// What `auto` would take.
    pub auto: Vec<AutoChoice>,
    /// What limits the answer.
    pub remarks: Vec<String>,
}

/// One fact about the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Its name in machine-readable output.
    pub key: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// What it is.
    pub value: Value,
}

/// What a fact is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(i64),
    /// Words.
    Text(String),
    /// Several words.
    List(Vec<&'static str>),
    /// This kernel has no such thing.
    Absent,
    /// It cannot be found out.
    Unknown,
}

/// The process that was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patient {
    /// The process.
    pub pid: Pid,
    /// Who it is, or why it is no target.
    pub identity: Result<Identity, String>,
}

/// A process that runs an interpreter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its command line.
    pub command: String,
    /// `cpython` or `toyvm`.
    pub runtime: String,
    /// Its version.
    pub version: String,
    /// Whether it is a free-threaded build.
    pub free_threaded: bool,
    /// Its locks by name.
    pub locks: Vec<String>,
}

/// One rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RungFinding {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is.
    pub words: &'static str,
    /// The backend that it belongs to.
    pub backend: &'static str,
    /// Whether it can be brought to a program that runs already.
    pub attaches: bool,
    /// What came of trying it.
    pub outcome: Outcome,
}

/// What came of trying a rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Works {
        /// What one event costs the thread that makes it, measured just now; `None` when not measured.
        cost: Option<Nanos>,
    },
    /// It does not.
    Shut {
        /// The error that a recording would end with.
        error: String,
        /// What shuts it, in the order in which the kernel looks; empty when that cannot be told.
        doors: Vec<DoorFinding>,
        /// Whether it is a matter of permission.
        permission: bool,
    },
}

impl Outcome {
    /// Whether the rung works.
    pub const fn works(&self) -> bool {
        matches!(self, Self::Works { .. })
    }
}

/// Something that shuts a rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorFinding {
    /// Its name in machine-readable output.
    pub key: &'static str,
    /// What is the matter.
    pub words: String,
    /// Commands, flags or settings that open it, the most likely first; any one of them does.
    pub remedies: Vec<String>,
}

/// What else a recording would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Its name in machine-readable output.
    pub key: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// Where it comes from, in a word.
    pub source: &'static str,
    /// And in more words.
    pub words: String,
}

/// A hardware counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterFinding {
    /// Its name.
    pub name: &'static str,
    /// Why it is not there; `None`: it is.
    pub missing: Option<String>,
}

/// What `auto` would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoChoice {
    /// `attach` or `run`.
    pub command: &'static str,
    /// The rung; `None`: none works.
    pub rung: Option<&'static str>,
}
