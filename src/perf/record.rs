//! What a record of the kernel's says, and what is known beforehand of the samples of an event.
//!
//! Owns the words, not the bytes, which [`crate::perf::decoding`] reads. Invariant: a writer that the kernel cannot name is `None`.

use crate::{
    model::{
        address::LiveAddress,
        event::OffCpu,
        ids::{Pid, Tid},
        machine::MachineState,
        time::MonoNanos,
    },
    perf::{
        open::FaultKind,
        reading::{GroupReading, ReadFormat},
        registers::WriterRegisters,
    },
};

/// The kernel's number for an open event; children inherit that of the event they were copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(u64);

/// One record as the kernel wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// Which event wrote it.
    pub event: EventId,
    /// When.
    pub at: MonoNanos,
    /// In which process; `None` when the kernel cannot name it here.
    pub pid: Option<Pid>,
    /// In which thread; `None` when the kernel cannot name it here.
    pub tid: Option<Tid>,
    /// What.
    pub body: Body,
    /// What the counters said of the thread that are in one group with the event.
    pub reading: Option<Box<GroupReading>>,
}

/// What the samples of an event bring behind their stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// First what its group's counters say; `None`: nothing.
    pub read: Option<ReadFormat>,
    /// And then this.
    pub taken: Taken,
}

/// What is taken along at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taken {
    /// Nothing: it counts; or, at a sample of the event that is sampled, three words of which the last may be what it stands for. The
    /// form tells them apart: of two software events that happen in one stroke the kernel gives both samples the number of one.
    NothingOrWeight,
    /// One register.
    Register,
    /// All registers that an instruction can have written to a watched word.
    WriterRegisters,
    /// Some registers, and the innermost part of the stack.
    MachineState,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The thread got a CPU.
    SwitchedIn,
    /// The thread lost its CPU.
    SwitchedOut(OffCpu),
    /// A thread has a new name.
    Named {
        /// The thread's process.
        pid: Pid,
        /// The thread, not necessarily the one that wrote the record.
        tid: Tid,
        /// Its name.
        name: Box<str>,
        /// Why.
        cause: Naming,
    },
    /// The thread created another one, or a process.
    Forked {
        /// The process it belongs to: that of the thread for a thread, a new one for a process.
        child_pid: Pid,
        /// The new thread.
        child: Tid,
    },
    /// The thread ends.
    Exited,
    /// A probe was hit.
    Hit {
        /// The register asked for; `None` when the kernel had no user registers.
        register: Option<u64>,
    },
    /// What the event counts has happened, as often as it was to be told of.
    Counted,
    /// A sample of the event that is sampled.
    Sampling {
        /// What it stands for, if that is not always the same.
        weight: u64,
    },
    /// The counters in question begin to count a thread, and count from what they say now on. No record of the kernel's says so.
    CountersBegan,
    /// The counters in question have ended, and have counted so much of all threads; whatever they have not told of yet they have
    /// counted of this thread. No record of the kernel's says so.
    CountersEnded,
    /// So many page faults since the record before, the last of them now.
    Faulted(FaultKind, u32),
    /// The thread, which gets a CPU, had another one before. No record of the kernel's says so.
    Migrated,
    /// A watched word was written to.
    Wrote(Box<WriterRegisters>),
    /// The thread ran, and this is what it did.
    Sampled(MachineState),
    /// Records are missing before this one because the ring was full.
    Lost {
        /// How many.
        count: u64,
    },
}

/// Why a thread has a new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Naming {
    /// The process executed a new program.
    Exec,
    /// A thread was named.
    Rename,
}

impl Layout {
    /// All that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let formats = [ReadFormat::Values, ReadFormat::TimesAndValues, ReadFormat::TimesValuesAndLosses];
        let reads = [None].into_iter().chain(formats.map(Some));
        let taken = [Taken::NothingOrWeight, Taken::Register, Taken::WriterRegisters, Taken::MachineState];
        reads.flat_map(move |read| taken.map(|taken| Self { read, taken }))
    }
}

impl Body {
    /// The register of a hit, as an address of the target.
    pub fn argument(&self) -> Option<LiveAddress> {
        match self {
            Self::Hit { register } => register.map(LiveAddress::in_target),
            _ => None,
        }
    }

    /// How many records it says are missing.
    pub fn lost(&self) -> u64 {
        if let Self::Lost { count } = self { *count } else { 0 }
    }
}

impl EventId {
    /// The id that the kernel returned for an open event.
    pub const fn from_kernel(id: u64) -> Self {
        Self(id)
    }
}
