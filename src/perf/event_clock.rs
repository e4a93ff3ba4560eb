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
        open::Manner,
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

    /// What a sample stands for that does not tell it.
    pub(in crate::perf) fn weight(self) -> u64 {
        match self.pace {
            Pace::Period(period) => period,
            // Each tells its own.
            Pace::Frequency(_) => 0,
        }
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

    /// Has each sample tell what it stands for, where that is not always the same. (With a period that is fixed the kernel
    /// would make a sample of every single event then.)
    pub(in crate::perf) fn tell_weight(self, builder: &mut Builder<'static>) {
        if let Pace::Frequency(_) = self.pace {
            builder.sample(SampleFlag::ADDR | SampleFlag::CPU | SampleFlag::PERIOD);
        }
    }
}
