//! Where it is known from whether threads run: the best rung that this place allows.
//!
//! Switch records need `perf_event_open`, which containers often refuse; the kernel's counters in `/proc` need nothing; where
//! even those are missing, whether threads run is not known, and what they do with locks is none the less.

use std::rc::Rc;

use crate::{
    model::{ids::Pid, quality::SchedulerRung},
    perf::error::PerfError,
    source::{
        Source,
        calls::SharedTranslator,
        sampled::{SampledError, SampledScheduler},
        scheduler::{SchedulerSource, Scope},
    },
};

/// What tells about the scheduling of one process.
#[derive(Debug)]
pub enum Evidence {
    /// Every switch.
    Records(Box<SchedulerSource>),
    /// The kernel's counters, and why not more.
    Sampled(Box<SampledScheduler>, PerfError),
    /// Nothing, and why.
    None(PerfError, SampledError),
}

impl Evidence {
    /// The best there is, given what came of trying to have records.
    pub fn best(records: Result<SchedulerSource, PerfError>, pid: Pid, locks: &SharedTranslator) -> Self {
        match records {
            Ok(source) => Self::Records(Box::new(source)),
            Err(why) => match SampledScheduler::open(pid, Rc::clone(locks)) {
                Ok(source) => Self::Sampled(Box::new(source), why),
                Err(neither) => Self::None(why, neither),
            },
        }
    }

    /// Tries each rung in turn for a process that runs.
    pub fn open(pid: Pid, locks: &SharedTranslator) -> Self {
        Self::best(SchedulerSource::open(pid, Scope::Running), pid, locks)
    }

    /// Which rung it is.
    pub fn rung(&self) -> SchedulerRung {
        match self {
            Self::Records(_) => SchedulerRung::Records,
            Self::Sampled(..) => SchedulerRung::Sampled,
            Self::None(..) => SchedulerRung::None,
        }
    }

    /// What the reader should know; nothing when all is known.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Records(_) => None,
            Self::Sampled(_, why) => Some(format!(
                "no switch records ({why}): running, preempted and blocked are sampled. How long each thread ran and waited for a \
                 CPU is the kernel's exact count; how that divides over inside and outside is inferred"
            )),
            Self::None(why, neither) => Some(format!(
                "no scheduler evidence: {why}; {neither}. Running, preempted and blocked are unknown; inside, waiting and outside \
                 are not"
            )),
        }
    }

    /// The source, unless there is none.
    pub fn into_source(self) -> Option<Box<dyn Source>> {
        match self {
            Self::Records(source) => Some(source),
            Self::Sampled(source, _) => Some(source),
            Self::None(..) => None,
        }
    }
}
