//! An event that is sampled: how it is opened so that every so much of it makes a sample.
//!
//! The kernel's clocks tick no more than once in ten microseconds, whatever is asked of them; a period below that is raised here,
//! since a sample would stand for less than has passed.

use std::io;

use perf_event::{Builder, Counter, SampleFlag};
use perf_event_open_sys::bindings;

use crate::{
    model::{
        ids::Tid,
        sampled_event::{EventUnit, Pace},
    },
    perf::{
        events::{CountedEvent, CountedPlace, EventCode},
        open::{FaultKind, Manner},
    },
};

/// Nanoseconds.
const SHORTEST_TICK: u64 = 10_000;

/// An event with its pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventClock {
    code: EventCode,
    place: CountedPlace,
    pace: Pace,
}

impl EventClock {
    /// A sample of `event` at this pace.
    pub fn new(event: &CountedEvent, pace: Pace) -> Self {
        let clock = Self { code: event.code, place: event.place, pace };
        match pace {
            Pace::Period(period) if clock.unit() == EventUnit::Nanos => {
                Self { pace: Pace::Period(period.max(SHORTEST_TICK)), ..clock }
            }
            Pace::Period(period) => Self { pace: Pace::Period(period.max(1)), ..clock },
            Pace::Frequency(_) => clock,
        }
    }

    /// When it makes a sample.
    pub fn pace(self) -> Pace {
        self.pace
    }

    /// The same with so many times the period; a frequency bounds itself.
    #[must_use]
    pub fn slowed(self, times: u32) -> Self {
        match self.pace {
            Pace::Period(period) => Self { pace: Pace::Period(period.saturating_mul(u64::from(times))), ..self },
            Pace::Frequency(_) => self,
        }
    }

    /// What each sample stands for; `None`: each tells its own.
    pub(in crate::perf) fn weight(self) -> Option<u64> {
        match self.pace {
            Pace::Period(period) => Some(period),
            Pace::Frequency(_) => None,
        }
    }

    /// The kind of page faults that it counts, if it counts one.
    pub(in crate::perf) fn fault(self) -> Option<FaultKind> {
        let faults = [
            (bindings::PERF_COUNT_SW_PAGE_FAULTS_MIN, FaultKind::Minor),
            (bindings::PERF_COUNT_SW_PAGE_FAULTS_MAJ, FaultKind::Major),
        ];
        let software = self.code.kind == bindings::PERF_TYPE_SOFTWARE;
        faults.into_iter().find(|(code, _)| software && u64::from(*code) == self.code.config).map(|(_, kind)| kind)
    }

    /// Whether it counts context switches.
    pub fn is_of_switches(self) -> bool {
        let switches = u64::from(bindings::PERF_COUNT_SW_CONTEXT_SWITCHES);
        self.code.kind == bindings::PERF_TYPE_SOFTWARE && self.code.config == switches
    }

    /// What it counts in.
    pub fn unit(self) -> EventUnit {
        let clocks = [bindings::PERF_COUNT_SW_CPU_CLOCK, bindings::PERF_COUNT_SW_TASK_CLOCK].map(u64::from);
        let is_clock = self.code.kind == bindings::PERF_TYPE_SOFTWARE && clocks.contains(&self.code.config);
        if is_clock { EventUnit::Nanos } else { EventUnit::Times }
    }

    /// Whether a program in the kernel can run at its samples: at those of tracepoints others run, which see no stack.
    pub fn takes_programs(self) -> bool {
        self.code.kind != bindings::PERF_TYPE_TRACEPOINT
    }

    /// A builder of the event; whom it follows is left open.
    pub(in crate::perf) fn builder(self) -> Builder<'static> {
        let mut builder = self.place.builder(self.code);
        match self.pace {
            Pace::Period(period) => builder.sample_period(period),
            Pace::Frequency(hertz) => builder.sample_frequency(u64::from(hertz)),
        };
        builder
    }

    /// Whether this machine and this user can sample it; tried on this very thread.
    pub fn is_possible(self) -> io::Result<()> {
        self.builder().observe_self().any_cpu().enabled(false).build().map(drop)
    }

    /// Opens it on a thread and on all threads that this one will create, on whatever CPU; it does not count yet.
    pub fn open_on(self, tid: Tid, manner: Manner) -> io::Result<Counter> {
        let mut builder = self.builder();
        manner.let_inherit(&mut builder);
        builder.observe_pid(tid.raw()).any_cpu().enabled(false).build()
    }

    /// Has each sample have three words behind its stamp, the last of which is what it stands for where that is not always the
    /// same. (Asked for that with a period that is fixed, the kernel would make a sample of every single event.)
    ///
    /// No other record has as many: of two software events that happen in one stroke the kernel gives both samples the id of one of
    /// them (since 6.3), so they must be told apart by their form.
    pub(in crate::perf) fn shape(self, builder: &mut Builder<'static>) {
        let third = if self.weight().is_none() { SampleFlag::PERIOD } else { SampleFlag::STREAM_ID };
        builder.sample(SampleFlag::ADDR | SampleFlag::CPU | third);
    }
}
