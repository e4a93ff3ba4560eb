//! Counters of every CPU, where the programs in the kernel read them.
//!
//! Those of the processor are one group on each CPU: they count together or not at all, and one of them says how long.

use std::os::fd::AsRawFd;

use perf_event::Counter;

use crate::{
    bpf::map::{Existing, Map},
    model::time::{MonoNanos, Nanos},
    perf::{
        clock,
        events::CountedEvent,
        limits::{allow_more_files, online_cpus},
    },
    source::bpf::error::BpfSourceError,
};

/// In the programs' map the counters of one event lie side by side, each event's so far from the next one's.
const MOST_CPUS: u32 = 512;

/// Counters that count whatever runs on their CPUs.
#[derive(Debug)]
pub(super) struct Counters {
    open: Vec<OfCpu>,
    count: usize,
    leader: Option<usize>,
    cpus: Vec<u32>,
}

#[derive(Debug)]
struct OfCpu {
    cpu: u32,
    opened: MonoNanos,
    /// One of each event, in their order.
    counters: Vec<Counter>,
}

/// For so long the clock of a counter may lag behind those of other CPUs: more than it takes to read them all.
const LAG: Nanos = Nanos::from_millis(5);

impl Counters {
    /// Opens one of each event on every CPU, and puts it into the programs' map.
    pub(super) fn open(events: &[CountedEvent], map: &Map) -> Result<Self, BpfSourceError> {
        let cpus = online_cpus()?;
        allow_more_files(cpus.len() * events.len())?;
        let leader = events.iter().position(|event| !event.is_of_the_kernel());
        // On others the programs find no counter, and say so. All are opened before any is in the map, which would keep it open.
        let each = cpus.iter().filter(|cpu| **cpu < MOST_CPUS).map(|cpu| of_cpu(events, *cpu));
        let open = each.collect::<Result<Vec<_>, BpfSourceError>>()?;
        for OfCpu { cpu, counters, .. } in &open {
            for (first, counter) in (0..).step_by(MOST_CPUS as usize).zip(counters) {
                let (key, value) = ((first + cpu).to_ne_bytes(), counter.as_raw_fd().to_ne_bytes());
                map.set(&key, &value, Existing::Replace)?;
            }
        }
        Ok(Self { open, count: events.len(), leader, cpus })
    }

    /// A CPU that has been offline since: its counters have not come back with it.
    pub(super) fn lost_cpu(&mut self) -> Option<u32> {
        let first = self.open.first()?.opened;
        // All by the same clock, which goes while a CPU is online.
        let clock = |of: &mut OfCpu| {
            let enabled = of.counters.first_mut()?.read_full().ok()?.time_enabled()?;
            let enabled = Nanos::from_nanos(u64::try_from(enabled.as_nanos()).ok()?);
            Some((of.cpu, enabled + of.opened.saturating_since(first)))
        };
        let clocks: Vec<(u32, Nanos)> = self.open.iter_mut().filter_map(clock).collect();
        let most = clocks.iter().map(|(_, clock)| *clock).max()?;
        clocks.into_iter().find(|(_, clock)| *clock + LAG < most).map(|(cpu, _)| cpu)
    }

    /// How many events there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The event that says how long those of the processor count; `None` without any.
    pub(super) fn leader(&self) -> Option<usize> {
        self.leader
    }

    /// The CPUs that have them.
    pub(super) fn cpus(&self) -> &[u32] {
        &self.cpus
    }
}

fn of_cpu(events: &[CountedEvent], cpu: u32) -> Result<OfCpu, BpfSourceError> {
    let mut counters: Vec<Counter> = Vec::new();
    let mut leader = None;
    for event in events {
        let first = leader.and_then(|leader: usize| counters.get_mut(leader));
        let opened = event.count_cpu(cpu, first.filter(|_| !event.is_of_the_kernel()));
        let refused = |source| BpfSourceError::Counter { name: event.name.clone(), cpu, source };
        if leader.is_none() && !event.is_of_the_kernel() {
            leader = Some(counters.len());
        }
        counters.push(opened.map_err(refused)?);
    }
    Ok(OfCpu { cpu, opened: clock::now(), counters })
}
