//! The shape of the JSON profile, schema `gilscope/1`: names only, in the order in which they are written.
//!
//! Names and meanings are fixed (docs/output.md); fields may be added, never renamed. Times are whole nanoseconds;
//! what cannot be known is `null`, never 0.

pub(super) mod estimates;
pub(super) mod parking;

use serde::{Serialize, Serializer};

use crate::{
    model::state::StateTimes,
    report::{
        schema::{estimates::Estimates, parking::Parking},
        verdict::Figure,
    },
};

/// The value of `schema`.
pub(super) const SCHEMA: &str = "gilscope/1";

#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    pub(super) schema: &'static str,
    pub(super) target: Target<'a>,
    pub(super) window_ns: u64,
    pub(super) backend: &'static str,
    pub(super) exact: bool,
    pub(super) exactness: Exactness,
    pub(super) native: bool,
    pub(super) counters: Vec<&'a str>,
    /// Why the events that were wanted, too, were not counted, by name.
    pub(super) counters_missing: Named<&'a str, &'a str>,
    /// Of all threads together, by class; null: nothing was counted, or records were lost.
    pub(super) ratios: Option<Named<Ratios>>,
    pub(super) fault_ns: Option<u64>,
    pub(super) event: Option<Event<'a>>,
    pub(super) locks: Vec<Lock<'a>>,
    pub(super) threads: Vec<Thread<'a>>,
    pub(super) blame: Vec<Blame<'a>>,
    pub(super) matrix: Vec<Matrix>,
    pub(super) hold_sites: Vec<HoldSite<'a>>,
    pub(super) long_hold_threshold_ns: u64,
    pub(super) long_holds: Option<Vec<LongHold<'a>>>,
    pub(super) holds_by_kind: Vec<HeldFor<'a>>,
    pub(super) functions: Vec<Function<'a>>,
    pub(super) findings: Vec<Finding>,
    pub(super) parking: Option<Parking<'a>>,
    pub(super) estimates: Option<Estimates>,
    pub(super) quality: Quality<'a>,
}

/// The event that was sampled.
#[derive(Debug, Serialize)]
pub(super) struct Event<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'static str,
    pub(super) period: Option<u64>,
    pub(super) frequency_hz: Option<u32>,
    pub(super) instead_of: Option<&'a str>,
    pub(super) why: Option<&'a str>,
    pub(super) samples: u64,
    pub(super) without_stack: u64,
    pub(super) sampled: u64,
    pub(super) counted: Option<u64>,
    pub(super) classes: Named<u64>,
    pub(super) stacks: Vec<EventStack<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct EventStack<'a> {
    pub(super) class: &'static str,
    pub(super) sampled: u64,
    pub(super) stack: Vec<Frame<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Exactness {
    pub(super) waits: &'static str,
    pub(super) holds: &'static str,
}

/// What is said of the root, and of all processes.
#[derive(Debug, Serialize)]
pub(super) struct FamilyDocument<'a> {
    #[serde(flatten)]
    pub(super) root: Document<'a>,
    pub(super) subprocesses: bool,
    pub(super) processes: Vec<Process<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Process<'a> {
    pub(super) pid: i32,
    pub(super) parent_pid: Option<i32>,
    pub(super) command: &'a str,
    pub(super) began: &'static str,
    pub(super) start_ns: u64,
    pub(super) lifetime_ns: u64,
    pub(super) end: &'static str,
    pub(super) recorded: bool,
    pub(super) not_recorded: Option<&'a str>,
    #[serde(flatten)]
    pub(super) profile: Option<Document<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Target<'a> {
    pub(super) pid: i32,
    pub(super) command: &'a str,
    pub(super) runtime: &'a str,
    pub(super) runtime_version: &'a str,
    pub(super) free_threaded: bool,
    pub(super) inner_pid: Option<i32>,
    pub(super) namespaces: &'a [&'static str],
    pub(super) root: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Lock<'a> {
    pub(super) id: u32,
    pub(super) name: &'a str,
    pub(super) interpreter: Option<i64>,
    pub(super) held_ns: u64,
    pub(super) contended_ns: u64,
    pub(super) free_ns: u64,
    pub(super) unknown_ns: u64,
    pub(super) handoff_ns: u64,
    pub(super) wait_total_ns: u64,
    pub(super) blamed_ns: u64,
    pub(super) wait_unknown_ns: u64,
    pub(super) holds: Option<u64>,
    pub(super) waits: Option<u64>,
    pub(super) forced_releases: Option<u64>,
    pub(super) long_holds: Option<u64>,
    pub(super) switch_interval_ns: Option<u64>,
    pub(super) counted: Option<Counted>,
    pub(super) unseen: HoldTally<'a>,
    pub(super) hold_ns: Spread,
    pub(super) wait_ns: Spread,
}

#[derive(Debug, Serialize)]
pub(super) struct Counted {
    pub(super) holds: u64,
    pub(super) waits: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Overhead {
    pub(super) budget: Option<f64>,
    pub(super) share: Option<f64>,
    pub(super) duty: Option<f64>,
    pub(super) own_cpu_ns: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Spread {
    pub(super) p50: Option<u64>,
    pub(super) p90: Option<u64>,
    pub(super) p99: Option<u64>,
    pub(super) max: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Thread<'a> {
    pub(super) tid: i32,
    pub(super) inner_tid: Option<i32>,
    pub(super) name: Option<&'a str>,
    pub(super) start_ns: u64,
    pub(super) lifetime_ns: u64,
    pub(super) holds: Option<u64>,
    pub(super) waits: Option<u64>,
    pub(super) forced_releases: Option<u64>,
    pub(super) states_ns: StatesNs,
    pub(super) classes_ns: Named<u64>,
    pub(super) counters: Option<Named<Counts<'a>>>,
    pub(super) ratios: Option<Named<Ratios>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Blame<'a> {
    pub(super) lock: u32,
    pub(super) waiter_tid: Option<i32>,
    pub(super) holder_tid: Option<i32>,
    pub(super) wait_ns: u64,
    pub(super) stack: Vec<Frame<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Matrix {
    pub(super) lock: u32,
    pub(super) waiters: Vec<Option<i32>>,
    pub(super) holders: Vec<Option<i32>>,
    pub(super) wait_ns: Vec<Vec<u64>>,
}

#[derive(Debug, Serialize)]
pub(super) struct HoldSite<'a> {
    pub(super) lock: u32,
    pub(super) tally: HoldTally<'a>,
    pub(super) stack: Vec<Frame<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct HoldTally<'a> {
    pub(super) holds: Option<u64>,
    pub(super) held_ns: u64,
    pub(super) longest_ns: Option<u64>,
    pub(super) contended_ns: u64,
    pub(super) forced: Option<u64>,
    pub(super) counters: Option<Counts<'a>>,
    pub(super) counters_per_hold: Option<Named<Option<f64>, &'a str>>,
    pub(super) ratios: Option<Ratios>,
}

#[derive(Debug, Serialize)]
pub(super) struct LongHold<'a> {
    pub(super) lock: u32,
    pub(super) tid: i32,
    pub(super) start_ns: u64,
    pub(super) duration_ns: u64,
    pub(super) states_ns: StatesNs,
    #[serde(flatten)]
    pub(super) kind: Kind<'a>,
    pub(super) waiters: u32,
    pub(super) waited_ns: u64,
    pub(super) stack: Vec<Frame<'a>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Kind<'a> {
    pub(super) kind: &'static str,
    pub(super) detail: Option<&'a str>,
    pub(super) object: Option<&'a str>,
    pub(super) function: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct HeldFor<'a> {
    #[serde(flatten)]
    pub(super) kind: Kind<'a>,
    pub(super) caller: Option<Frame<'a>>,
    pub(super) held_ns: u64,
    pub(super) inflicted_wait_ns: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Frame<'a> {
    pub(super) function: &'a str,
    pub(super) file: Option<&'a str>,
    pub(super) line: Option<u32>,
    pub(super) kind: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Function<'a> {
    pub(super) function: &'a str,
    pub(super) file: Option<&'a str>,
    pub(super) held_ns: u64,
    pub(super) wait_ns: u64,
    pub(super) inflicted_wait_ns: u64,
    pub(super) seen: HoldTally<'a>,
    pub(super) states_ns: StatesNs,
}

#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) id: &'static str,
    pub(super) words: String,
    pub(super) remedy: Option<String>,
    pub(super) figures: Figures,
}

/// Figures by name.
#[derive(Debug)]
pub(super) struct Figures(pub(super) Vec<(&'static str, Figure)>);

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, figure)| (name, figure)))
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Time(time) => serializer.serialize_u64(time.as_nanos()),
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::Share(share) | Self::Ratio(share) => serializer.serialize_f64((share * 1e4).round() / 1e4),
            Self::Name(name) => name.serialize(serializer),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Quality<'a> {
    pub(super) lost_events: u64,
    pub(super) unmatched_events: u64,
    pub(super) unknown_ns: u64,
    pub(super) stack_samples: u64,
    pub(super) stack_failures: u64,
    pub(super) probe_cost_ns: Option<u64>,
    pub(super) overhead: Overhead,
    pub(super) scheduler: &'static str,
    pub(super) invariants_broken: &'a [String],
    pub(super) notes: &'a [String],
}

/// The nine states by name, in customary order.
#[derive(Debug)]
pub(super) struct StatesNs(pub(super) StateTimes);

impl Serialize for StatesNs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(state, time)| (state.name(), time.as_nanos())))
    }
}

/// Values by name, in a fixed order.
#[derive(Debug)]
pub(super) struct Named<T, K = &'static str>(pub(super) Vec<(K, T)>);

/// Relations of counts by name; null: not known.
pub(super) type Ratios = Named<Option<f64>>;

/// Counts by the names of their counters, which the user may have given; null: not counted all the time.
pub(super) type Counts<'a> = Named<Option<u64>, &'a str>;

impl<T: Serialize, K: Serialize> Serialize for Named<T, K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
