//! Where the records of a process come from: a stream of its own, or one that several share.
//!
//! Invariant: of a shared stream only the records of this life are taken, and it goes on for the others when this one is over.

use crate::{
    model::{
        counts::{Counter, Counters},
        ids::Pid,
        machine::MachineSample,
        time::{MonoNanos, Nanos},
    },
    perf::{
        error::PerfError,
        open::CodeSampled,
        stream::{PerfStream, Record},
    },
    source::{
        Grouping,
        kin::{Life, SharedKin},
    },
};

/// Where records come from.
#[derive(Debug)]
pub(super) enum Feed {
    Own(Box<PerfStream>),
    /// The part of one life of a process.
    Shared(SharedKin, Pid, Life),
}

impl Feed {
    pub(super) fn shared(kin: SharedKin, pid: Pid) -> Self {
        let life = kin.borrow().life(pid);
        Self::Shared(kin, pid, life)
    }

    /// Appends all records up to the returned watermark.
    pub(super) fn drain(&mut self, now: MonoNanos, out: &mut Vec<Record>) -> MonoNanos {
        match self {
            Self::Own(stream) => stream.drain(now, out),
            Self::Shared(kin, _, life) => {
                let mut kin = kin.borrow_mut();
                let watermark = kin.read(now);
                kin.take(*life, out);
                watermark
            }
        }
    }

    /// Appends what is left. A shared stream goes on for the others: whoever owns it stops it.
    pub(super) fn finish(&mut self, out: &mut Vec<Record>) {
        match self {
            Self::Own(stream) => stream.stop(out),
            Self::Shared(kin, _, life) => {
                let mut kin = kin.borrow_mut();
                kin.take(*life, out);
                kin.forget(*life);
            }
        }
    }

    pub(super) fn sample(&mut self, period: Nanos) -> Result<(), PerfError> {
        match self {
            Self::Own(stream) => stream.sample(period),
            Self::Shared(kin, ..) => kin.borrow_mut().sample(period),
        }
    }

    pub(super) fn take_samples(&mut self) -> Vec<MachineSample> {
        match self {
            Self::Own(stream) => stream.take_samples().into_iter().map(|(_, sample)| sample).collect(),
            Self::Shared(kin, pid, _) => kin.borrow_mut().take_samples(*pid),
        }
    }

    /// Records that could not be decoded.
    pub(super) fn malformed(&self) -> u64 {
        match self {
            Self::Own(stream) => stream.malformed(),
            Self::Shared(kin, ..) => kin.borrow().malformed(),
        }
    }

    /// What its records count.
    pub(super) fn counters(&self) -> Counters {
        let faults = self
            .faults()
            .map_or(Counters::default(), |_| Counters::these(&[Counter::MinorFaults, Counter::MajorFaults]));
        faults.with(Counters::these(&[Counter::TaskClock, Counter::ContextSwitches, Counter::Migrations]))
    }

    /// What is missing of the counts.
    pub(super) fn remark(&self) -> Option<String> {
        match self.faults() {
            Some(CodeSampled::ProgramAndKernel) | None => None,
            Some(CodeSampled::Program) => Some(
                "page faults are counted where the program's own code makes them, not in system calls: for all of them it takes \
                 CAP_PERFMON, or kernel.perf_event_paranoid at 1 or less"
                    .to_owned(),
            ),
        }
    }

    /// In whose code page faults are seen; `None`: they are not.
    fn faults(&self) -> Option<CodeSampled> {
        match self {
            Self::Own(stream) => stream.faults(),
            Self::Shared(kin, ..) => kin.borrow().faults(),
        }
    }

    /// Those of a shared stream are everybody's, and it does not know by itself who is there to be watched anew.
    pub(super) fn group_faults(&mut self, group: u32) -> Grouping {
        match self {
            Self::Own(stream) => grouping(stream, group),
            Self::Shared(kin, ..) => {
                kin.borrow_mut().drop_faults();
                Grouping::Dropped
            }
        }
    }

    pub(super) fn drop_faults(&mut self) {
        match self {
            Self::Own(stream) => stream.drop_faults(),
            Self::Shared(kin, ..) => kin.borrow_mut().drop_faults(),
        }
    }
}

/// Has a stream tell of page faults so many at a time.
fn grouping(stream: &mut PerfStream, group: u32) -> Grouping {
    match (stream.faults().is_some(), stream.group_faults(group)) {
        (false, _) => Grouping::None,
        (true, true) => Grouping::Grouped,
        (true, false) => Grouping::Dropped,
    }
}
