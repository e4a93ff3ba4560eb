//! Counters of every CPU, where the programs in the kernel read them.

use std::{iter, os::fd::AsRawFd};

use perf_event::Counter;

use crate::{
    bpf::map::{Existing, Map},
    perf::{events::CountedEvent, limits::online_cpus},
    source::bpf::error::BpfSourceError,
};

/// In the programs' map the counters of one event lie side by side, each event's so far from the next one's.
const MOST_CPUS: u32 = 512;

/// Counters that count whatever runs on their CPUs.
#[derive(Debug)]
pub(super) struct Counters {
    _open: Vec<Counter>,
    count: usize,
    cpus: Vec<u32>,
}

impl Counters {
    /// Opens one of each event on every CPU, and puts it into the programs' map.
    pub(super) fn open(events: &[CountedEvent], map: &Map) -> Result<Self, BpfSourceError> {
        let cpus = online_cpus()?;
        let mut open = Vec::new();
        for ((event, first), cpu) in
            events.iter().zip((0..).step_by(MOST_CPUS as usize)).flat_map(|event| iter::repeat(event).zip(&cpus))
        {
            // The programs find no counter there, and say so.
            if *cpu >= MOST_CPUS {
                continue;
            }
            let counter = event.count_cpu(*cpu).map_err(|source| BpfSourceError::Counter {
                name: event.name.clone(),
                cpu: *cpu,
                source,
            })?;
            let (key, value) = ((first + cpu).to_ne_bytes(), counter.as_raw_fd().to_ne_bytes());
            map.set(&key, &value, Existing::Replace)?;
            open.push(counter);
        }
        Ok(Self { _open: open, count: events.len(), cpus })
    }

    /// How many events there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The CPUs that have them.
    pub(super) fn cpus(&self) -> &[u32] {
        &self.cpus
    }
}
