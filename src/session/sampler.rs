//! When to read whose stack: all threads at a jittered rate, each thread that has begun to wait, and again and again those
//! for whom others wait, unless the source reads them.
//!
//! Stacks are read from outside; no thread is ever stopped for it. A stack that moved while it was read is discarded by
//! the reader and counted. Where programs in the kernel sample the threads that run, only the others are read here.

use std::num::NonZeroU32;

use rustc_hash::FxHashMap;

use crate::{
    ledger::Ledger,
    model::{
        event::{Event, SampleCause, StackSample, What},
        ids::Tid,
        stack::{StackId, StackTable},
        time::{MonoNanos, Nanos},
    },
    perf::{clock, jitter::Jitter},
    session::{
        sleepers::Sleepers,
        stacks::{WaitStacks, keep},
    },
    stack::{Motion, reader::StackReader},
};

/// Threads read at one tick; more take turns, so that reading never takes more than a few milliseconds.
const THREADS_A_TICK: usize = 48;

/// Who samples the threads that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RunningThreads {
    /// We do, from outside.
    Ours,
    /// The source does, from inside the kernel.
    OfSource,
}

/// Which stacks the source brings itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Readings {
    pub(super) waits: WaitStacks,
    pub(super) running: RunningThreads,
}

impl Readings {
    /// Whether nobody but us reads the stacks of those for whom others wait.
    fn lack_holders(self) -> bool {
        self.waits == WaitStacks::Read && self.running == RunningThreads::Ours
    }
}

/// Reads stacks on time.
#[derive(Debug)]
pub(super) struct Sampler {
    reader: StackReader,
    sleepers: Sleepers,
    readings: Readings,
    period: Nanos,
    next_tick: MonoNanos,
    turn: usize,
    jitter: Jitter,
    /// Waits whose stack has been read, by the moment of reading, until the ledger has booked it.
    asked: FxHashMap<Tid, MonoNanos>,
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

/// What is known at the moment of sampling.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) ledger: &'a Ledger,
    /// Everything before is in the ledger.
    pub(super) booked: MonoNanos,
    pub(super) activity: Activity,
}

impl Sampler {
    /// Samples each thread `rate` times a second on average.
    pub(super) fn new((reader, sleepers): (StackReader, Sleepers), rate: NonZeroU32, readings: Readings) -> Self {
        let period = Nanos::period_of(rate);
        let now = clock::now();
        let jitter = Jitter::seeded(now);
        Self {
            reader,
            sleepers,
            readings,
            period,
            next_tick: now,
            turn: 0,
            jitter,
            asked: FxHashMap::default(),
            asleep: FxHashMap::default(),
        }
    }

    /// How long until the next tick is due.
    pub(super) fn until_next_tick(&self) -> Nanos {
        self.next_tick.saturating_since(clock::now())
    }

    /// Reads what is due now.
    pub(super) fn sample(&mut self, scene: Scene<'_>, stacks: &mut StackTable, out: &mut Vec<Event>) {
        let Scene { ledger, activity, .. } = scene;
        if activity == Activity::Lively {
            self.asleep.clear();
        }
        let mut threads: Vec<Tid> = ledger.live_threads().collect();
        threads.sort_unstable();
        if self.readings.waits == WaitStacks::Read {
            self.read_waits(ledger, &threads, stacks, out);
        }
        if self.readings.lack_holders() {
            let owners: Vec<Tid> = ledger.contended_owners().collect();
            // That others wait for them is known a little late. If it is over, the reading counts for nothing.
            out.extend(owners.into_iter().map(|tid| self.read(tid, Motion::Moving, SampleCause::OwnerSampled, stacks)));
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
            out.extend(self.tick(*tid, &scene, stacks));
            if activity == Activity::Quiet && ledger.is_asleep(*tid) {
                self.remember(out.last());
            }
        }
    }

    /// What a thread's stack is now, read or known; `None` when the source itself samples it.
    fn tick(&mut self, tid: Tid, scene: &Scene<'_>, stacks: &mut StackTable) -> Option<Event> {
        let known = |at, stack| Event {
            at,
            tid,
            what: What::Stack(StackSample { until: at, stack: Some(stack), cause: SampleCause::Tick }),
        };
        if let Some(stack) = scene.ledger.stack_of_wait(tid) {
            // It waited when everything before was booked, and has not moved since the wait began.
            return Some(known(scene.booked, stack));
        }
        if let Some(stack) = self.asleep.get(&tid) {
            // A thread that sleeps in a quiet target has the stack that was read last.
            return Some(known(clock::now(), *stack));
        }
        let sleeps = scene.ledger.is_asleep(tid) && !scene.ledger.awaits_stack(tid);
        if let Some(event) = sleeps.then(|| self.read_sleeper(tid, stacks)).flatten() {
            return Some(event);
        }
        let ours = self.readings.running == RunningThreads::Ours || !scene.ledger.is_running(tid);
        ours.then(|| {
            let at = clock::now();
            sampled((at, tid), keep(self.sleepers.read_any(tid, &mut self.reader), stacks), SampleCause::Tick)
        })
    }

    /// `None` if it has woken up.
    fn read_sleeper(&mut self, tid: Tid, stacks: &mut StackTable) -> Option<Event> {
        let at = clock::now();
        let read = self.sleepers.read(tid, &mut self.reader)?;
        Some(sampled((at, tid), keep(read, stacks), SampleCause::Tick))
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
        sampled((at, tid), keep(self.reader.read(tid, motion), stacks), cause)
    }
}

/// A stack whose reading began at `at` and has just ended.
fn sampled((at, tid): (MonoNanos, Tid), stack: Option<StackId>, cause: SampleCause) -> Event {
    Event { at, tid, what: What::Stack(StackSample { until: clock::now(), stack, cause }) }
}
