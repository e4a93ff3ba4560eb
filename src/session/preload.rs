//! Launching with the in-target probe: lock events from the probe, scheduling from perf events, no privileges.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    ledger::LockStart,
    model::{
        event::{Event, SeenCpu, What},
        ids::Pid,
        profile::Backend,
        recorded::RecordedStack,
        time::MonoNanos,
    },
    perf::{clock, error::PerfError},
    session::{
        error::SessionError,
        finder::LiveLocks,
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
        calls::Translator,
        preload::Prepared,
        renumber::Renumbered,
        scheduler::{SchedulerSource, Scope},
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
    scheduler: Result<SchedulerSource, PerfError>,
    programs: Option<LoadedPrograms>,
    child: Pid,
    started: MonoNanos,
    claimed_since: Option<Instant>,
    next_look: Instant,
}

/// Between two looks at a child that has not claimed the probe; each costs some milliseconds.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// An interpreter that has loaded the probe can be described within milliseconds; if not by then, never.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes the probe, and has `program` load it.
pub(super) fn prepare(program: &mut Program) -> Result<Prepared, SessionError> {
    let prepared = Prepared::new()?;
    let own = std::env::var_os("LD_PRELOAD");
    program.environment.extend(prepared.environment(own.as_deref()));
    program.inherit.extend(prepared.inherited_fds().iter().map(std::os::fd::AsRawFd::as_raw_fd));
    Ok(prepared)
}

impl PreloadWatch {
    /// Watches the held child's scheduling, from before its first instruction.
    pub(super) fn before_start(prepared: Prepared, child: Pid, options: RecordOptions) -> Self {
        // Where they are not permitted, stacks are sampled in other ways.
        let programs = options.rate.and_then(|_| LoadedPrograms::load().ok());
        let scheduler = SchedulerSource::open(child, Scope::BeforeExec);
        Self {
            prepared,
            scheduler,
            programs,
            child,
            started: clock::now(),
            claimed_since: None,
            next_look: Instant::now(),
        }
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

    pub(super) fn begin(self, target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
        let (mut start, mut scheduler, mut cpu) = (self.started, self.scheduler, SeenCpu::Asleep);
        if target.pid != self.child {
            // A wrapper has started the interpreter: it is watched from now on.
            scheduler = SchedulerSource::open(target.pid, Scope::Running);
            (start, cpu) = (clock::now(), SeenCpu::Runnable);
        }
        let translator = Rc::new(RefCell::new(Translator::new(Some(Box::new(LiveLocks::of(&target)?)))));
        let calls = Rc::clone(&translator);
        let mut source =
            self.prepared.into_source(target.pid, Box::new(move |call, out| calls.borrow_mut().translate(call, out)));
        let stacks = SharedStacks::default();
        let mut wait_stacks = WaitStacks::Read;
        if let Some(resolver) = resolver(&target, options) {
            let mut namer = Namer::new(resolver, Rc::clone(&stacks), None);
            let on_stack = Box::new(move |stack: &RecordedStack| namer.name(stack));
            source.note_stacks(&target.runtime, Rc::clone(&translator), on_stack);
            wait_stacks = WaitStacks::Brought;
        }
        let mut notes = Vec::new();
        let joiner = Joiner::wanted(&target, options.frames, &mut notes);
        let mut running = RunningThreads::Ours;
        let unwatched = scheduler.is_err();
        let mut scheduling = None;
        match scheduler {
            Ok(scheduler) => {
                let reading = StackReading { rate: options.rate, stacks: &stacks, joiner: joiner.as_ref() };
                let sampling =
                    Sampling::of((&target, &translator), (Box::new(scheduler), self.programs), reading, &mut notes);
                running = sampling.running;
                scheduling = Some(sampling.source);
            }
            Err(error) => notes.push(format!("no scheduler evidence: {error}; running and blocked are unknown")),
        }
        let numbers = none_known();
        let sources = if numbering(target.pid) == Numbering::Foreign {
            let source = Renumbered::new(target.pid, Box::new(source), scheduling, Rc::clone(&numbers));
            vec![Box::new(source) as Box<dyn Source>]
        } else {
            [Box::new(source) as Box<dyn Source>].into_iter().chain(scheduling).collect()
        };
        let (backend, lock_start) = (Backend::Preload, LockStart::Free);
        let first = first_thread(target.pid.main_thread(), start, cpu, lock_start);
        let first = if unwatched { without_cpu(first) } else { first };
        let beginning = Beginning {
            target,
            translator,
            stacks,
            joiner,
            readings: Readings { waits: wait_stacks, running },
            sources,
            numbers,
            backend,
            start,
            lock_start,
            notes,
        };
        let mut recording = Recording::begin(beginning, options);
        recording.engine().add([first]);
        Ok(recording)
    }
}

/// The same sighting, where no switch will tell how long the thread goes on sleeping.
fn without_cpu(mut seen: Event) -> Event {
    if let What::Seen(sighting) = &mut seen.what {
        sighting.cpu = None;
    }
    seen
}

/// Whether an interpreter runs in the process and has got as far as to have threads.
fn interprets(pid: Pid) -> bool {
    let described = Target::discover(pid).ok().zip(ProcessMemory::open(pid).ok());
    described.is_some_and(|(target, memory)| target.threads(&memory).is_ok_and(|threads| !threads.is_empty()))
}

/// What gives names to the stacks that the probe notes; `None` when stacks are not wanted or not readable, or the target has
/// just ended.
fn resolver(target: &Target, options: RecordOptions) -> Option<Resolver> {
    let memory = options.rate.and_then(|_| ProcessMemory::open(target.pid).ok())?;
    Resolver::new(target, Box::new(memory))
}
