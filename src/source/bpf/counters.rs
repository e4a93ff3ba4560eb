//! Counters of every CPU, where the programs in the kernel read them.
//!
//! Those of the processor are one group on each CPU: they count together or not at all, and one of them says how long.

use std::{os::fd::AsRawFd, time::Duration};

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
    /// When the first of them counted for certain.
    opened: MonoNanos,
    /// One of each event, in their order.
    counters: Vec<Counter>,
}

/// For so long the clock of a counter may have stood still: what it takes to open it, and to read it.
const LAG: Nanos = Nanos::from_millis(20);
/// That clock and ours drift apart by one part in so many at the most: NTP's own limit.
const DRIFT: u64 = 2_000;

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

    /// A CPU that has been offline since: its counters have not come back with it. Their clocks go while it is online.
    pub(super) fn lost_cpu(&mut self) -> Option<u32> {
        let lost = |of: &mut OfCpu| {
            let online = clock::now().saturating_since(of.opened);
            let enabled = of.counters.first_mut().and_then(|first| first.read_full().ok()?.time_enabled());
            let has_kept_up = enabled.is_some_and(|enabled| has_kept_up(enabled, online));
            (!has_kept_up).then_some(of.cpu)
        };
        self.open.iter_mut().find_map(lost)
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
    let (mut leader, mut first_open) = (None, None);
    for event in events {
        let first = leader.and_then(|leader: usize| counters.get_mut(leader));
        let opened = event.count_cpu(cpu, first.filter(|_| !event.is_of_the_kernel()));
        let refused = |source| BpfSourceError::Counter { name: event.name.clone(), cpu, source };
        if leader.is_none() && !event.is_of_the_kernel() {
            leader = Some(counters.len());
        }
        counters.push(opened.map_err(refused)?);
        first_open.get_or_insert_with(clock::now);
    }
    Ok(OfCpu { cpu, opened: first_open.unwrap_or_else(clock::now), counters })
}

/// Whether a counter's clock has gone all the time that it was open for at the least.
fn has_kept_up(enabled: Duration, open: Nanos) -> bool {
    let missing = u128::from(open.as_nanos()).saturating_sub(enabled.as_nanos());
    missing <= u128::from(LAG.as_nanos()) + u128::from(open.as_nanos() / DRIFT)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::has_kept_up;
    use crate::model::time::Nanos;

    #[test]
    fn a_clock_that_stood_still_is_told_from_one_that_drifts() {
        let kept_up = |enabled, open| has_kept_up(Duration::from_millis(enabled), Nanos::from_millis(open));
        // Read late, or opened early: it has gone for longer than we can say.
        assert!(kept_up(1_100, 1_000) && kept_up(0, 0));
        assert!(kept_up(985, 1_000) && !kept_up(970, 1_000));
        // An hour, at NTP's limit; and five seconds less.
        assert!(kept_up(3_598_200, 3_600_000) && !kept_up(3_595_000, 3_600_000));
    }
}
