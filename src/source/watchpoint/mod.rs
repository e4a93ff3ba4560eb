//! Lock events from the processor: it tells of every write to the words of a lock.
//!
//! Exact on every build, stripped or static, without symbols and without privileges; and dear: each write costs microseconds,
//! tens of them where a hypervisor has a hand in it. A processor can watch four words of a thread. One lock takes three of
//! them; of several locks two can be watched, with two words each, and those left out are told of. The same stream carries
//! the scheduling. Invariant: nothing is put into the target or the kernel that outlives this process's descriptors.

pub mod choice;
pub mod cost;
pub mod error;
pub mod instruction;
mod watch;
pub mod writes;

use std::io;

use crate::{
    model::{
        event::Event,
        ids::{LockId, Pid, Tid},
        time::{MonoNanos, Nanos},
    },
    perf::{error::PerfError, events::CountedEvent, limits::RingSize, stream::Record},
    source::{
        Pausing, Source, Tally,
        calls::{FindLocks, SharedTranslator},
        scheduler::{OnSample, SchedulerSource, Scheduling, Scope},
        watchpoint::{cost::measure_cost, error::WatchpointError, watch::Watch},
    },
    target::{lock::LockSeat, memory::Memory, sighting::SeenThread},
};

/// Lock events and scheduling of one process.
#[derive(Debug)]
pub struct WatchpointSource {
    scheduler: SchedulerSource,
    pid: Pid,
    watch: Option<Watch>,
    tally: Tally,
}

/// Looks at what every thread of the program is doing, with respect to these locks.
pub type LookAtThreads = Box<dyn FnMut(&[(LockId, LockSeat)]) -> Vec<SeenThread>>;

/// What is to be known of the program whose locks are watched.
pub struct WatchedProgram {
    /// Finds its locks, those to come included.
    pub finder: Box<dyn FindLocks>,
    /// Its memory, for the instructions that write to locks.
    pub memory: Box<dyn Memory>,
    /// Asked whenever the watched locks have changed.
    pub look_at_threads: LookAtThreads,
    /// Told of every lock that is watched.
    pub translator: SharedTranslator,
}

impl WatchpointSource {
    /// Watches the scheduling of `pid`, having measured what a write will cost. Writes will be told of with what `events` have
    /// counted of their threads, if that can be.
    pub fn open(pid: Pid, scope: Scope, events: &'static [CountedEvent]) -> Result<Self, WatchpointError> {
        if !cfg!(target_arch = "x86_64") {
            return Err(WatchpointError::OtherProcessor);
        }
        let cost_per_event = Some(measure_cost(events)?);
        let scheduler = SchedulerSource::with_locks(pid, scope, &[], events, RingSize::Ordinary)?;
        let tally = Tally { cost_per_event, cost_of_stacks: Some(Nanos::ZERO), ..Tally::default() };
        Ok(Self { scheduler, pid, watch: None, tally })
    }

    /// From now on watches the words of the program's locks.
    pub fn watch(&mut self, program: WatchedProgram) -> Result<(), WatchpointError> {
        self.watch = Some(Watch::begin(self.pid, program, &mut self.scheduler)?);
        Ok(())
    }

    /// What every thread is doing now with respect to the watched locks.
    pub fn see(&mut self) -> Vec<SeenThread> {
        self.watch.as_mut().map(Watch::see).unwrap_or_default()
    }
}

impl Source for WatchpointSource {
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos {
        let Self { scheduler, watch, tally, .. } = self;
        let on_record = &mut |record: &Record, out: &mut Vec<Event>| {
            tally.lost += record.body.lost();
            tally.lock_events += watch.as_mut().map_or(0, |watch| watch.on_record(record, out));
        };
        let watermark = scheduler.drain_with(now, on_record, out);
        if let Some(watch) = watch {
            watch.look(now, scheduler, out);
        }
        watermark
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        let Self { scheduler, watch, tally, .. } = self;
        let on_record = &mut |record: &Record, out: &mut Vec<Event>| {
            tally.lost += record.body.lost();
            tally.lock_events += watch.as_mut().map_or(0, |watch| watch.on_record(record, out));
        };
        scheduler.finish_with(on_record, out);
    }

    fn beside(&self) -> Option<&dyn Source> {
        Some(&self.scheduler)
    }

    fn beside_mut(&mut self) -> Option<&mut dyn Source> {
        Some(&mut self.scheduler)
    }

    fn pause(&mut self) -> Pausing {
        let Self { scheduler, watch, .. } = self;
        watch.as_mut().map_or(Pausing::Unable, |watch| watch.pause(scheduler))
    }

    fn resume(&mut self, _waited: &[Tid]) -> io::Result<()> {
        let Self { scheduler, watch, .. } = self;
        watch.as_mut().map_or(Ok(()), |watch| watch.resume(scheduler)).map_err(io::Error::other)
    }

    fn tally(&self) -> Tally {
        let untold = self.watch.as_ref().map_or(0, Watch::unmatched);
        let beside = self.scheduler.tally();
        let Tally { cost_of_faults, cost_of_event, .. } = beside;
        Tally { unmatched: beside.unmatched + untold, cost_of_faults, cost_of_event, ..self.tally }
    }

    fn remarks(&self) -> Vec<String> {
        let dear = self.tally.cost_per_event.map(|cost| {
            format!(
                "each write to the lock's words costs the thread that makes it {cost} here: a program that takes its lock often \
                 runs slower than it does alone"
            )
        });
        let beside = self.scheduler.remarks().into_iter().chain(self.watch.iter().flat_map(Watch::remarks));
        dear.into_iter().chain(beside).collect()
    }
}

impl Scheduling for WatchpointSource {
    fn sample(&mut self, period: Nanos, on_sample: OnSample) -> Result<(), PerfError> {
        self.scheduler.sample(period, on_sample)
    }
}

impl std::fmt::Debug for WatchedProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchedProgram").field("translator", &self.translator).finish_non_exhaustive()
    }
}
