//! How far to trust a profile: what was lost, what is unknown, what observing cost, and where it is known from who ran.
//!
//! Invariant: what contradicts itself or is missing is told here, in numbers or in words, and never repaired.

use crate::model::time::Nanos;

/// How far to trust a profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quality {
    /// Events that full buffers could not take.
    pub lost_events: u64,
    /// Events that fit no legal transition; counted, never repaired.
    pub unmatched_events: u64,
    /// Σ over threads of the time in state `unknown`.
    pub unknown: Nanos,
    /// Stacks read and accepted.
    pub stack_samples: u64,
    /// Stacks that could not be read, or were torn and therefore discarded.
    pub stack_failures: u64,
    /// What observing cost beside that, and how much it was allowed to.
    pub overhead: Overhead,
    /// What the probe cost the target: events times the cost measured on this machine; `None` when not measured.
    pub probe_cost: Option<Nanos>,
    /// Each broken invariant in words; empty in a sound run.
    pub invariants_broken: Vec<String>,
    /// Where it is known from whether threads ran.
    pub scheduler: SchedulerRung,
    /// What the reader should know about how the numbers came about (fallbacks, missing evidence).
    pub notes: Vec<String>,
}

/// What a recording cost and how that was kept below what it was allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overhead {
    /// The largest part of the elapsed time that probes may take from the target, in millionths; `None`: any.
    pub budget: Option<u32>,
    /// CPU time of gilscope itself, in another process than the target.
    pub own_cpu: Option<Nanos>,
}

/// Where it is known from whether threads had a CPU, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SchedulerRung {
    /// Every switch was recorded.
    Records,
    /// The kernel's exact counters were read again and again: how long a thread ran and waited for a CPU is exact from
    /// reading to reading, how that divides over its relations to the lock is inferred.
    Sampled,
    /// From nowhere.
    #[default]
    None,
}

impl SchedulerRung {
    /// The name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Sampled => "sampled",
            Self::None => "none",
        }
    }
}
