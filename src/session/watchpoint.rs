//! Hardware watchpoints on the lock's words, on a program that is launched or on one that is running.
//!
//! A launched program has no lock until its interpreter has started: what its first thread does with the lock before that
//! is unknown.

use std::{cell::RefCell, rc::Rc};

use crate::{
    ledger::LockStart,
    model::{
        event::{Event, SeenCpu},
        ids::{LockId, Pid},
        profile::Backend,
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    session::{
        error::SessionError,
        finder::LiveLocks,
        joiner::Joiner,
        numbers::none_known,
        options::RecordOptions,
        recording::{Beginning, Recording, first_thread},
        running::{Sampling, StackReading},
        sampler::Readings,
        stacks::{SharedStacks, WaitStacks},
        uprobe::{as_events, numbered_seats},
    },
    source::{
        bpf::LoadedPrograms,
        calls::{SharedTranslator, Translator},
        scheduler::Scope,
        watchpoint::{LookAtThreads, WatchedProgram, WatchpointSource},
    },
    target::{discover::Target, lock::LockSeat, memory::ProcessMemory},
};

/// A launched program's scheduling is watched, and its lock will be as soon as there is one.
#[derive(Debug)]
pub(super) struct WatchpointWatch {
    source: WatchpointSource,
    child: Pid,
    started: MonoNanos,
}

impl WatchpointWatch {
    /// Watches the held child's scheduling, from before its first instruction.
    pub(super) fn before_start(child: Pid) -> Result<Self, SessionError> {
        let source = WatchpointSource::open(child, Scope::BeforeExec)?;
        Ok(Self { source, child, started: clock::now() })
    }

    /// The target, once the child has become an interpreter with a lock.
    pub(super) fn look(&mut self) -> Option<Target> {
        let target = Target::discover(self.child).ok()?;
        let memory = ProcessMemory::open(target.pid).ok()?;
        target.locks(&memory).is_ok_and(|locks| !locks.is_empty()).then_some(target)
    }

    pub(super) fn begin(self, target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
        let main = target.pid.main_thread();
        let armed = Armed::arm(self.source, &target)?;
        let first = first_thread(main, self.started, SeenCpu::Asleep, LockStart::Unknown);
        armed.record(target, (Some(self.started), Some(first)), options)
    }
}

/// Watches the words of a running target's lock, sees what each of its threads is doing, and begins to record.
pub(super) fn attach(target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
    let source = WatchpointSource::open(target.pid, Scope::Running)?;
    Armed::arm(source, &target)?.record(target, (None, None), options)
}

/// A source that watches everything.
#[derive(Debug)]
struct Armed {
    source: WatchpointSource,
    translator: SharedTranslator,
}

impl Armed {
    fn arm(mut source: WatchpointSource, target: &Target) -> Result<Self, SessionError> {
        let (finder, memory) = (Box::new(LiveLocks::of(target)?), Box::new(ProcessMemory::open(target.pid)?));
        let translator = Rc::new(RefCell::new(Translator::new(None)));
        let look_at_threads = look_at_threads(target)?;
        source.watch(WatchedProgram { finder, memory, look_at_threads, translator: Rc::clone(&translator) })?;
        Ok(Self { source, translator })
    }

    fn record(
        self,
        target: Target,
        (start, first): (Option<MonoNanos>, Option<Event>),
        options: RecordOptions,
    ) -> Result<Recording, SessionError> {
        let Self { mut source, translator } = self;
        let seen = source.see();
        let free = free_locks(&numbered_seats(&translator), &ProcessMemory::open(target.pid)?);
        let seen_at = clock::now();
        let (stacks, mut notes) = (SharedStacks::default(), Vec::new());
        let joiner = Joiner::wanted(&target, options.frames, &mut notes);
        let programs = options.rate.and_then(|_| LoadedPrograms::load().ok());
        let reading = StackReading { rate: options.rate, stacks: &stacks, joiner: joiner.as_ref() };
        let sampling = Sampling::of((&target, &translator), (Box::new(source), programs), reading, &mut notes);
        let beginning = Beginning {
            target,
            translator,
            stacks,
            joiner,
            readings: Readings { waits: WaitStacks::Read, running: sampling.running },
            sources: vec![sampling.source],
            backend: Backend::Watchpoint,
            start: start.unwrap_or(seen_at),
            lock_start: LockStart::Unknown,
            numbers: none_known(),
            notes,
        };
        let mut recording = Recording::begin(beginning, options);
        let engine = recording.engine();
        // Whatever happened since the words are watched is newer than what was seen, and wins.
        engine.add(first.into_iter().chain(as_events(seen, seen_at)));
        engine.catch_up(seen_at.later_by(Nanos::from_nanos(1)));
        free.into_iter().for_each(|lock| engine.seed_free(lock));
        Ok(recording)
    }
}

fn free_locks(seats: &[(LockId, LockSeat)], memory: &ProcessMemory) -> Vec<LockId> {
    let free = seats.iter().filter(|(_, seat)| seat.read(memory).is_ok_and(|words| !words.locked));
    free.map(|(id, _)| *id).collect()
}

fn look_at_threads(target: &Target) -> Result<LookAtThreads, SessionError> {
    let (target, memory) = (target.clone(), ProcessMemory::open(target.pid)?);
    Ok(Box::new(move |seats| target.sightings(&memory, seats)))
}
