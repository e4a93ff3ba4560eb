//! How the source comes about: on which places the programs are put, beside what they run, and what they come to know of the
//! target.
//!
//! Invariant: no stack is read before the target is known.

use crate::{
    bpf::ring::Ring,
    model::{
        ids::Pid,
        time::{MonoNanos, Nanos},
    },
    perf::{clock, error::PerfError, events::CountedEvent, limits::online_cpus, stream::threads_of},
    source::{
        Source, Tally,
        bpf::{
            BpfSource, LoadedPrograms, OnMoment, Ticks, config::Config, cost, error::BpfSourceError,
            machine::MachineStates, metering::Metering, newcomers::Newcomers, programs::Programs, record::Decoder,
        },
        calls::SharedTranslator,
        parking::ParkReader,
        scheduler::{SchedulerSource, Scope},
    },
    target::{
        discover::Target,
        memory::Memory,
        site::{Site, SleepSite},
    },
};

impl BpfSource {
    /// Puts the programs on `sites` of the process. Until the target is known they read no stacks.
    pub fn arm(pid: Pid, scope: Scope, sites: &[Site], translator: SharedTranslator) -> Result<Self, BpfSourceError> {
        Self::arm_beside((pid, &[]), || SchedulerSource::open(pid, scope), sites, translator)
    }

    /// The same with another way to watch the scheduler; `events` are counted of each thread, and read at its lock events.
    pub fn arm_beside(
        (pid, events): (Pid, &'static [CountedEvent]),
        scheduler: impl FnOnce() -> Result<SchedulerSource, PerfError>,
        sites: &[Site],
        translator: SharedTranslator,
    ) -> Result<Self, BpfSourceError> {
        let (mut programs, mut ring) = Programs::load()?;
        let metering = (!events.is_empty()).then(|| Metering::of(events, programs.measure(events, pid)));
        let cost_per_event = cost::measure(&programs, &mut ring);
        programs.watch(sites, pid)?;
        let scheduler = scheduler()?;
        let tally = Tally { cost_per_event, ..Tally::default() };
        Ok(Self { tally, metering, ..Self::new((programs, ring), (pid, Box::new(scheduler)), translator) })
    }

    /// Takes no lock events, which `scheduler` or another source does, but samples running threads beside `scheduler` once the target is
    /// known.
    pub fn beside(
        LoadedPrograms(programs, ring): LoadedPrograms,
        watched: (Pid, Box<dyn Source>),
        translator: SharedTranslator,
    ) -> Self {
        Self {
            newcomers: Some(Newcomers::default()),
            takes_events: false,
            ..Self::new((programs, ring), watched, translator)
        }
    }

    fn new(
        (programs, ring): (Programs, Ring),
        (pid, scheduler): (Pid, Box<dyn Source>),
        translator: SharedTranslator,
    ) -> Self {
        Self {
            events: None,
            programs,
            ring,
            scheduler,
            pid,
            translator,
            on_stack: Box::new(|_, _| None),
            decoder: Decoder::default(),
            machine: MachineStates::default(),
            pending: Vec::new(),
            read_until: MonoNanos::from_monotonic(0),
            losses: 0,
            tally: Tally::default(),
            newcomers: None,
            takes_events: true,
            parks: None,
            events_ended: None,
            metering: None,
        }
    }

    /// Puts the programs on more places, such as the libc of the program that the target has meanwhile executed.
    pub fn add_sites(&mut self, sites: &[Site]) -> Result<(), BpfSourceError> {
        self.programs.watch(sites, self.pid)
    }

    /// From now on tells of sleeps at `sites` that have to do with no lock of an interpreter, as `parks` reads them. The target's
    /// threads hardly ever take such a lock, so their states are looked up.
    pub fn watch_sleeps(
        &mut self,
        target: &Target,
        sites: &[SleepSite],
        parks: ParkReader,
    ) -> Result<(), BpfSourceError> {
        // Nothing is told then, which is not the same as that nobody sleeps.
        let Some(config) = Config::of(target).filter(|_| !sites.is_empty()) else { return Ok(()) };
        self.programs.watch_sleeps(sites, (target.pid, config))?;
        let newcomers = self.newcomers.get_or_insert_default();
        newcomers.look_in(target)?;
        for tid in threads_of(self.pid).unwrap_or_default() {
            newcomers.meet(tid, clock::now());
        }
        self.parks = Some(parks);
        Ok(())
    }

    /// From now on reads stacks and tells `on_stack`, and samples running threads at `ticks`. Says whether the target's
    /// stacks can be read at all.
    pub fn read_stacks(
        &mut self,
        (target, memory): (&Target, &dyn Memory),
        ticks: Ticks,
        on_stack: OnMoment,
    ) -> Result<bool, BpfSourceError> {
        let Some(config) = Config::of(target) else { return Ok(false) };
        self.programs.check_numbers(target.pid)?;
        self.on_stack = on_stack;
        self.programs.know_target(config, &target.threads(memory)?, memory)?;
        if let Some(newcomers) = &mut self.newcomers {
            newcomers.look_in(target)?;
        }
        self.programs.enter_locks(self.translator.borrow().seats())?;
        let period = Nanos::period_of(ticks.rate);
        self.programs.start_clocks(&online_cpus()?, period, ticks.taken)?;
        Ok(true)
    }
}
