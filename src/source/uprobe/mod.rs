//! Lock events through kernel uprobes: on libc's condition variable calls, or on the toy VM's own probes.
//!
//! The probes are defined in tracefs and opened as tracepoints. (Opened through the kernel's uprobe PMU they could not be
//! inherited: the copy for a new thread reads the path from the target's memory, and `clone` fails in the target.) One
//! stream carries hits and switches, so this source stands on [`crate::source::scheduler`]. What a libc call
//! means for a lock is not decided here. Invariant: when the source is gone, so are its probes, whatever ended it.

pub mod cost;
pub mod error;
pub mod group;
pub mod sweep;
pub mod tracefs;

use std::{fmt, io};

use crate::{
    model::{
        event::Event,
        ids::{Pid, Tid},
        time::{MonoNanos, Nanos},
    },
    perf::{
        events::CountedEvent,
        limits::RingSize,
        stream::{Probe, Record},
    },
    source::{
        Pausing, Source, Tally,
        calls::{Call, StepReport, Verdict},
        scheduler::{SchedulerSource, Scope},
        uprobe::{error::UprobeError, group::ProbeGroup, sweep::Sweeper, tracefs::Tracefs},
    },
    target::site::{Site, SiteMeaning},
};

/// Turns a libc call into events. Calls come in order of time.
pub type OnCall = Box<dyn FnMut(Call, &mut Vec<Event>) -> Verdict>;

/// Turns a step that the runtime itself reports, with the lock's address, into events.
pub type OnStep = Box<dyn FnMut(StepReport, &mut Vec<Event>) -> Verdict>;

/// What to probe, and whom to tell.
pub struct UprobeOptions {
    /// The target.
    pub pid: Pid,
    /// How far it has come.
    pub scope: Scope,
    /// Where to put probes; more can follow by [`UprobeSource::add_sites`].
    pub sites: Vec<Site>,
    /// What is counted of threads from one lock event to the next.
    pub events: &'static [CountedEvent],
    /// Told of every hit of a [`SiteMeaning::Libc`].
    pub on_call: OnCall,
    /// Told of every hit of a [`SiteMeaning::Step`].
    pub on_step: OnStep,
    /// What removes the probes when we are killed.
    pub sweeper: Sweeper,
    /// What [`cost::measure_cost`] found, if it was asked.
    pub cost_per_event: Option<Nanos>,
}

/// Lock events and scheduling of one process.
#[derive(Debug)]
pub struct UprobeSource {
    // Before the group: a probe cannot be removed while an event is open on it.
    scheduler: SchedulerSource,
    group: ProbeGroup,
    probes: Vec<Probe>,
    /// Whether none of them are watched for now.
    is_paused: bool,
    hits: Hits,
}

impl UprobeSource {
    /// Defines the probes and begins to watch.
    pub fn arm(options: UprobeOptions) -> Result<Self, UprobeError> {
        let UprobeOptions { pid, scope, sites, events, on_call, on_step, sweeper, cost_per_event } = options;
        let mut group = ProbeGroup::create(Tracefs::find()?, &sweeper)?;
        let probes = define(&mut group, &sites, 0)?;
        let opened = SchedulerSource::with_locks(pid, scope, &probes, events, RingSize::Large);
        let scheduler = opened.map_err(|why| UprobeError::from_perf(why, &probes, &sites))?;
        let meanings = sites.iter().map(|site| site.meaning).collect();
        let tally = Tally { cost_per_event, cost_of_stacks: Some(Nanos::ZERO), ..Tally::default() };
        let hits = Hits { meanings, on_call, on_step, tally };
        Ok(Self { scheduler, group, probes, is_paused: false, hits })
    }

    /// Probes more places, such as the libc of the program that the target has meanwhile executed; while it takes no lock events,
    /// from when it takes them again.
    pub fn add_sites(&mut self, sites: &[Site]) -> Result<(), UprobeError> {
        let probes = define(&mut self.group, sites, self.hits.meanings.len())?;
        self.hits.meanings.extend(sites.iter().map(|site| site.meaning));
        if !self.is_paused {
            self.scheduler.add_probes(&probes).map_err(|why| UprobeError::from_perf(why, &probes, sites))?;
        }
        self.probes.extend(probes);
        Ok(())
    }

    /// The name of the group under which the kernel lists our probes.
    pub fn probe_group(&self) -> &str {
        self.group.name()
    }

    /// When the process last executed a new program since watching began.
    pub fn executed(&self) -> Option<MonoNanos> {
        self.scheduler.executed()
    }
}

impl Source for UprobeSource {
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos {
        let Self { scheduler, hits, .. } = self;
        scheduler.drain_with(now, &mut |record, out| hits.on_record(record, out), out)
    }

    fn beside(&self) -> Option<&dyn Source> {
        Some(&self.scheduler)
    }

    fn beside_mut(&mut self) -> Option<&mut dyn Source> {
        Some(&mut self.scheduler)
    }

    fn pause(&mut self) -> Pausing {
        self.scheduler.remove_probes();
        self.is_paused = true;
        Pausing::Paused
    }

    fn resume(&mut self, _waited: &[Tid]) -> io::Result<()> {
        if std::mem::replace(&mut self.is_paused, false) {
            self.scheduler.add_probes(&self.probes).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        let Self { scheduler, hits, .. } = self;
        scheduler.finish_with(&mut |record, out| hits.on_record(record, out), out);
        self.group.remove();
    }

    fn tally(&self) -> Tally {
        let beside = self.scheduler.tally();
        let unmatched = self.hits.tally.unmatched + beside.unmatched;
        let Tally { cost_of_faults, cost_of_event, .. } = beside;
        Tally { unmatched, cost_of_faults, cost_of_event, ..self.hits.tally }
    }
}

/// Who is told of hits, and how many there were.
struct Hits {
    meanings: Vec<SiteMeaning>,
    on_call: OnCall,
    on_step: OnStep,
    tally: Tally,
}

impl Hits {
    fn on_record(&mut self, record: &Record, out: &mut Vec<Event>) {
        self.tally.lost += record.body.lost();
        if let Some(number) = record.probe {
            self.on_hit(number, record, out);
        }
    }

    fn on_hit(&mut self, number: usize, record: &Record, out: &mut Vec<Event>) {
        self.tally.lock_events += 1;
        // A foreign condition variable is no fault; a hit without its argument is.
        if self.tell(number, record, out).is_none() {
            self.tally.unmatched += 1;
        }
    }

    /// `None` when the hit cannot be told of: it came without its argument.
    fn tell(&mut self, number: usize, record: &Record, out: &mut Vec<Event>) -> Option<Verdict> {
        let argument = record.body.argument()?;
        let Record { at, tid, .. } = *record;
        Some(match *self.meanings.get(number)? {
            SiteMeaning::Libc(function) => (self.on_call)(Call { at, tid, function, cond: argument }, out),
            SiteMeaning::Step(step) => (self.on_step)(StepReport { at, tid, lock: argument, step }, out),
        })
    }
}

impl fmt::Debug for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hits").field("meanings", &self.meanings).field("tally", &self.tally).finish_non_exhaustive()
    }
}

impl fmt::Debug for UprobeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UprobeOptions").field("pid", &self.pid).field("sites", &self.sites).finish_non_exhaustive()
    }
}

/// Defines `sites`, numbered from `first`.
fn define(group: &mut ProbeGroup, sites: &[Site], first: usize) -> Result<Vec<Probe>, UprobeError> {
    let tracepoints = group.define(sites)?;
    let numbered = sites.iter().zip(tracepoints).enumerate();
    let probe = |(index, (site, tracepoint)): (usize, (&Site, u64))| Probe {
        number: first + index,
        tracepoint,
        register: site.argument.perf_number(),
    };
    Ok(numbered.map(probe).collect())
}
