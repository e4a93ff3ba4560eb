//! Lock events and stacks through programs that run in the kernel, at uprobes and at the ticks of a clock.
//!
//! One link serves all threads, those to come included, and costs nothing when it ends. What a libc call means for a lock is
//! decided by the shared translator, as with every source; the programs only leave out what it calls foreign, and read
//! the stacks of threads that begin to wait, that release a contended lock, or that a tick finds running. Invariant: when
//! the source is gone, so is everything it has put into the kernel, whatever ended it.

mod arming;
pub(crate) mod config;
pub mod cost;
mod counters;
pub mod error;
mod hits;
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
        ring::Ring,
    },
    model::{
        counts::Counters,
        event::{Event, What},
        ids::{Pid, Tid},
        machine::MachineState,
        recorded::RecordedStack,
        stack::StackId,
        time::MonoNanos,
    },
    perf::{event_clock::EventClock, sampling::Taken},
    source::{
        Pausing, Source, Tally,
        bpf::{
            error::BpfSourceError,
            machine::MachineStates,
            metering::Metering,
            newcomers::Newcomers,
            programs::Programs,
            record::{Decoder, Hit},
            thread_events::ThreadEvents,
        },
        calls::SharedTranslator,
        parking::ParkReader,
        sampling::{EventRefused, LateStacks, OnEvent},
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
    fn account_for_more(&mut self) {
        if self.metering.is_some() {
            self.tally.cost_of_switches = self.programs.spent_at_switches().unwrap_or(self.tally.cost_of_switches);
        }
        if self.events.is_some() {
            self.tally.cost_of_event = self.programs.spent_on_event().unwrap_or(self.tally.cost_of_event);
        }
    }
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
        self.account_for_more();
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
        let lost_cpu = self.programs.lost_cpu();
        self.metering.iter_mut().for_each(|metering| metering.end(lost_cpu));
        let mut taken = Vec::new();
        self.events.iter_mut().for_each(|(events, _)| events.stop());
        self.programs.stop(&mut taken);
        self.machine.add(taken);
        self.tally.cost_of_stacks = self.programs.spent().ok();
        self.account_for_more();
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
