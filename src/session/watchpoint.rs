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
        quality::SchedulerRung,
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
    programs: Option<LoadedPrograms>,
    child: Pid,
    started: MonoNanos,
}

impl WatchpointWatch {
    /// Watches the held child's scheduling, from before its first instruction.
    pub(super) fn before_start(child: Pid, options: RecordOptions) -> Result<Self, SessionError> {
        let programs = programs(options);
        let source = WatchpointSource::open(child, Scope::BeforeExec, options.counters.events)?;
        Ok(Self { source, programs, child, started: clock::now() })
    }

    /// The target, once the child has become an interpreter with a lock.
    pub(super) fn look(&mut self) -> Option<Target> {
        let target = Target::discover(self.child).ok()?;
        let memory = ProcessMemory::open(target.pid).ok()?;
        target.locks(&memory).is_ok_and(|locks| !locks.is_empty()).then_some(target)
    }

    pub(super) fn begin(self, target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
        let main = target.pid.main_thread();
        let armed = Armed::arm((self.source, self.programs), &target)?;
        let first = first_thread(main, self.started, SeenCpu::Asleep, LockStart::Unknown);
        armed.record(target, (Some(self.started), Some(first)), options)
    }
}

/// Watches the words of a running target's lock, sees what each of its threads is doing, and begins to record.
pub(super) fn attach(target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
    let programs = programs(options);
    let source = WatchpointSource::open(target.pid, Scope::Running, options.counters.events)?;
    Armed::arm((source, programs), &target)?.record(target, (None, None), options)
}

/// Programs in the kernel that read stacks. They take long to load: before anything is watched. Where they are not permitted,
/// stacks are read in other ways.
fn programs(options: RecordOptions) -> Option<LoadedPrograms> {
    options.rate.and_then(|_| LoadedPrograms::load().ok())
}

/// A source that watches everything, from a moment before `at` on.
#[derive(Debug)]
struct Armed {
    source: WatchpointSource,
    programs: Option<LoadedPrograms>,
    at: MonoNanos,
    translator: SharedTranslator,
}

impl Armed {
    fn arm(
        (mut source, programs): (WatchpointSource, Option<LoadedPrograms>),
        target: &Target,
    ) -> Result<Self, SessionError> {
        let (finder, memory) = (Box::new(LiveLocks::of(target)?), Box::new(ProcessMemory::open(target.pid)?));
        let translator = Rc::new(RefCell::new(Translator::new(None)));
        let look_at_threads = look_at_threads(target)?;
        source.watch(WatchedProgram { finder, memory, look_at_threads, translator: Rc::clone(&translator) })?;
        Ok(Self { source, programs, at: clock::now(), translator })
    }

    fn record(
        self,
        target: Target,
        (start, first): (Option<MonoNanos>, Option<Event>),
        options: RecordOptions,
    ) -> Result<Recording, SessionError> {
        let Self { mut source, programs, at, translator } = self;
        let seen = source.see();
        let free = free_locks(&numbered_seats(&translator), &ProcessMemory::open(target.pid)?);
        let seen_at = clock::now();
        let (stacks, mut notes) = (SharedStacks::default(), Vec::new());
        notes.extend(start.map(|start| {
            let late = at.saturating_since(start);
            format!(
                "the lock is watched from {late} after the program's start on: what was done with it before is unknown"
            )
        }));
        let joiner = Joiner::wanted(&target, options.frames, &mut notes);
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
            scheduler: SchedulerRung::Records,
            looks: None,
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
