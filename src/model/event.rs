//! What sources report: one ordered stream of these events is all the ledger ever sees.

use crate::model::{
    address::LiveAddress,
    counts::{Counter, Counters, Measures},
    ids::{LockId, Tid},
    stack::StackId,
    time::{MonoNanos, Nanos},
};

/// Something that happened to one thread at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, on `CLOCK_MONOTONIC`.
    pub at: MonoNanos,
    /// To which thread.
    pub tid: Tid,
    /// What.
    pub what: What,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The thread took a step with a global lock.
    Lock(LockId, LockStep),
    /// The thread got a CPU.
    SwitchedIn,
    /// The thread lost its CPU.
    SwitchedOut(OffCpu),
    /// The thread's cumulative time runnable without a CPU, as the kernel counts it (`/proc/T/schedstat`, second
    /// field). From it the ledger learns how much of each sleep was really wake-up latency.
    RunDelay(Nanos),
    /// The thread was created at this moment.
    Created,
    /// The thread existed already when it was first seen, at this moment.
    Seen(Sighting),
    /// The thread's use of the CPUs was looked at: all that is known where no switch records can be had.
    CpuSeen(CpuSight),
    /// Looks tell that from about this moment on the thread has this relation to the locks; `None`: they could not settle
    /// it. Only a source that sees no lock events says so.
    RelationSeen(Option<SeenRelation>),
    /// Looks tell that from about this moment on no thread that they know owns this lock; whose event it is means nothing.
    OwnerSeen(LockId, SeenOwner),
    /// This has happened to the thread so often, the last time now.
    Happened(Counter, u32),
    /// The recording's events have counted so much of the thread since it was told last, up to now.
    Measured(Box<Measures>, MeasuredSince),
    /// Some of the recording's events do not count the thread all the time.
    Unmeasured(Counters),
    /// The thread ended.
    Exited,
    /// The thread executed another program: the interpreter and its locks are gone, and so are all other threads.
    Executed,
    /// The thread's name, known from this moment on.
    Named(Box<str>),
    /// Lock events of this thread are missing from this moment on, up to its next one.
    LostLock(LostEvents),
    /// Scheduler events of this thread are missing from this moment on, up to its next one.
    LostSwitch(LostEvents),
    /// The thread's stack, read between the event's time and `until`.
    Stack(StackSample),
    /// The event that the recording samples has counted so much of the thread since its sample before.
    EventSample(EventSample),
    /// Nobody owned the lock when all threads were looked at; whose thread it is told of does not matter.
    SeenFree(LockId),
    /// What is taken of the lock events of all threads changes; whose thread it is told of does not matter.
    Window(WindowStep),
    /// Steps with a lock that were counted and not told one by one, since the last such event.
    Counted(LockId, CountedSteps),
    /// Steps are missing that were not counted either.
    Uncounted,
    /// The thread of a free-threaded build goes to sleep, or goes on, without a global lock having to do with it.
    Park(ParkStep),
}

/// What a thread was doing while events counted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MeasuredSince {
    /// It has taken no step with a lock since.
    LastStep,
    /// Steps may be missing between then and now.
    Unknown,
}

/// One step of a sleep that the interpreter itself provides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParkStep {
    /// It begins.
    Began(ParkPlace),
    /// The thread's stack during it; `None` when it could not be read.
    Stack(Option<StackId>),
    /// Another thread ended it.
    Woken,
    /// A time limit or a signal ended it.
    GaveUp,
}

/// What a thread sleeps for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParkPlace {
    /// Until the lock at this address is free: that of an object, or one of the interpreter's own.
    Mutex(LiveAddress),
    /// Until the world goes on, which another thread has stopped.
    Suspended,
    /// Until all others have stopped, as it has requested by the event at this address.
    StopRequest(LiveAddress),
    /// Anything else.
    Elsewhere,
}

/// A recording that may not take every lock event takes those in windows.
///
/// ```text
/// cell │                 armed began      ended │             armed …
///      ├─────────────────────┴──┴───────────┴───┼───────────────┴─
/// ```
///
/// A cell is a stretch of time in which every moment has the same chance to lie in a window. Before its first cell a
/// recording takes everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowStep {
    /// A cell begins, and the one before it ends.
    Cell,
    /// Lock events are taken again from here on, as evidence of what threads are doing.
    Armed,
    /// All threads have been looked at: the window begins.
    Began,
    /// The window ends: lock events are not taken any more.
    Ended,
}

/// Steps with a lock that a source only counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CountedSteps {
    /// Acquisitions.
    pub holds: u64,
    /// Waits that began.
    pub waits: u64,
}

/// A thread's step with a global lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockStep {
    /// It wants the lock and another owns it; repeated for every slice of the same wait.
    Want,
    /// It owns the lock from now on.
    Acquired,
    /// It no longer owns the lock.
    Released,
    /// It has just released on demand (a forced release) and sleeps until another thread has the lock; it wants
    /// the lock back, so a wait begins here.
    Yielded,
}

/// Why a thread lost its CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OffCpu {
    /// Others needed the CPU; the thread could have gone on.
    Preempted,
    /// It went to sleep.
    Blocked,
}

/// What was read about a thread that existed before the recording began. `None` means: could not be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sighting {
    /// Its relation to the lock, read from the target's memory and the kernel's wait channel.
    pub relation: Option<SeenRelation>,
    /// Whether it was runnable (on a CPU or queued for one) or asleep.
    pub cpu: Option<SeenCpu>,
}

/// A thread's relation to the lock as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeenRelation {
    /// It owns this lock.
    Inside(LockId),
    /// It sleeps on this lock's condition variable.
    Waiting(LockId),
    /// Neither.
    Outside,
}

/// A thread's place with respect to the CPUs as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeenCpu {
    /// State `R`: on a CPU or queued for one; `/proc` does not tell which.
    Runnable,
    /// Any sleeping state.
    Asleep,
}

/// Who owns a lock, if not a thread that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SeenOwner {
    /// Nobody.
    Nobody,
    /// Somebody, or that could not be known either.
    Unknown,
}

/// A thread's use of the CPUs, looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CpuSight {
    /// What it was doing at that moment.
    pub cpu: SeenCpu,
    /// What it slept for.
    pub pause: Pause,
    /// What the kernel has counted so far; `None` when it was not read this time.
    pub spent: Option<CpuTime>,
}

/// What a thread is seen to sleep for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pause {
    /// It does not sleep, or it cannot be known.
    Unknown,
    /// For one of a global lock's own words.
    ForLock,
    /// For something else.
    Elsewhere,
}

/// The kernel's exact counts of a thread's whole life (`/proc/T/schedstat`, first two fields).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CpuTime {
    /// Time on a CPU.
    pub ran: Nanos,
    /// Time runnable without a CPU.
    pub delayed: Nanos,
}

/// Events that a full buffer could not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LostEvents {
    /// How many, as the kernel or the probe counted them; a loss that hits several threads is counted on one.
    pub count: u64,
}

/// A stack read from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StackSample {
    /// When reading ended; it began at the event's own time.
    pub until: MonoNanos,
    /// The stack, or `None` when it could not be read or was found torn.
    pub stack: Option<StackId>,
    /// Why it was read.
    pub cause: SampleCause,
}

/// A sample of the recording's event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventSample {
    /// The thread's stack at that moment, or `None` when it could not be read.
    pub stack: Option<StackId>,
    /// What the sample stands for.
    pub weight: u64,
}

/// Why a stack was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SampleCause {
    /// The sampling clock ticked: such samples fall evenly over time.
    Tick,
    /// The thread had begun to wait: such a sample speaks for that one wait.
    WaitBegan,
    /// The stack of a lock's owner while others wait, read by one that waits or by the owner itself, at a moment that the
    /// owner did not choose: such samples speak for the contended time around them.
    Contended,
    /// The thread owns a lock that others wait for, and this is its own stack: such samples speak for the contended time
    /// around them, if it owns the lock still.
    OwnerSampled,
    /// The thread is about to release a lock: such a sample stands in for a hold that has no other.
    AtRelease,
}
