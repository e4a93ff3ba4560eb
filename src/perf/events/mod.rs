//! Events that the kernel can count for a thread: which there are by name, how they are opened, and what it means when one is
//! not there.

mod missing;
mod names;

use std::io;

use perf_event::{Builder, Counter, events::Event};
use perf_event_open_sys::bindings::{self, perf_event_attr};

use crate::model::counts::{Meaning, Measured};

pub use crate::model::counts::CountedPlace;

pub use self::{
    missing::missing,
    names::{EventError, KNOWN},
};

/// An event that can be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedEvent {
    /// As the user named it.
    pub name: String,
    /// What it says about a processor's work, if that is known.
    pub meaning: Option<Meaning>,
    /// The kernel's number for it.
    pub code: EventCode,
    /// Where a thread is counted.
    pub place: CountedPlace,
}

/// The kernel's number for an event: the type of a `perf_event_attr`, and what it says to that type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EventCode {
    /// Whose event it is.
    pub kind: u32,
    /// Which of theirs.
    pub config: u64,
    /// More about it.
    pub config1: u64,
    /// More about it.
    pub config2: u64,
}

impl CountedEvent {
    /// The event of this name: one of `perf`'s, such as `cycles:u`, `r01c2`, `cpu/event=0x3c/` or `syscalls:sys_enter_futex`.
    pub fn named(name: &str) -> Result<Self, EventError> {
        names::parse(name)
    }

    /// The same for what is sampled: the kernel's own events have names here that are counters of gilscope's elsewhere.
    pub fn sampled_named(name: &str) -> Result<Self, EventError> {
        names::parse_own(name).unwrap_or_else(|| names::parse(name))
    }

    /// Opens it on this very thread, to see whether it can be. What may not be counted in the kernel's code is counted in the
    /// program's alone if `name` does not say where.
    pub fn tried(self) -> Result<Self, io::Error> {
        let open = |event: &Self| event.builder().observe_self().any_cpu().enabled(false).build().map(drop);
        match open(&self) {
            Ok(()) => Ok(self),
            // Of the kernel's own some would count all the same, and some nothing for ever.
            Err(why) if self.place == CountedPlace::Everywhere && is_denied(&why) && !self.is_of_the_kernel() => {
                let narrowed = Self { place: CountedPlace::Program, ..self };
                open(&narrowed).map(|()| narrowed)
            }
            Err(why) => Err(why),
        }
    }

    /// The same in the program's own code alone, if it was refused because of the kernel's, and happens elsewhere, too.
    pub fn in_program_alone(&self, refused: &io::Error) -> Option<Self> {
        let moves = [bindings::PERF_COUNT_SW_CONTEXT_SWITCHES, bindings::PERF_COUNT_SW_CPU_MIGRATIONS].map(u64::from);
        let in_kernel = self.code.kind == bindings::PERF_TYPE_SOFTWARE && moves.contains(&self.code.config);
        let narrowed = self.place == CountedPlace::Everywhere && is_denied(refused) && !in_kernel;
        narrowed.then(|| Self { name: format!("{}:u", self.name), place: CountedPlace::Program, ..self.clone() })
    }

    /// Whether the kernel counts it by itself: then it counts whenever its thread runs, and never shares a counter.
    pub fn is_of_the_kernel(&self) -> bool {
        matches!(self.code.kind, bindings::PERF_TYPE_SOFTWARE | bindings::PERF_TYPE_TRACEPOINT)
    }

    /// What a profile says of it.
    pub fn described(&self) -> Measured {
        Measured { name: self.name.clone(), meaning: self.meaning, place: self.place }
    }

    /// A builder of the event; whom it counts is left open.
    pub fn builder(&self) -> Builder<'static> {
        self.place.builder(self.code)
    }

    /// Counts whatever runs on `cpu`, whenever `leader` does if there is one. Needs CAP_PERFMON.
    pub fn count_cpu(&self, cpu: u32, leader: Option<&mut Counter>) -> io::Result<Counter> {
        let index = usize::try_from(cpu).expect("a CPU number fits a word");
        let mut builder = self.builder();
        builder.any_pid().one_cpu(index).enabled(true);
        match leader {
            Some(leader) => builder.build_with_group(leader),
            None => builder.build(),
        }
    }
}

impl CountedPlace {
    /// A builder of an event that counts there.
    pub(in crate::perf) fn builder(self, code: EventCode) -> Builder<'static> {
        let mut builder = Builder::new(code);
        builder
            .exclude_kernel(self == Self::Program)
            .exclude_hv(self != Self::Everywhere)
            .exclude_user(self == Self::Kernel);
        builder
    }
}

impl Event for EventCode {
    fn update_attrs(self, attr: &mut perf_event_attr) {
        attr.type_ = self.kind;
        attr.config = self.config;
        attr.config1 = self.config1;
        attr.config2 = self.config2;
    }
}

impl EventCode {
    /// The number of an event that the crate knows.
    fn of(event: impl Event) -> Self {
        let mut attr = perf_event_attr::default();
        event.update_attrs(&mut attr);
        Self { kind: attr.type_, config: attr.config, config1: attr.config1, config2: attr.config2 }
    }
}

fn is_denied(why: &io::Error) -> bool {
    matches!(why.raw_os_error(), Some(libc::EACCES | libc::EPERM))
}

#[cfg(test)]
mod tests;
