//! Launching with the in-target probe: lock events from the probe, scheduling from perf events, no privileges.

use std::{
    cell::RefCell,
    os::fd::BorrowedFd,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    ledger::LockStart,
    model::{
        event::{Event, SeenCpu, What},
        family::Reach,
        ids::Pid,
        profile::Backend,
        recorded::RecordedStack,
        time::MonoNanos,
    },
    perf::{clock, error::PerfError, events::CountedEvent, user_reads::user_reads_work},
    session::{
        error::SessionError,
        family::Household,
        finder::{LiveLocks, park_reader},
        joiner::Joiner,
        namer::Namer,
        numbers::none_known,
        options::RecordOptions,
        recording::{Beginning, Recording, first_thread},
        running::{Sampling, StackReading},
        sampler::{Readings, RunningThreads},
        stacks::{SharedStacks, WaitStacks},
    },
    source::{
        Source,
        bpf::LoadedPrograms,
        calls::{SharedTranslator, Translator},
        kin::{KinStream, SharedKin},
        preload::{Pool, PreloadSource, Prepared},
        renumber::Renumbered,
        scheduler::{SchedulerSource, Scope},
        scheduling::Evidence,
    },
    stack::resolver::Resolver,
    target::{
        discover::Target,
        launch::Program,
        memory::ProcessMemory,
        runtime::threads::{Numbering, numbering},
    },
};

/// The probe is in place; which process will claim it is not yet known.
#[derive(Debug)]
pub(super) struct PreloadWatch {
    prepared: Prepared,
    /// There when other processes are recorded, too.
    pool: Option<Pool>,
    kin: Option<SharedKin>,
    scheduler: Result<SchedulerSource, PerfError>,
    programs: Option<LoadedPrograms>,
    child: Pid,
    notes: Vec<String>,
    started: MonoNanos,
    claimed_since: Option<Instant>,
    next_look: Instant,
}

/// Between two looks at a child that has not claimed the probe; each costs some milliseconds.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// An interpreter that has loaded the probe can be described within milliseconds; if not by then, never.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes the probe, and has `program` load it.
pub(super) fn prepare(program: &mut Program, reach: Reach) -> Result<Prepared, SessionError> {
    let prepared = match reach {
        Reach::Root => Prepared::new()?,
        Reach::Descendants => Prepared::for_family()?,
    };
    let own = std::env::var_os("LD_PRELOAD");
    program.environment.extend(prepared.environment(own.as_deref()));
    program.inherit.extend(prepared.inherited_fds().iter().map(std::os::fd::AsRawFd::as_raw_fd));
    Ok(prepared)
}

/// Has the program's threads read `events` by themselves, or says why that cannot be.
fn measure(prepared: &mut Prepared, events: &[CountedEvent]) -> Option<String> {
    if events.is_empty() {
        return None;
    }
    match user_reads_work(events) {
        Ok(()) => {
            prepared.measure(events);
            None
        }
        Err(why) => Some(format!("the probe in the program reads no events: {why}")),
    }
}

impl PreloadWatch {
    /// Watches the held child's scheduling, from before its first instruction.
    pub(super) fn before_start(mut prepared: Prepared, child: Pid, options: RecordOptions) -> Self {
        // Where they are not permitted, stacks are sampled in other ways.
        let programs = options.rate.and_then(|_| LoadedPrograms::load().ok());
        let notes = measure(&mut prepared, options.counters.events).into_iter().collect();
        let pool = prepared.take_pool();
        let (kin, scheduler) = match &pool {
            None => (None, SchedulerSource::open(child, Scope::BeforeExec)),
            Some(_) => match KinStream::open(child, Vec::new()).map(KinStream::shared) {
                Err(error) => (None, Err(error)),
                Ok(kin) => (Some(Rc::clone(&kin)), SchedulerSource::of_kin(kin, child, Scope::BeforeExec)),
            },
        };
        Self {
            prepared,
            pool,
            kin,
            scheduler,
            programs,
            child,
            notes,
            started: clock::now(),
            claimed_since: None,
            next_look: Instant::now(),
        }
    }

    /// The memory that is shared with probes.
    pub(super) fn shared(&self) -> Vec<BorrowedFd<'_>> {
        std::iter::once(self.prepared.file()).chain(self.pool.iter().map(Pool::file)).collect()
    }

    /// The target, once an interpreter has claimed the probe and can be described.
    pub(super) fn look(&mut self) -> Result<Option<Target>, SessionError> {
        let Some(inner) = self.prepared.claimed_by() else {
            return Ok(None);
        };
        // It numbers itself as its own pid namespace does, and may have ended again.
        let claimant = self.prepared.shared().ok().and_then(|shared| shared.claimant(inner, &[self.child, inner]));
        let Some(pid) = claimant else { return Ok(None) };
        let since = *self.claimed_since.get_or_insert_with(Instant::now);
        match Target::discover(pid) {
            Ok(target) => Ok(Some(target)),
            Err(_) if since.elapsed() < PATIENCE => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the child runs an interpreter that has not claimed the probe. It would have before it had a thread of its own,
    /// since the loader runs the probe before the program.
    pub(super) fn has_missed(&mut self) -> bool {
        if Instant::now() < self.next_look {
            return false;
        }
        let interprets = interprets(self.child);
        self.next_look = Instant::now() + BETWEEN_LOOKS;
        interprets && self.prepared.claimed_by().is_none()
    }

    pub(super) fn begin(
        self,
        target: Target,
        options: RecordOptions,
    ) -> Result<(Recording, Option<Household>), SessionError> {
        let (mut start, mut scheduler, mut cpu) = (self.started, self.scheduler, Some(SeenCpu::Asleep));
        if target.pid != self.child {
            // A wrapper has started the interpreter: it is watched from now on, unless the whole family is.
            (start, scheduler, cpu) = match &self.kin {
                Some(kin) => {
                    let life = kin.borrow().life(target.pid);
                    (start, Ok(SchedulerSource::of_life(Rc::clone(kin), target.pid, life)), None)
                }
                None => (clock::now(), SchedulerSource::open(target.pid, Scope::Running), Some(SeenCpu::Runnable)),
            };
        }
        let translator = Rc::new(RefCell::new(Translator::new(Some(Box::new(LiveLocks::of(&target)?)))));
        let calls = Rc::clone(&translator);
        let source =
            self.prepared.into_source(target.pid, Box::new(move |call, out| calls.borrow_mut().translate(call, out)));
        let first = cpu.map(|cpu| first_thread(target.pid.main_thread(), start, cpu, LockStart::Free));
        let parts = Parts { source, translator, scheduler, programs: self.programs, notes: self.notes, start, first };
        let recording = parts.begin(target, options);
        let household = self.pool.map(|pool| Household::with_pool(pool, self.kin, (self.child, options), &recording));
        Ok((recording, household))
    }
}

/// What a recording with the in-target probe is made of.
pub(super) struct Parts {
    pub(super) source: PreloadSource,
    /// Shared with `source`.
    pub(super) translator: SharedTranslator,
    pub(super) scheduler: Result<SchedulerSource, PerfError>,
    /// Those that sample running threads, where the kernel lets them.
    pub(super) programs: Option<LoadedPrograms>,
    /// What is to be said about it.
    pub(super) notes: Vec<String>,
    pub(super) start: MonoNanos,
    /// The sighting of the first thread, unless the scheduler tells of its birth.
    pub(super) first: Option<Event>,
}

impl Parts {
    pub(super) fn begin(self, target: Target, options: RecordOptions) -> Recording {
        let Self { mut source, translator, scheduler, programs, mut notes, start, first } = self;
        if let Some(parks) = park_reader(&target) {
            source.tell_parks(parks);
        }
        let stacks = SharedStacks::default();
        let mut wait_stacks = WaitStacks::Read;
        if let Some(resolver) = resolver(&target, options) {
            let mut namer = Namer::new(resolver, Rc::clone(&stacks), None);
            let on_stack = Box::new(move |stack: &RecordedStack| namer.name(stack));
            source.note_stacks(&target.runtime, Rc::clone(&translator), on_stack);
            wait_stacks = WaitStacks::Brought;
        }
        let joiner = Joiner::wanted(&target, options.frames, &mut notes);
        let mut running = RunningThreads::Ours;
        let unwatched = scheduler.is_err();
        let scheduling;
        let evidence = Evidence::best(scheduler, target.pid, &translator);
        let rung = evidence.rung();
        notes.extend(evidence.note());
        match evidence {
            Evidence::Records(scheduler) => {
                let reading = StackReading { rate: options.rate, stacks: &stacks, joiner: joiner.as_ref() };
                let sampling = Sampling::of((&target, &translator), (scheduler, programs), reading, &mut notes);
                running = sampling.running;
                scheduling = Some(sampling.source);
            }
            other => scheduling = other.into_source(),
        }
        let numbers = none_known();
        let sources = if numbering(target.pid) == Numbering::Foreign {
            let source = Renumbered::new(target.pid, Box::new(source), scheduling, Rc::clone(&numbers));
            vec![Box::new(source) as Box<dyn Source>]
        } else {
            [Box::new(source) as Box<dyn Source>].into_iter().chain(scheduling).collect()
        };
        let (backend, lock_start) = (Backend::Preload, LockStart::Free);
        let beginning = Beginning {
            target,
            translator,
            stacks,
            joiner,
            readings: Readings { waits: wait_stacks, running },
            sources,
            numbers,
            backend,
            scheduler: rung,
            looks: None,
            start,
            lock_start,
            notes,
        };
        let mut recording = Recording::begin(beginning, options);
        let first = first.map(|first| if unwatched { without_cpu(first) } else { first });
        recording.engine().add(first);
        recording
    }
}

/// Where no switch tells when the state ends in which the thread was seen.
fn without_cpu(mut first: Event) -> Event {
    if let What::Seen(sighting) = &mut first.what {
        sighting.cpu = None;
    }
    first
}

/// Whether an interpreter runs in the process and has got as far as to have threads.
fn interprets(pid: Pid) -> bool {
    let described = Target::discover(pid).ok().zip(ProcessMemory::open(pid).ok());
    described.is_some_and(|(target, memory)| target.has_begun(&memory))
}

/// What gives names to the stacks that the probe notes; `None` when stacks are not wanted or not readable, or the target has
/// just ended.
fn resolver(target: &Target, options: RecordOptions) -> Option<Resolver> {
    let memory = options.rate.and_then(|_| ProcessMemory::open(target.pid).ok())?;
    Resolver::new(target, Box::new(memory))
}
