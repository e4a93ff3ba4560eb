//! Opening events: which records they make, whom they follow, into which ring they write.
//!
//! All events of a stream share the clock (`CLOCK_MONOTONIC`) and the stamp (event id, thread, time) that
//! [`crate::perf::record`] expects; an event opened elsewhere must not write into the same ring.
#![expect(unsafe_code, reason = "redirecting an event's output is an ioctl that the perf_event crate does not offer")]

use std::{io, os::fd::AsRawFd};

use perf_event::{
    Builder, Clock, Counter, ReadFormat, SampleFlag,
    events::{Breakpoint, Software, Tracepoint},
};
use perf_event_open_sys::ioctls;

use crate::{
    model::{address::LiveAddress, ids::Tid, time::Nanos},
    perf::{
        machine::REGISTERS,
        record::{Layout, Taken},
        registers::WRITER_REGISTERS,
    },
};

/// Bytes of stack copied at a sample. All users' rings together may be small.
const STACK_COPIED: u32 = 8 << 10;

/// What an event reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Context switches, names, births and deaths of threads.
    Scheduling,
    /// Hits of a tracepoint that a uprobe defines.
    Probe {
        /// The tracepoint's number, from the `id` file in tracefs.
        tracepoint: u64,
        /// The one user register to take along, numbered as in `perf_regs.h`.
        register: u8,
    },
    /// Writes to a word of the target's memory by its own code, told by the processor right after each.
    Watchpoint {
        /// Where the word begins; a multiple of its length.
        address: LiveAddress,
        /// 1, 2, 4 or 8 bytes.
        length: u64,
    },
    /// Page faults, so many at a time.
    Faults(FaultKind, CodeSampled, u32),
    /// What the processor does for a thread, every so often of the time that it runs: registers and the innermost part of
    /// the stack.
    MachineState {
        /// Between two looks, of the thread's own CPU time.
        period: Nanos,
        /// Whether the kernel's code for the thread is looked at, too, and not only the thread's own.
        code: CodeSampled,
    },
}

impl Subject {
    /// How its samples look.
    pub fn layout(self) -> Layout {
        let taken = match self {
            Self::Scheduling | Self::Faults(..) => Taken::Nothing,
            Self::Probe { .. } => Taken::Register,
            Self::Watchpoint { .. } => Taken::WriterRegisters,
            Self::MachineState { .. } => Taken::MachineState,
        };
        Layout { read: None, taken }
    }
}

/// What it took to bring a page into a thread's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// It was there already, or could be made.
    Minor,
    /// It had to be read.
    Major,
}

/// In whose code a thread is sampled, or its page faults are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodeSampled {
    /// The program's own alone, which every user may do.
    Program,
    /// The kernel's as well.
    ProgramAndKernel,
}

/// Who else is watched when a watched thread begets another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inheritance {
    /// Nobody.
    Nobody,
    /// Its new threads, but not its child processes (kernel 5.13 and later).
    Threads,
    /// New threads and child processes; the latter must be filtered out of the records.
    Everybody,
}

/// Whether the kernel counts, for each event, the records that found no room (6.0 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Losses {
    /// It does.
    Counted,
    /// It does not: a loss at the very end, with no record after it, goes unnoticed.
    Uncounted,
}

/// How events are opened on this kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Manner {
    /// Who is watched along with a thread.
    pub inheritance: Inheritance,
    /// Whether losses are counted.
    pub losses: Losses,
}

impl Manner {
    const ALONE: Self = Self { inheritance: Inheritance::Nobody, losses: Losses::Uncounted };

    /// Threads and nobody else, and losses counted, as far as this kernel can.
    pub fn best() -> Self {
        let accepts = |manner| builder(Subject::Scheduling, manner).observe_self().any_cpu().build().is_ok();
        let threads = Self { inheritance: Inheritance::Threads, ..Self::ALONE };
        let counted = Self { losses: Losses::Counted, ..Self::ALONE };
        Self {
            inheritance: if accepts(threads) { Inheritance::Threads } else { Inheritance::Everybody },
            losses: if accepts(counted) { Losses::Counted } else { Losses::Uncounted },
        }
    }
}

/// An event that reports nothing and only owns a ring of CPU `cpu`. It follows the observer, so that the ring outlives
/// every thread of the target.
pub fn ring_owner(cpu: u32) -> io::Result<Counter> {
    builder(Subject::Scheduling, Manner::ALONE).observe_self().one_cpu(index(cpu)).enabled(false).build()
}

/// An event that reports nothing, and only keeps its tracepoint in use: giving up the last use takes the kernel long.
pub fn keeper(subject: Subject) -> io::Result<Counter> {
    builder(subject, Manner::ALONE).observe_self().any_cpu().enabled(false).build()
}

/// An event that reports `subject` of thread `tid` whenever it runs on CPU `cpu`.
pub fn watch(subject: Subject, tid: Tid, cpu: u32, manner: Manner) -> io::Result<Counter> {
    builder(subject, manner).observe_pid(tid.raw()).one_cpu(index(cpu)).build()
}

/// An event that reports `subject` of the calling thread on whatever CPU.
pub fn watch_self(subject: Subject) -> io::Result<Counter> {
    builder(subject, Manner::ALONE).observe_self().any_cpu().build()
}

/// Makes `event` write into the ring of `owner`; both must be bound to the same CPU.
pub fn redirect(event: &Counter, owner: &Counter) -> io::Result<()> {
    // SAFETY: both descriptors are open perf events for as long as the borrows last; the kernel checks the rest.
    let outcome = unsafe { ioctls::SET_OUTPUT(event.as_raw_fd(), owner.as_raw_fd()) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `exclude_kernel`, the builder's default, stays: it is what makes the events permitted to every user for processes of
/// their own, and neither switch records nor user-space probes are kernel events in that sense.
fn builder(subject: Subject, manner: Manner) -> Builder<'static> {
    let mut builder = match subject {
        Subject::Scheduling => Builder::new(Software::DUMMY),
        Subject::Probe { tracepoint, .. } => Builder::new(Tracepoint::with_id(tracepoint)),
        Subject::Watchpoint { address, length } => Builder::new(Breakpoint::write(address.raw(), length)),
        Subject::MachineState { .. } => Builder::new(Software::CPU_CLOCK),
        Subject::Faults(FaultKind::Minor, ..) => Builder::new(Software::PAGE_FAULTS_MIN),
        Subject::Faults(FaultKind::Major, ..) => Builder::new(Software::PAGE_FAULTS_MAJ),
    };
    builder
        .sample(SampleFlag::TID | SampleFlag::TIME | SampleFlag::IDENTIFIER)
        .sample_id_all(true)
        .clockid(Clock::MONOTONIC)
        .inherit(manner.inheritance != Inheritance::Nobody)
        .inherit_thread(manner.inheritance == Inheritance::Threads)
        .read_format(if manner.losses == Losses::Counted { ReadFormat::LOST } else { ReadFormat::empty() })
        .enabled(true);
    match subject {
        Subject::Scheduling => builder.context_switch(true).task(true).comm(true).comm_exec(true),
        Subject::Probe { register, .. } => {
            builder.sample(SampleFlag::REGS_USER).sample_regs_user(1 << register).sample_period(1)
        }
        Subject::Watchpoint { .. } => {
            builder.sample(SampleFlag::REGS_USER).sample_regs_user(WRITER_REGISTERS).sample_period(1)
        }
        Subject::Faults(_, code, group) => {
            builder.sample_period(u64::from(group.max(1))).exclude_kernel(code == CodeSampled::Program)
        }
        Subject::MachineState { period, code } => builder
            .sample(SampleFlag::REGS_USER | SampleFlag::STACK_USER)
            .sample_regs_user(REGISTERS)
            .sample_stack_user(STACK_COPIED)
            .sample_period(period.as_nanos().max(1))
            .exclude_kernel(code == CodeSampled::Program)
            .wakeup_events(1),
    };
    builder
}

fn index(cpu: u32) -> usize {
    usize::try_from(cpu).expect("a CPU number fits a word")
}
