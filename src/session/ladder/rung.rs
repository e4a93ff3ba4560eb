//! What rungs there are, in order, and how each is climbed. A new one is a variant and a line in each table.

use crate::{
    bpf::error::BpfError,
    model::{ids::Pid, profile::Backend},
    perf::{measured::is_readable, user_reads::user_reads_work},
    session::{
        chosen::Chosen,
        doctor,
        error::SessionError,
        options::RecordOptions,
        poll,
        recording::Recording,
        running::causes,
        uprobe::{self, Means},
        watchpoint,
    },
    source::{
        bpf::{self, error::BpfSourceError},
        kin::SharedKin,
    },
    target::{discover::Target, runtime::Runtime},
};

/// A way to take lock events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// A probe loaded into the program that gilscope starts.
    Preload,
    /// Programs in the kernel, at uprobes.
    Programs,
    /// Uprobes defined in tracefs.
    Tracepoints,
    /// Hardware watchpoints on the lock's words.
    Watchpoints,
    /// Looks from outside, at a rate.
    Looks,
}

/// A rung that did not bear.
#[derive(Debug)]
pub struct Fallen {
    /// Which one.
    pub rung: Rung,
    /// Why.
    pub why: SessionError,
    /// What shuts it, where that could be found out.
    pub doors: Vec<String>,
}

impl Rung {
    /// All, the best first.
    pub const ALL: [Self; 5] = [Self::Preload, Self::Programs, Self::Tracepoints, Self::Watchpoints, Self::Looks];

    /// The name on the command line and in machine-readable output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preload => "preload",
            Self::Programs => "uprobe-bpf",
            Self::Tracepoints => "uprobe-tracefs",
            Self::Watchpoints => "watchpoint",
            Self::Looks => "poll",
        }
    }

    /// By what it takes events.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Preload => "a probe loaded into the program",
            Self::Programs => "BPF programs at uprobes",
            Self::Tracepoints => "uprobes in tracefs, without BPF programs",
            Self::Watchpoints => "hardware watchpoints on the lock's words",
            Self::Looks => "looks from outside at a rate: estimates, not events",
        }
    }

    /// The backend that it belongs to.
    pub const fn backend(self) -> Backend {
        match self {
            Self::Preload => Backend::Preload,
            Self::Programs | Self::Tracepoints => Backend::Uprobe,
            Self::Watchpoints => Backend::Watchpoint,
            Self::Looks => Backend::Poll,
        }
    }

    /// Whether it tells of single lock events, and not only of how much time.
    pub const fn tells_events(self) -> bool {
        !matches!(self, Self::Looks)
    }

    /// Whether it can be brought to a program that runs already.
    pub const fn attaches(self) -> bool {
        !matches!(self, Self::Preload)
    }

    /// Whether it can see the lock of such a target: PyPy takes and gives back its own without a call, and it has no structure.
    pub(in crate::session) fn suits(self, target: &Target) -> bool {
        self == Self::Looks || !matches!(target.runtime, Runtime::PyPy(_))
    }

    /// Whether it reads the events of the user's choice at the lock events, if there are any.
    fn reads(self, counters: Chosen) -> bool {
        counters.events.is_empty()
            || match self {
                Self::Preload => user_reads_work(counters.events).is_ok(),
                Self::Programs => bpf::may_read_counters(),
                Self::Tracepoints | Self::Watchpoints => is_readable(counters.events),
                Self::Looks => false,
            }
    }

    /// Those that a choice allows for a program that gilscope starts: first those that read the counters that are wanted.
    pub(in crate::session) fn for_launch(options: RecordOptions) -> impl Iterator<Item = Self> {
        let mut rungs: Vec<Self> = Self::ALL.into_iter().filter(|rung| options.backend.allows(*rung)).collect();
        rungs.sort_by_cached_key(|rung| !rung.reads(options.counters));
        rungs.into_iter()
    }

    /// Those that a choice allows for a program that runs already, likewise.
    pub(in crate::session) fn for_attach(options: RecordOptions) -> impl Iterator<Item = Self> {
        Self::for_launch(options).filter(|rung| rung.attaches())
    }

    /// That better rungs than this one were passed over, and why.
    pub(in crate::session) fn passed_over(self, options: RecordOptions) -> Option<String> {
        let better = Self::ALL.into_iter().take_while(|rung| *rung != self);
        let names = better.filter(|rung| options.backend.allows(*rung) && !rung.reads(options.counters));
        let names: Vec<&str> = names.map(Self::name).collect();
        let events: Vec<&str> = options.counters.events.iter().map(|event| event.name.as_str()).collect();
        let passed = self.reads(options.counters) && !names.is_empty();
        passed.then(|| {
            format!("{} was passed over: it does not read {} at lock events", names.join(", "), events.join(", "))
        })
    }

    /// Begins to record a running target.
    pub(in crate::session) fn attach(self, target: &Target, options: RecordOptions) -> Result<Recording, SessionError> {
        self.attach_beside(target, options, None)
    }

    /// The same for one of a family whose scheduling `kin` watches.
    pub(in crate::session) fn attach_beside(
        self,
        target: &Target,
        options: RecordOptions,
        kin: Option<&SharedKin>,
    ) -> Result<Recording, SessionError> {
        if !self.suits(target) {
            return Err(SessionError::Unsuited);
        }
        match self {
            Self::Preload => Err(SessionError::PreloadNeedsLaunch),
            Self::Programs => uprobe::attach(target.clone(), options, (Means::Programs, kin)),
            Self::Tracepoints => uprobe::attach(target.clone(), options, (Means::Tracepoints, kin)),
            Self::Watchpoints => watchpoint::attach(target.clone(), options),
            Self::Looks => poll::begin(target.clone(), options),
        }
    }
}

impl Fallen {
    /// Works out what shuts it if it is a matter of the place.
    pub(in crate::session) fn because(rung: Rung, why: SessionError, pid: Option<Pid>) -> Self {
        let doors = if why.is_of_the_place() { doctor::doors(rung, pid) } else { Vec::new() };
        Self { rung, why, doors }
    }

    /// The reason.
    pub fn reason(&self) -> String {
        if self.doors.is_empty() { causes(&self.why) } else { self.doors.join("; ") }
    }

    /// `uprobe-bpf: the reason`.
    pub fn words(&self) -> String {
        format!("{}: {}", self.rung.name(), self.reason())
    }

    /// And what the kernel's verifier said, if it spoke.
    pub(super) fn words_in_full(&self) -> String {
        let mut words = self.words();
        if let SessionError::Programs(BpfSourceError::Bpf(why)) = &self.why
            && let Some(log) = BpfError::verifier_log(why)
        {
            words += &format!(", and the verifier said: {}", last_lines(log));
        }
        words
    }
}

/// What a verifier ends with: the instruction, its objection, and a count.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.trim().lines().collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}
