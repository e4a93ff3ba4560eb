//! Kernel uprobes, on a program that is launched or on one that is running.

use std::{cell::RefCell, rc::Rc};

use crate::{
    ledger::LockStart,
    model::{
        event::{Event, LostEvents, SeenCpu, What},
        family::Reach,
        ids::{LockId, Pid, Tid},
        profile::Backend,
        quality::SchedulerRung,
        time::{MonoNanos, Nanos},
    },
    perf::{clock, events::CountedEvent},
    session::{
        chosen::Chosen,
        error::SessionError,
        family::Household,
        finder::{LiveLocks, park_reader},
        joiner::Joiner,
        ladder::Rung,
        numbers::none_known,
        options::RecordOptions,
        recording::{Beginning, Recording, first_thread},
        running::{StackReading, causes, read_moments},
        sampler::{Readings, RunningThreads},
        stacks::{SharedStacks, WaitStacks},
    },
    source::{
        Source,
        bpf::BpfSource,
        calls::{SharedTranslator, Translator},
        kin::{KinStream, SharedKin},
        scheduler::{SchedulerSource, Scope},
        uprobe::{UprobeOptions, UprobeSource, cost::measure_cost, sweep::Sweeper},
    },
    target::{
        discover::Target, libc::CondLibrary, lock::LockSeat, memory::ProcessMemory, sighting::SeenThread, site::Site,
    },
};

/// The two ways to take events from uprobes.
#[derive(Debug)]
enum LockProbes {
    Programs(Box<BpfSource>),
    Tracepoints(Box<UprobeSource>),
}

/// By which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    /// Programs in the kernel.
    Programs,
    /// Tracepoints that report every hit.
    Tracepoints,
}

impl Means {
    fn rung(self) -> Rung {
        match self {
            Self::Programs => Rung::Programs,
            Self::Tracepoints => Rung::Tracepoints,
        }
    }
}

/// Uprobes armed on the libc that a launched program will most likely map.
#[derive(Debug)]
pub(super) struct UprobeWatch {
    probes: LockProbes,
    means: Means,
    armed: CondLibrary,
    translator: SharedTranslator,
    child: Pid,
    /// There when other processes are recorded, too.
    kin: Option<SharedKin>,
    started: MonoNanos,
    looks: u32,
}

/// Looks at the child after which it is looked at more rarely: it takes its time, or is no interpreter.
const EAGER_LOOKS: u32 = 200;

impl UprobeWatch {
    /// Arms the probes on the held child.
    pub(super) fn before_start(child: Pid, means: Means, options: RecordOptions) -> Result<Self, SessionError> {
        let kin = match options.reach {
            Reach::Root => None,
            Reach::Descendants => Some(KinStream::open(child, Vec::new())?.shared()),
        };
        let armed = CondLibrary::of_self()?;
        let translator = Rc::new(RefCell::new(Translator::new(None)));
        let place = (child, Scope::BeforeExec, kin.as_ref());
        let probes = LockProbes::arm(place, armed.sites.clone(), &translator, (means, options.counters))?;
        Ok(Self { probes, means, armed, translator, child, kin, started: clock::now(), looks: 0 })
    }

    /// The target, once the child has become an interpreter and has mapped its C library.
    pub(super) fn look(&mut self) -> Option<Target> {
        self.looks += 1;
        let due = self.looks < EAGER_LOOKS || self.looks.is_multiple_of(20);
        let target = due.then(|| Target::discover(self.child).ok()).flatten()?;
        // The dynamic linker may still be at work: whether it maps the libc that is armed cannot be told before.
        let linked = self.looks >= EAGER_LOOKS || CondLibrary::of_process(self.child).is_ok();
        linked.then_some(target)
    }

    pub(super) fn begin(
        mut self,
        target: Target,
        options: RecordOptions,
    ) -> Result<(Recording, Option<Household>), SessionError> {
        let mut notes = Vec::new();
        let (mut lock_start, mut missed) = (LockStart::Free, None);
        if self.armed.is_mapped_by(target.pid) == Some(false) {
            let library = CondLibrary::of_process(target.pid)?;
            let armed_at = clock::now();
            self.probes.add_sites(&library.sites)?;
            notes.push("the program maps another libc than gilscope: its first milliseconds are missing".to_owned());
            lock_start = LockStart::Unknown;
            missed = Some(missing_before(armed_at, target.pid.main_thread()));
        }
        self.translator.borrow_mut().find_with(Box::new(LiveLocks::of(&target)?));
        let stacks = SharedStacks::default();
        let joiner = Joiner::wanted(&target, options.frames, &mut notes);
        let reading = StackReading { rate: options.rate, stacks: &stacks, joiner: joiner.as_ref() };
        let (source, running) = self.probes.into_source(&target, reading, &mut notes)?;
        // Whatever happened since the probes were armed is newer than what is seen, and wins.
        let seen = match &missed {
            Some(_) => target.sightings(&ProcessMemory::open(target.pid)?, &numbered_seats(&self.translator)),
            None => Vec::new(),
        };
        let seen_at = clock::now();
        let first = first_thread(target.pid.main_thread(), self.started, SeenCpu::Asleep, lock_start);
        let beginning = Beginning {
            target,
            translator: self.translator,
            stacks,
            joiner,
            readings: Readings { waits: WaitStacks::Read, running },
            sources: vec![source],
            numbers: none_known(),
            backend: Backend::Uprobe,
            scheduler: SchedulerRung::Records,
            looks: None,
            start: self.started,
            lock_start,
            notes,
        };
        let mut recording = Recording::begin(beginning, options);
        recording.engine().add([first].into_iter().chain(missed).chain(as_events(seen, seen_at)));
        let rung = self.means.rung();
        let household = self.kin.map(|kin| Household::with_rung(rung, kin, (self.child, options), &recording));
        Ok((recording, household))
    }
}

/// Lock events are missing until probes were armed on the libc that the program maps; how many is not known.
fn missing_before(armed: MonoNanos, tid: Tid) -> Event {
    Event { at: armed, tid, what: What::LostLock(LostEvents { count: 0 }) }
}

/// Arms uprobes on a running target, sees what each of its threads is doing, and begins to record.
pub(super) fn attach(
    target: Target,
    options: RecordOptions,
    (means, kin): (Means, Option<&SharedKin>),
) -> Result<Recording, SessionError> {
    let memory = ProcessMemory::open(target.pid)?;
    let translator = Rc::new(RefCell::new(Translator::new(Some(Box::new(LiveLocks::of(&target)?)))));
    let place = (target.pid, Scope::Running, kin);
    let probes = LockProbes::arm(place, target.sites()?, &translator, (means, options.counters))?;
    let mut notes = Vec::new();
    translator.borrow_mut().find_with(Box::new(LiveLocks::of(&target)?));
    let seats = numbered_seats(&translator);
    let seen = target.sightings(&memory, &seats);
    let free = seats.iter().filter(|(_, seat)| seat.read(&memory).is_ok_and(|words| !words.locked));
    let free: Vec<LockId> = free.map(|(id, _)| *id).collect();
    let stacks = SharedStacks::default();
    let joiner = Joiner::wanted(&target, options.frames, &mut notes);
    let reading = StackReading { rate: options.rate, stacks: &stacks, joiner: joiner.as_ref() };
    let (source, running) = probes.into_source(&target, reading, &mut notes)?;
    let start = clock::now();
    let beginning = Beginning {
        target,
        translator,
        stacks,
        joiner,
        readings: Readings { waits: WaitStacks::Read, running },
        sources: vec![source],
        numbers: none_known(),
        backend: Backend::Uprobe,
        scheduler: SchedulerRung::Records,
        looks: None,
        start,
        lock_start: LockStart::Unknown,
        notes,
    };
    let mut recording = Recording::begin(beginning, options);
    let engine = recording.engine();
    // Whatever happened since the probes were armed is newer than what was seen, and wins.
    engine.add(as_events(seen, start));
    engine.catch_up(start.later_by(Nanos::from_nanos(1)));
    free.into_iter().for_each(|lock| engine.seed_free(lock));
    Ok(recording)
}

pub(super) fn numbered_seats(translator: &SharedTranslator) -> Vec<(LockId, LockSeat)> {
    (0..).map(LockId::from_index).zip(translator.borrow().seats().iter().cloned()).collect()
}

pub(super) fn as_events(seen: Vec<SeenThread>, at: MonoNanos) -> impl Iterator<Item = Event> {
    seen.into_iter().flat_map(move |seen| {
        let named = What::Named(seen.name.into_boxed_str());
        [What::Seen(seen.sighting), named].map(|what| Event { at, tid: seen.tid, what })
    })
}

impl LockProbes {
    fn arm(
        (pid, scope, kin): (Pid, Scope, Option<&SharedKin>),
        sites: Vec<Site>,
        translator: &SharedTranslator,
        (means, counters): (Means, Chosen),
    ) -> Result<Self, SessionError> {
        let scheduler = || match kin {
            Some(kin) => SchedulerSource::of_kin(Rc::clone(kin), pid, scope),
            None => SchedulerSource::open(pid, scope),
        };
        Ok(match means {
            Means::Programs => {
                let source = BpfSource::arm_beside((pid, counters.events), scheduler, &sites, Rc::clone(translator));
                Self::Programs(Box::new(source.map_err(SessionError::Programs)?))
            }
            Means::Tracepoints => {
                Self::Tracepoints(Box::new(arm_tracepoints((pid, scope), sites, counters.events, translator)?))
            }
        })
    }

    fn add_sites(&mut self, sites: &[Site]) -> Result<(), SessionError> {
        match self {
            Self::Programs(source) => source.add_sites(sites).map_err(SessionError::Programs),
            Self::Tracepoints(source) => Ok(source.add_sites(sites)?),
        }
    }

    /// The source, reading stacks by itself if it can and is to.
    fn into_source(
        self,
        target: &Target,
        reading: StackReading<'_>,
        notes: &mut Vec<String>,
    ) -> Result<(Box<dyn Source>, RunningThreads), SessionError> {
        let mut source = match self {
            Self::Programs(source) => source,
            Self::Tracepoints(source) => return Ok((source, RunningThreads::Ours)),
        };
        let running = read_moments(&mut source, target, reading, notes);
        if let Some(parks) = park_reader(target) {
            let watched = source.watch_sleeps(target, &CondLibrary::sleeps_of(target.pid), parks);
            // All the rest is known without them.
            notes.extend(watched.err().map(|why| format!("no probes where parked threads sleep: {}", causes(&why))));
        }
        Ok((source, running))
    }
}

fn arm_tracepoints(
    (pid, scope): (Pid, Scope),
    sites: Vec<Site>,
    events: &'static [CountedEvent],
    translator: &SharedTranslator,
) -> Result<UprobeSource, SessionError> {
    let sweeper = Sweeper::this_program();
    let (calls, steps) = (Rc::clone(translator), Rc::clone(translator));
    Ok(UprobeSource::arm(UprobeOptions {
        pid,
        scope,
        sites,
        events,
        on_call: Box::new(move |call, out| calls.borrow_mut().translate(call, out)),
        on_step: Box::new(move |step, out| steps.borrow_mut().report_step(step, out)),
        cost_per_event: measure_cost(&sweeper, events).ok(),
        sweeper,
    })?)
}
