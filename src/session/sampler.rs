//! When to read whose stack: all threads at a jittered rate, and each thread that has begun to wait.
//!
//! Stacks are read from outside; no thread is ever stopped for it. A stack that moved while it was read is discarded by
//! the reader and counted. The number of distinct stacks kept is bounded: past the bound they share one place holder.

use std::num::NonZeroU32;

use rustc_hash::FxHashMap;

use crate::{
    ledger::Ledger,
    model::{
        event::{Event, SampleCause, StackSample, What},
        ids::Tid,
        stack::{Frame, StackId, StackTable},
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    session::stacks::WaitStacks,
    stack::{Motion, StackFailure, reader::StackReader},
};

/// Frames of all distinct stacks kept; past it memory would grow with the length of the recording.
const FRAMES_KEPT: usize = 1 << 20;
/// Threads read at one tick; more take turns, so that reading never takes more than a few milliseconds.
const THREADS_A_TICK: usize = 48;

/// Reads stacks on time.
#[derive(Debug)]
pub(super) struct Sampler {
    reader: StackReader,
    period: Nanos,
    next_tick: MonoNanos,
    turn: usize,
    jitter: Jitter,
    /// Waits whose stack has been read, by the moment of reading, until the ledger has booked it.
    asked: FxHashMap<Tid, MonoNanos>,
    wait_stacks: WaitStacks,
    /// Stacks of threads that have slept ever since they were read, while the whole target is quiet.
    asleep: FxHashMap<Tid, StackId>,
}

/// Whether anything has happened in the target lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    /// Something has, or may have that is not booked yet.
    Lively,
    /// Nothing has for so long that everything is booked: a thread that sleeps has slept all the while.
    Quiet,
}

impl Sampler {
    /// Samples each thread `rate` times a second on average.
    pub(super) fn new(reader: StackReader, rate: NonZeroU32, wait_stacks: WaitStacks) -> Self {
        let period = Nanos::from_nanos(1_000_000_000 / u64::from(rate.get()));
        let now = clock::now();
        let jitter = Jitter(now.as_nanos() | 1);
        Self {
            reader,
            period,
            next_tick: now,
            turn: 0,
            jitter,
            asked: FxHashMap::default(),
            asleep: FxHashMap::default(),
            wait_stacks,
        }
    }

    /// How long until the next tick is due.
    pub(super) fn until_next_tick(&self) -> Nanos {
        self.next_tick.saturating_since(clock::now())
    }

    /// Reads what is due now.
    pub(super) fn sample(
        &mut self,
        ledger: &Ledger,
        activity: Activity,
        stacks: &mut StackTable,
        out: &mut Vec<Event>,
    ) {
        if activity == Activity::Lively {
            self.asleep.clear();
        }
        let mut threads: Vec<Tid> = ledger.live_threads().collect();
        threads.sort_unstable();
        if self.wait_stacks == WaitStacks::Read {
            self.read_waits(ledger, &threads, stacks, out);
        }
        let now = clock::now();
        if now < self.next_tick || threads.is_empty() {
            return;
        }
        self.next_tick = now.later_by(self.jitter.around(self.period));
        let count = threads.len().min(THREADS_A_TICK);
        let start = self.turn % threads.len();
        self.turn = start + count;
        for tid in threads.iter().cycle().skip(start).take(count) {
            out.push(self.tick(*tid, stacks));
            if activity == Activity::Quiet && ledger.is_asleep(*tid) {
                self.remember(out.last());
            }
        }
    }

    /// A thread that sleeps in a quiet target has the stack that was read last.
    fn tick(&mut self, tid: Tid, stacks: &mut StackTable) -> Event {
        let Some(stack) = self.asleep.get(&tid) else {
            return self.read(tid, Motion::Moving, SampleCause::Tick, stacks);
        };
        let at = clock::now();
        Event { at, tid, what: What::Stack(StackSample { until: at, stack: Some(*stack), cause: SampleCause::Tick }) }
    }

    fn remember(&mut self, read: Option<&Event>) {
        if let Some(Event { tid, what: What::Stack(StackSample { stack: Some(stack), .. }), .. }) = read {
            self.asleep.insert(*tid, *stack);
        }
    }

    fn read_waits(&mut self, ledger: &Ledger, threads: &[Tid], stacks: &mut StackTable, out: &mut Vec<Event>) {
        self.asked.retain(|_, read_at| *read_at >= ledger.now());
        for tid in threads.iter().copied().filter(|tid| ledger.awaits_stack(*tid)) {
            if !self.asked.contains_key(&tid) {
                let event = self.read(tid, Motion::Still, SampleCause::WaitBegan, stacks);
                self.asked.insert(tid, event.at);
                out.push(event);
            }
        }
    }

    fn read(&mut self, tid: Tid, motion: Motion, cause: SampleCause, stacks: &mut StackTable) -> Event {
        let at = clock::now();
        let stack = stack_of(self.reader.read(tid, motion), stacks);
        Event { at, tid, what: What::Stack(StackSample { until: clock::now(), stack, cause }) }
    }
}

/// What stands for a reading; `None` when it failed.
pub(super) fn stack_of(read: Result<Vec<Frame>, StackFailure>, stacks: &mut StackTable) -> Option<StackId> {
    match read {
        Ok(frames) => Some(kept(&frames, stacks)),
        // Both are answers: a thread that is starting or ending, or that C code made for itself.
        Err(StackFailure::NoFrames) => Some(stacks.intern(&[Frame::marker("no script frames")])),
        Err(StackFailure::UnknownThread) => Some(stacks.intern(&[Frame::marker("not in the interpreter")])),
        Err(StackFailure::Torn | StackFailure::Unreadable) => None,
    }
}

fn kept(frames: &[Frame], stacks: &mut StackTable) -> StackId {
    let known = stacks.intern_within(frames, FRAMES_KEPT);
    known.unwrap_or_else(|| stacks.intern(&[Frame::marker("too many different stacks")]))
}

/// Spreads ticks between half and one and a half periods, so that they cannot fall into step with the target.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    /// Xorshift: cheap, and good enough to break any rhythm.
    fn around(&mut self, period: Nanos) -> Nanos {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let period = period.as_nanos();
        Nanos::from_nanos(period / 2 + self.0 % period.max(1))
    }
}

/// The stack that stands in where none was read.
pub(super) fn no_stack(stacks: &mut StackTable) -> StackId {
    stacks.intern(&[Frame::marker("no stack read")])
}
