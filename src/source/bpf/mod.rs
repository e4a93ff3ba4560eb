//! Lock events and stacks through programs that run in the kernel, at uprobes and at the ticks of a clock.
//!
//! One link serves all threads, those to come included, and costs nothing when it ends. What a libc call means for a lock is
//! decided by the shared translator, as with every source; the programs only leave out what it calls foreign, and read
//! the stacks of threads that begin to wait, that release a contended lock, or that a tick finds running. Invariant: when
//! the source is gone, so is everything it has put into the kernel, whatever ended it.

pub(crate) mod config;
pub mod cost;
mod counters;
pub mod error;
mod machine;
mod metering;
mod newcomers;
mod programs;
pub(crate) mod record;
mod thread_events;

use std::{fmt, io, num::NonZeroU32};

use crate::{
    bpf::{
        btf::KernelTypes,
        kernel::{self, Home},
        ring::{Reading, Ring},
    },
    model::{
        address::LiveAddress,
        counts::Counters,
        event::{Event, EventSample, LostEvents, ParkStep, SampleCause, StackSample, What},
        ids::{Pid, Tid},
        machine::MachineState,
        recorded::{RecordedStack, Walk},
        stack::StackId,
        time::{MonoNanos, Nanos},
    },
    perf::{
        clock, error::PerfError, event_clock::EventClock, events::CountedEvent, limits::online_cpus, sampling::Taken,
        stream::threads_of,
    },
    source::{
        Pausing, Source, Tally,
        bpf::{
            config::Config,
            error::BpfSourceError,
            machine::MachineStates,
            metering::Metering,
            newcomers::Newcomers,
            programs::Programs,
            record::{CallHit, Decoder, Hit, HitKind},
            thread_events::ThreadEvents,
        },
        calls::{Call, SharedTranslator, StepReport, Verdict},
        parking::{ParkCall, ParkReader},
        sampling::{EventRefused, LateStacks, OnEvent},
        scheduler::{SchedulerSource, Scope},
    },
    target::{
        discover::Target,
        memory::Memory,
        site::{Site, SiteMeaning, SleepSite},
    },
};

/// Turns a recorded stack and what goes with it into a stack of the table; `None` when it cannot be believed.
pub type OnMoment = Box<dyn FnMut(&RecordedStack, Beside<'_>) -> Option<StackId>>;

/// What goes with a stack.
#[derive(Debug, Clone, Copy)]
pub enum Beside<'a> {
    /// Nothing: it was read at a call.
    Nothing,
    /// What the processor was doing at that very moment; `None` where it was to be taken along and is missing.
    Machine(Option<&'a MachineState>),
}

/// How running threads are sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    /// Samples a second and thread.
    pub rate: NonZeroU32,
    /// What is taken along.
    pub taken: Taken,
}

/// Whether programs can tell whose counters they read, if they can run at all.
pub fn may_read_counters() -> bool {
    kernel::check().is_ok_and(Home::is_first) && KernelTypes::are_shown()
}

/// How often a record that is being written is waited for; its writer may have lost its CPU.
const PATIENCE: usize = 20;

/// Lock events, stacks and scheduling of one process.
pub struct BpfSource {
    // Before the programs that run at them.
    events: Option<(ThreadEvents, LateStacks)>,
    programs: Programs,
    ring: Ring,
    scheduler: Box<dyn Source>,
    pid: Pid,
    translator: SharedTranslator,
    on_stack: OnMoment,
    decoder: Decoder,
    machine: MachineStates,
    /// Read, but newer than the watermark.
    pending: Vec<Hit>,
    /// Everything earlier has been read.
    read_until: MonoNanos,
    losses: u64,
    tally: Tally,
    /// Threads that ticks find; where lock events are taken, those tell of them.
    newcomers: Option<Newcomers>,
    /// Whether lock events are taken.
    takes_events: bool,
    /// There when sleeps are told of.
    parks: Option<ParkReader>,
    /// Why the event is sampled no more.
    events_ended: Option<String>,
    /// There when counters are to be read at lock events.
    metering: Option<Metering>,
}

/// Programs in the kernel that run nowhere yet.
#[derive(Debug)]
pub struct LoadedPrograms(Programs, Ring);

impl LoadedPrograms {
    /// Loads them, which takes some ten milliseconds.
    pub fn load() -> Result<Self, BpfSourceError> {
        Programs::load().map(|(programs, ring)| Self(programs, ring))
    }
}

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

    fn read_ring(&mut self, now: MonoNanos) {
        for _ in 0..PATIENCE {
            let (decoder, pending) = (&mut self.decoder, &mut self.pending);
            if self.ring.read(|bytes| pending.extend(decoder.decode(bytes))) == Reading::Complete {
                // A record's time is taken after its place in the ring: those to come are later than this reading.
                self.read_until = self.read_until.max(now);
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Losses are dated back to the last moment up to which everything had been delivered.
    fn report_losses(&mut self, since: MonoNanos, out: &mut Vec<Event>) {
        let losses = self.programs.losses().unwrap_or(self.losses);
        let new = losses.saturating_sub(self.losses);
        if new == 0 {
            return;
        }
        self.losses = losses;
        self.tally.lost += new;
        let mut counts = std::iter::once(new).chain(std::iter::repeat(0));
        for tid in threads_of(self.pid).unwrap_or_default() {
            let lost = LostEvents { count: counts.next().unwrap_or(0) };
            out.push(Event { at: since, tid, what: What::LostLock(lost) });
        }
    }

    fn deliver(&mut self, out: &mut Vec<Event>) {
        let mut taken = Vec::new();
        self.programs.take_machine_samples(&mut taken);
        self.machine.add(taken);
        self.pending.sort_by_key(|hit| hit.at);
        let ready = self.pending.partition_point(|hit| hit.at < self.read_until);
        let later = self.pending.split_off(ready);
        for hit in std::mem::replace(&mut self.pending, later) {
            let Hit { at, tid, what } = hit;
            match what {
                HitKind::Tick(stack) => self.deliver_tick((at, tid), &stack, out),
                HitKind::Holder(stack) => {
                    let stack = (self.on_stack)(&stack, Beside::Nothing);
                    out.push(stack_event((at, tid), stack, SampleCause::Contended));
                }
                HitKind::Owner(stack) => {
                    let stack = (self.on_stack)(&stack, Beside::Nothing);
                    out.push(stack_event((at, tid), stack, SampleCause::OwnerSampled));
                }
                HitKind::Event(stack, weight) => out.push(self.event_sample((at, tid), &stack, weight)),
                HitKind::Call(call) => self.deliver_call((at, tid), call, out),
                HitKind::Metered(readings) => {
                    self.metering.iter_mut().for_each(|metering| metering.on_record((at, tid), &readings, out));
                }
                HitKind::Park(park, stack) => self.deliver_park((at, tid), (park, stack), out),
            }
        }
        self.machine.forget_before(self.read_until);
        self.events.iter_mut().for_each(|(_, late)| late.forget());
    }

    fn deliver_tick(&mut self, (at, tid): (MonoNanos, Tid), stack: &RecordedStack, out: &mut Vec<Event>) {
        let unknown = stack.walk == Walk::UnknownThread;
        if unknown && self.newcomers.as_mut().is_some_and(|newcomers| newcomers.meet(tid, at)) {
            return;
        }
        let machine = self.machine.at_tick(tid, at);
        let stack = (self.on_stack)(stack, Beside::Machine(machine.as_ref()));
        out.push(stack_event((at, tid), stack, SampleCause::Tick));
    }

    fn account_for_event(&mut self) {
        if self.events.is_some() {
            self.tally.cost_of_event = self.programs.spent_on_event().unwrap_or(self.tally.cost_of_event);
        }
    }

    /// Whatever becomes of its stack, what it stands for has happened. That of a thread which the programs do not know yet is read
    /// from outside.
    fn event_sample(&mut self, (at, tid): (MonoNanos, Tid), stack: &RecordedStack, weight: u64) -> Event {
        let unknown = stack.walk == Walk::UnknownThread;
        let new = unknown && self.newcomers.as_mut().is_some_and(|newcomers| newcomers.meet(tid, at));
        let late = self.events.as_mut().filter(|_| new);
        let stack = late.map_or_else(|| (self.on_stack)(stack, Beside::Nothing), |(_, late)| late.read(tid));
        Event { at, tid, what: What::EventSample(EventSample { stack, weight }) }
    }

    /// The stack of a wait counts from the moment it began, that of a hold up to the moment it ended.
    fn deliver_call(&mut self, (at, tid): (MonoNanos, Tid), hit: CallHit, out: &mut Vec<Event>) {
        self.tally.lock_events += 1;
        // What they say is of before.
        if let (Some(metering), Some(readings)) = (&mut self.metering, &hit.readings) {
            metering.on_record((at, tid), readings, out);
        }
        // A stack that cannot be believed is left out: there are other ways to get one.
        let stack = hit.stack.and_then(|read| Some((read.cause, (self.on_stack)(&read.stack, Beside::Nothing)?)));
        let sample = |wanted| {
            let stack = stack.filter(|(cause, _)| *cause == wanted);
            stack.map(|(cause, stack)| StackSample { until: at, stack: Some(stack), cause })
        };
        let event = |sample| Event { at, tid, what: What::Stack(sample) };
        out.extend(sample(SampleCause::AtRelease).map(event));
        let verdict = self.translate((at, tid), hit.meaning, hit.argument, out);
        out.extend(sample(SampleCause::WaitBegan).map(event));
        if verdict == Verdict::Foreign {
            // If the kernel will not remember it, it is reported again, and is as foreign then.
            let _refused = self.programs.ignore(hit.argument);
        }
    }

    fn deliver_park(
        &mut self,
        (at, tid): (MonoNanos, Tid),
        (park, stack): (ParkCall, Option<RecordedStack>),
        out: &mut Vec<Event>,
    ) {
        self.tally.lock_events += 1;
        let Some(parks) = &mut self.parks else { return };
        let step = parks.read(park);
        let unknown = stack.as_ref().is_some_and(|stack| stack.walk == Walk::UnknownThread);
        if let Some(newcomers) = self.newcomers.as_mut().filter(|_| unknown) {
            newcomers.meet(tid, at);
        }
        // That of a thread whose state is not known yet says nothing.
        let stack = stack.filter(|_| !unknown);
        let stack = stack.map(|stack| ParkStep::Stack((self.on_stack)(&stack, Beside::Nothing)));
        let steps = [Some(step), stack].into_iter().flatten();
        out.extend(steps.map(|step| Event { at, tid, what: What::Park(step) }));
    }

    fn translate(
        &self,
        (at, tid): (MonoNanos, Tid),
        meaning: SiteMeaning,
        argument: LiveAddress,
        out: &mut Vec<Event>,
    ) -> Verdict {
        let mut translator = self.translator.borrow_mut();
        match meaning {
            SiteMeaning::Libc(function) => translator.translate(Call { at, tid, function, cond: argument }, out),
            SiteMeaning::Step(step) => translator.report_step(StepReport { at, tid, lock: argument, step }, out),
        }
    }
}

fn stack_event((at, tid): (MonoNanos, Tid), stack: Option<StackId>, cause: SampleCause) -> Event {
    Event { at, tid, what: What::Stack(StackSample { until: at, stack, cause }) }
}

impl Source for BpfSource {
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos {
        let before = self.read_until;
        self.read_ring(now);
        self.report_losses(before, out);
        self.deliver(out);
        let first = out.len();
        let watermark = self.scheduler.drain(now, out);
        for event in &out[first..] {
            self.metering.iter_mut().for_each(|metering| metering.on_event(event, &self.programs));
            let Event { tid, what, at } = event;
            match (what, &mut self.newcomers) {
                (What::Exited, newcomers) => {
                    newcomers.iter_mut().for_each(|newcomers| newcomers.forget(*tid));
                    // One that cannot be removed is overwritten when its number is used again.
                    drop(self.programs.forget(*tid));
                }
                (What::Created, Some(newcomers)) => drop(newcomers.meet(*tid, *at)),
                _ => {}
            }
        }
        self.tally.cost_of_stacks = self.programs.spent().ok().or(self.tally.cost_of_stacks);
        self.account_for_event();
        let _refused = self.programs.enter_locks(self.translator.borrow().seats());
        if let Some(newcomers) = &mut self.newcomers {
            newcomers.introduce(&self.programs, now);
        }
        watermark.min(self.read_until)
    }

    fn beside(&self) -> Option<&dyn Source> {
        Some(&*self.scheduler)
    }

    fn beside_mut(&mut self) -> Option<&mut dyn Source> {
        Some(&mut *self.scheduler)
    }

    fn pause(&mut self) -> Pausing {
        if !self.takes_events {
            return self.scheduler.pause();
        }
        self.programs.leave_sites();
        self.metering.iter_mut().for_each(Metering::on_gap);
        Pausing::Paused
    }

    fn resume(&mut self, waited: &[Tid]) -> io::Result<()> {
        if !self.takes_events {
            return self.scheduler.resume(waited);
        }
        self.programs.return_to_sites(waited).map_err(io::Error::other)?;
        self.programs.settle();
        Ok(())
    }

    fn settle(&mut self) {
        self.programs.settle();
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        self.programs.settle();
        let mut taken = Vec::new();
        self.events.iter_mut().for_each(|(events, _)| events.stop());
        self.programs.stop(&mut taken);
        self.machine.add(taken);
        self.tally.cost_of_stacks = self.programs.spent().ok();
        self.account_for_event();
        let before = self.read_until;
        self.read_ring(MonoNanos::from_monotonic(u64::MAX));
        self.report_losses(before, out);
        self.deliver(out);
        self.scheduler.finish(out);
    }

    fn tells_of_parks(&self) -> bool {
        self.parks.is_some()
    }

    fn tally(&self) -> Tally {
        let beside = self.scheduler.tally();
        Tally {
            lock_events: self.tally.lock_events + beside.lock_events,
            unmatched: self.decoder.malformed() + beside.unmatched,
            cost_of_faults: beside.cost_of_faults,
            cost_of_event: self.tally.cost_of_event + beside.cost_of_event,
            cost_per_event: self.tally.cost_per_event.or(beside.cost_per_event),
            ..self.tally
        }
    }

    fn remarks(&self) -> Vec<String> {
        let counters = self.metering.iter().flat_map(|metering| metering.remarks(&self.programs));
        let ended =
            self.events_ended.iter().map(|why| format!("in mid-recording the event could be sampled no more: {why}"));
        self.scheduler.remarks().into_iter().chain(counters).chain(ended).collect()
    }

    fn sample_event(&mut self, clock: EventClock, on_event: OnEvent) -> Result<(), EventRefused> {
        let reads_stacks = self.programs.knows_target().unwrap_or(false);
        if reads_stacks && clock.takes_programs() {
            match ThreadEvents::begin(&mut self.programs, self.pid, clock) {
                Ok(events) => {
                    self.events = Some((events, LateStacks::of(on_event)));
                    return Ok(());
                }
                // Where nothing else works, either, this says more.
                Err(why) => return self.scheduler.sample_event(clock, on_event).map_err(|_| why),
            }
        }
        self.scheduler.sample_event(clock, on_event)
    }

    fn slow_event(&mut self, times: u32) {
        match &mut self.events {
            Some((events, _)) => {
                self.events_ended = events.slow(&self.programs, times).err().map(|why| why.to_string())
            }
            None => self.scheduler.slow_event(times),
        }
    }

    fn counted_event(&self) -> Option<u64> {
        match &self.events {
            Some((events, _)) => events.counted().filter(|_| self.events_ended.is_none()),
            None => self.scheduler.counted_event(),
        }
    }

    fn counters(&self) -> Counters {
        let measured = self.metering.as_ref().map_or(Counters::default(), Metering::counters);
        self.scheduler.counters().with(measured)
    }
}

impl fmt::Debug for BpfSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BpfSource")
            .field("programs", &self.programs)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}
