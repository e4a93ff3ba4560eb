//! Opening events: which records they make, whom they follow, into which ring they write.
//!
//! All events of a stream share the clock (`CLOCK_MONOTONIC`) and the stamp (event id, thread, time) that
//! [`crate::perf::decoding`] expects; an event opened elsewhere must not write into the same ring.
#![expect(
    unsafe_code,
    reason = "redirecting an event's output, and reading a group without ids, the perf_event crate does not offer"
)]

use std::{io, os::fd::AsRawFd};

use perf_event::{
    Builder, Clock, Counter, ReadFormat as Format, SampleFlag,
    events::{Breakpoint, Software, Tracepoint},
};
use perf_event_open_sys::ioctls;

use crate::{
    model::{address::LiveAddress, ids::Tid, time::Nanos},
    perf::{
        event_clock::EventClock,
        events::CountedEvent,
        machine::REGISTERS,
        reading::{self, GroupReading, ReadFormat},
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
    /// Samples of an event.
    Event(EventClock),
    /// What the processor does for a thread, every so often of the time that it runs: registers and the innermost part of
    /// the stack.
    MachineState {
        /// Between two looks, of the thread's own CPU time.
        period: Nanos,
        /// Whether the kernel's code for the thread is looked at, too, and not only the thread's own.
        code: CodeSampled,
    },
    /// The thread is about to lose its CPU, and its counters still count: the first event of a group.
    LosingCpu,
    /// The thread ends.
    Ending {
        /// The number of the kernel's tracepoint.
        tracepoint: u64,
    },
    /// Nothing: it is counted, and told of by the others of its group.
    Counted(&'static CountedEvent),
}

/// How an event stands to others.
#[derive(Debug)]
pub enum Membership<'a> {
    /// It has nothing to do with any.
    Alone,
    /// It is the first of a group.
    First,
    /// It belongs to the group of this one.
    Of(&'a mut Counter),
}

impl Subject {
    /// How its samples look when it is alone.
    pub fn layout(self) -> Layout {
        let taken = match self {
            Self::Scheduling
            | Self::Faults(..)
            | Self::Event(_)
            | Self::LosingCpu
            | Self::Ending { .. }
            | Self::Counted(_) => Taken::NothingOrWeight,
            Self::Probe { .. } => Taken::Register,
            Self::Watchpoint { .. } => Taken::WriterRegisters,
            Self::MachineState { .. } => Taken::MachineState,
        };
        Layout { read: None, taken }
    }

    /// The same in a group that is opened in this manner.
    pub fn layout_in_group(self, manner: Manner) -> Layout {
        Layout { read: Some(self.read_format(manner)), ..self.layout() }
    }

    /// Losses are read from the first event of a group.
    fn read_format(self, manner: Manner) -> ReadFormat {
        match (self, manner.losses, manner.times) {
            (Self::LosingCpu, Losses::Counted, _) => ReadFormat::TimesValuesAndLosses,
            (_, _, Times::Told) => ReadFormat::TimesAndValues,
            (_, _, Times::Untold) => ReadFormat::Values,
        }
    }

    /// Whether it makes records.
    pub fn tells(self) -> bool {
        !matches!(self, Self::Counted(_))
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
    /// Whether groups tell how long they have counted.
    pub times: Times,
}

/// Whether a group tells for how long it was to count, and did. That costs time at each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Times {
    /// It does: others may take its counters.
    Told,
    /// It counts whenever its thread runs.
    Untold,
}

impl Times {
    /// What a group of these events needs.
    pub fn of(events: &[CountedEvent]) -> Self {
        if events.iter().all(CountedEvent::is_of_the_kernel) { Self::Untold } else { Self::Told }
    }
}

impl Manner {
    /// The thread itself alone.
    const ALONE: Self = Self { inheritance: Inheritance::Nobody, losses: Losses::Uncounted, times: Times::Told };

    /// The same in a group with these events.
    pub fn counting(events: &[CountedEvent]) -> Self {
        Self { times: Times::of(events), ..Self::ALONE }
    }

    /// Threads and nobody else, and losses counted, as far as this kernel can.
    pub fn best() -> Self {
        let accepts = |manner| builder(Subject::Scheduling, manner).observe_self().any_cpu().build().is_ok();
        let threads = Self { inheritance: Inheritance::Threads, ..Self::ALONE };
        let counted = Self { losses: Losses::Counted, ..Self::ALONE };
        Self {
            inheritance: if accepts(threads) { Inheritance::Threads } else { Inheritance::Everybody },
            losses: if accepts(counted) { Losses::Counted } else { Losses::Uncounted },
            ..Self::ALONE
        }
    }

    /// Has an event follow whom it is to follow.
    pub(in crate::perf) fn let_inherit(self, builder: &mut Builder<'static>) {
        builder
            .inherit(self.inheritance != Inheritance::Nobody)
            .inherit_thread(self.inheritance == Inheritance::Threads);
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

/// An event that reports `subject` of thread `tid` whenever it runs on CPU `cpu`; in a group, with what the group's counters say.
/// The first event of a group is to be enabled when all others are there: those that come to a group that goes already may stay
/// off until the thread loses the CPU (seen with Linux 6.18).
pub fn watch(
    subject: Subject,
    (tid, cpu): (Tid, u32),
    manner: Manner,
    membership: Membership<'_>,
) -> io::Result<Counter> {
    let mut builder = builder(subject, manner);
    builder.observe_pid(tid.raw()).one_cpu(index(cpu));
    match membership {
        Membership::Alone => builder.enabled(false).build(),
        Membership::First => with_readings(&mut builder, subject, manner).enabled(false).build(),
        Membership::Of(first) => with_readings(&mut builder, subject, manner).build_with_group(first),
    }
}

/// Whether this kernel puts what inherited counters say into samples (Linux 6.12 and later), and this user may be told of switches
/// in this way.
pub fn try_readings(manner: Manner) -> io::Result<()> {
    let mut builder = builder(Subject::LosingCpu, manner);
    builder.observe_self().any_cpu().enabled(false);
    with_readings(&mut builder, Subject::LosingCpu, manner).build().map(drop)
}

/// The crate's own way to ask for a group's values has an id put before each.
fn with_readings<'a>(builder: &'a mut Builder<'static>, subject: Subject, manner: Manner) -> &'a mut Builder<'static> {
    let times = Format::TOTAL_TIME_ENABLED | Format::TOTAL_TIME_RUNNING;
    let format = match subject.read_format(manner) {
        ReadFormat::Values => Format::GROUP,
        ReadFormat::TimesAndValues => Format::GROUP | times,
        ReadFormat::TimesValuesAndLosses => Format::GROUP | times | Format::LOST,
    };
    builder.attrs_mut().read_format = format.bits();
    if subject.tells() {
        builder.sample(SampleFlag::READ);
    }
    builder
}

/// What a group has counted of the thread that it was opened on, and of all that have inherited it. `first` is its first event.
pub fn read_group(first: &Counter, manner: Manner) -> io::Result<GroupReading> {
    /// Of 16 bytes: times and all events that fit into a group of ours.
    const MOST: usize = 64;
    let mut bytes = [0_u8; 16 * MOST];
    // SAFETY: the descriptor is open for as long as the borrow, and the kernel writes no more than `bytes` holds.
    let length = unsafe { libc::read(first.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let said = bytes.get(..length).unwrap_or_default();
    let reading = reading::decode(said, Subject::LosingCpu.read_format(manner)).map(|(reading, _)| reading);
    reading.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
}

/// An event that reports `subject` of the calling thread on whatever CPU.
pub fn watch_self(subject: Subject) -> io::Result<Counter> {
    builder(subject, Manner::ALONE).observe_self().any_cpu().build()
}

/// The same in one group with `events`, as [`watch`] opens it, if there are any. The event that reports comes last.
pub fn watch_self_counting(subject: Subject, events: &'static [CountedEvent]) -> io::Result<Vec<Counter>> {
    if events.is_empty() {
        return Ok(vec![watch_self(subject)?]);
    }
    let manner = Manner::counting(events);
    let open = |subject| {
        let mut builder = builder(subject, manner);
        with_readings(&mut builder, subject, manner).observe_self().any_cpu();
        builder
    };
    let mut group = vec![open(Subject::LosingCpu).enabled(false).build()?];
    for subject in events.iter().map(Subject::Counted).chain([subject]) {
        let member = open(subject).build_with_group(&mut group[0])?;
        group.push(member);
    }
    group[0].enable()?;
    Ok(group)
}

/// Makes `event` write into the ring of `owner`; both must be bound to the same CPU.
pub fn redirect(event: &Counter, owner: &Counter) -> io::Result<()> {
    // SAFETY: both descriptors are open perf events for as long as the borrows last; the kernel checks the rest.
    let outcome = unsafe { ioctls::SET_OUTPUT(event.as_raw_fd(), owner.as_raw_fd()) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `exclude_kernel`, the builder's default, stays: it is what makes the events permitted to every user for processes of
/// their own, and neither switch records nor user-space probes are kernel events in that sense. The first event of a group and a
/// thread's end are.
fn builder(subject: Subject, manner: Manner) -> Builder<'static> {
    let mut builder = match subject {
        Subject::Event(clock) => clock.builder(),
        Subject::Scheduling => Builder::new(Software::DUMMY),
        Subject::Probe { tracepoint, .. } => Builder::new(Tracepoint::with_id(tracepoint)),
        Subject::Watchpoint { address, length } => Builder::new(Breakpoint::write(address.raw(), length)),
        Subject::MachineState { .. } => Builder::new(Software::CPU_CLOCK),
        Subject::Faults(FaultKind::Minor, ..) => Builder::new(Software::PAGE_FAULTS_MIN),
        Subject::Faults(FaultKind::Major, ..) => Builder::new(Software::PAGE_FAULTS_MAJ),
        Subject::LosingCpu => Builder::new(Software::CONTEXT_SWITCHES),
        Subject::Ending { tracepoint } => Builder::new(Tracepoint::with_id(tracepoint)),
        Subject::Counted(event) => event.builder(),
    };
    builder
        .sample(SampleFlag::TID | SampleFlag::TIME | SampleFlag::IDENTIFIER)
        .sample_id_all(true)
        .clockid(Clock::MONOTONIC)
        .read_format(if manner.losses == Losses::Counted { Format::LOST } else { Format::empty() })
        .enabled(true);
    manner.let_inherit(&mut builder);
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
        Subject::Event(clock) => {
            clock.shape(&mut builder);
            builder.wakeup_events(1)
        }
        Subject::LosingCpu | Subject::Ending { .. } => builder.sample_period(1).exclude_kernel(false),
        Subject::Counted(_) => &mut builder,
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
