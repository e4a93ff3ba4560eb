//! Hardware watchpoints on the lock's words, on a program that is launched or on one that is running.
//!
//! A launched program has no lock until its interpreter has started: what its first thread does with the lock before that
//! is unknown.

use std::{cell::RefCell, rc::Rc};

use crate::{
    ledger::LockStart,
    model::{
        event::{Event, LostEvents, SeenCpu, What},
        ids::{LockId, Pid},
        profile::Backend,
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    session::{
        error::SessionError,
        finder::LiveLocks,
        joiner::Joiner,
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
        watchpoint::{Coverage, WatchpointSource, error::WatchpointError},
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
        let missed = Event { at: armed.at, tid: main, what: What::LostLock(LostEvents { count: 0 }) };
        let first = first_thread(main, self.started, SeenCpu::Asleep, LockStart::Unknown);
        armed.record((target, self.started), [first, missed], options)
    }
}

/// Watches the words of a running target's lock, sees what each of its threads is doing, and begins to record.
pub(super) fn attach(target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
    let source = WatchpointSource::open(target.pid, Scope::Running)?;
    let armed = Armed::arm(source, &target)?;
    let start = clock::now();
    armed.record((target, start), [], options)
}

/// Everything is watched from `at` on.
#[derive(Debug)]
struct Armed {
    source: WatchpointSource,
    translator: SharedTranslator,
    seats: Vec<(LockId, LockSeat)>,
    at: MonoNanos,
    notes: Vec<String>,
}

impl Armed {
    fn arm(mut source: WatchpointSource, target: &Target) -> Result<Self, SessionError> {
        let memory = ProcessMemory::open(target.pid)?;
        let translator = Rc::new(RefCell::new(Translator::new(None)));
        translator.borrow_mut().find_with(Box::new(LiveLocks::of(target)?));
        let seats = numbered_seats(&translator);
        let (id, seat) = seats.first().ok_or(WatchpointError::NoLock)?;
        let coverage = source.watch((*id, seat), Box::new(memory))?;
        let notes = notes(source.cost_per_write(), coverage);
        Ok(Self { source, translator, seats, at: clock::now(), notes })
    }

    fn record(
        self,
        (target, start): (Target, MonoNanos),
        known: impl IntoIterator<Item = Event>,
        options: RecordOptions,
    ) -> Result<Recording, SessionError> {
        let Self { source, translator, seats, mut notes, .. } = self;
        let memory = ProcessMemory::open(target.pid)?;
        let seen = target.sightings(&memory, &seats);
        let free = seats.iter().filter(|(_, seat)| seat.read(&memory).is_ok_and(|words| !words.locked));
        let free: Vec<LockId> = free.map(|(id, _)| *id).collect();
        let stacks = SharedStacks::default();
        let joiner = Joiner::wanted(&target, options.frames, &mut notes);
        let programs = options.rate.and_then(|_| LoadedPrograms::load().ok());
        let reading = StackReading { rate: options.rate, stacks: &stacks, joiner: joiner.as_ref() };
        let sampling = Sampling::of((&target, &translator), (Box::new(source), programs), reading, &mut notes);
        let seen_at = clock::now();
        let beginning = Beginning {
            target,
            translator,
            stacks,
            joiner,
            readings: Readings { waits: WaitStacks::Read, running: sampling.running },
            sources: vec![sampling.source],
            backend: Backend::Watchpoint,
            start,
            lock_start: LockStart::Unknown,
            notes,
        };
        let mut recording = Recording::begin(beginning, options);
        let engine = recording.engine();
        // Whatever happened since the words are watched is newer than what was seen, and wins.
        engine.add(known.into_iter().chain(as_events(seen, seen_at)));
        engine.catch_up(seen_at.later_by(Nanos::from_nanos(1)));
        free.into_iter().for_each(|lock| engine.seed_free(lock));
        Ok(recording)
    }
}

/// What a reader must know to judge the numbers.
fn notes(cost: Option<Nanos>, coverage: Coverage) -> Vec<String> {
    let dear = cost.map(|cost| {
        format!(
            "lock events are taken by hardware watchpoints: each costs the thread that makes it {cost} here, so a program \
             that takes its lock often runs slower than it does alone"
        )
    });
    let partial = (coverage == Coverage::WithoutYields).then(|| {
        "a debugger or another profiler has some of the processor's debug registers: how a thread gives way on demand is \
         not watched but inferred"
            .to_owned()
    });
    dear.into_iter().chain(partial).collect()
}
