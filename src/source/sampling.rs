//! Samples of an event that the recording is about, such as page faults: what a source that takes them tells, and why it takes none.

use std::{cell::RefCell, fmt, io, rc::Rc};

use rustc_hash::FxHashMap;

use crate::{
    model::{
        event::{Event, EventSample, What},
        ids::Tid,
        stack::StackId,
        time::Nanos,
    },
    perf::{error::PerfError, event_clock::EventClock, fault_cost::record_cost, stream::PerfStream},
    source::bpf::error::BpfSourceError,
};

/// Reads the stack of a thread of which an event has been sampled a moment ago; `None` when it cannot be read.
pub type OnEvent = Rc<RefCell<dyn FnMut(Tid) -> Option<StackId>>>;

/// Why a source takes no samples of an event.
#[derive(Debug, thiserror::Error)]
pub enum EventRefused {
    /// It has nothing that could be sampled.
    #[error("this way of taking lock events has no events of the kernel's beside it")]
    NotHere,
    /// Counters that are read at lock events are read at context switches, too.
    #[error(
        "context switches are not sampled where counters are read at lock events: leave out one of --event and --counters"
    )]
    BesideCounters,
    /// It is shared by several processes.
    #[error("with --subprocesses it takes programs in the kernel")]
    Shared,
    /// The kernel refuses the event.
    #[error("the kernel refuses the event")]
    Event(#[source] io::Error),
    /// The threads cannot be watched.
    #[error(transparent)]
    Perf(#[from] PerfError),
    /// Programs in the kernel cannot run at it.
    #[error(transparent)]
    Programs(Box<BpfSourceError>),
}

/// Stacks read from outside, a moment after the samples that they are for. Of several samples of one thread the last has its
/// stack; it stands for the others, for which it is too late.
pub(in crate::source) struct LateStacks {
    read: OnEvent,
    known: FxHashMap<Tid, Option<StackId>>,
}

impl LateStacks {
    pub(in crate::source) fn of(read: OnEvent) -> Self {
        Self { read, known: FxHashMap::default() }
    }

    /// The thread's, read now if it has not been since stacks were last forgotten.
    pub(in crate::source) fn read(&mut self, tid: Tid) -> Option<StackId> {
        *self.known.entry(tid).or_insert_with(|| (self.read.borrow_mut())(tid))
    }

    /// The threads have gone on.
    pub(in crate::source) fn forget(&mut self) {
        self.known.clear();
    }
}

impl fmt::Debug for LateStacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateStacks").finish_non_exhaustive()
    }
}

/// Samples of an event in a stream of records.
#[derive(Debug)]
pub(in crate::source) struct OutsideSampling {
    clock: EventClock,
    stacks: LateStacks,
    samples: u64,
    /// Why none are taken any more.
    ended: Option<String>,
}

impl OutsideSampling {
    /// Begins to sample.
    pub(in crate::source) fn begin(
        stream: &mut PerfStream,
        clock: EventClock,
        on_event: OnEvent,
    ) -> Result<Self, EventRefused> {
        stream.sample_event(clock)?;
        Ok(Self { clock, stacks: LateStacks::of(on_event), samples: 0, ended: None })
    }

    /// Samples so many times more rarely than at first. Where the threads cannot be watched anew, no more.
    pub(in crate::source) fn slow(&mut self, stream: &mut PerfStream, times: u32) {
        stream.drop_event();
        self.ended = stream.sample_event(self.clock.slowed(times)).err().map(|why| why.to_string());
    }

    /// Reads the stacks of those of whom there are new samples.
    pub(in crate::source) fn deliver(&mut self, stream: &mut PerfStream, out: &mut Vec<Event>) {
        for hit in stream.take_hits() {
            self.samples += 1;
            let what = What::EventSample(EventSample { stack: self.stacks.read(hit.tid), weight: hit.weight });
            out.push(Event { at: hit.at, tid: hit.tid, what });
        }
        self.stacks.forget();
    }

    /// Whether they are still taken.
    pub(in crate::source) fn goes_on(&self) -> bool {
        self.ended.is_none()
    }

    /// What samples have taken of the threads' time, if one takes as long as the record of a page fault.
    pub(in crate::source) fn cost(&self) -> Nanos {
        let samples = self.samples;
        if samples == 0 { Nanos::ZERO } else { Nanos::from_nanos(record_cost().as_nanos().saturating_mul(samples)) }
    }

    /// What the reader should know.
    pub(in crate::source) fn remark(&self) -> String {
        let ended =
            self.ended.as_ref().map(|why| format!("; in mid-recording the event could be sampled no more: {why}"));
        "stacks at samples of the event were read from outside, a moment after each; how the event divides over inside, waiting and \
         outside does not depend on that"
            .to_owned()
            + &ended.unwrap_or_default()
    }
}
