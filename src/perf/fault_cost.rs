//! What a page fault costs, measured on this machine and this very process.

use std::{sync::OnceLock, time::Instant};

use memmap2::{Advice, MmapMut};
use perf_event::Counter;

use crate::{
    model::time::Nanos,
    perf::{
        limits::RingSize,
        open::{CodeSampled, FaultKind, Subject, watch_self},
        ring::Ring,
    },
};

const PAGE: usize = 4096;
/// Touches a batch; the fastest batch counts, since nothing makes one too fast. With and without in turn: both see fast moments.
const PAGES: usize = 128;
const BATCHES: usize = 10;

/// What was measured.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    fault: Option<Nanos>,
    record: Nanos,
}

/// The time that the first touch of a page of memory takes, the page being empty and small; `None` when there is no memory to
/// try it on. It takes some milliseconds once.
pub fn fault_cost() -> Option<Nanos> {
    measured().fault
}

/// What being told of a page fault adds to it, measured together with that; nothing where nobody can be told.
pub fn record_cost() -> Nanos {
    measured().record
}

fn measured() -> Measured {
    static MEASURED: OnceLock<Measured> = OnceLock::new();
    *MEASURED.get_or_init(|| measure().unwrap_or_default())
}

fn measure() -> Option<Measured> {
    let mut event = watch_self(Subject::Faults(FaultKind::Minor, CodeSampled::Program, 1)).ok();
    let ring = event.as_ref().and_then(|event| Ring::map(event, RingSize::Ordinary.pages(1)).ok());
    let (mut without, mut with) = (None, None);
    for _ in 0..BATCHES {
        event.as_mut().map(Counter::disable).transpose().ok()?;
        without = without.into_iter().chain(batch()).min();
        event.as_mut().map(Counter::enable).transpose().ok()?;
        with = with.into_iter().chain(batch()).min();
    }
    let told = with.filter(|_| ring.is_some()).zip(without);
    Some(Measured { fault: without, record: told.map_or(Nanos::ZERO, |(with, without)| with.saturating_sub(without)) })
}

fn batch() -> Option<Nanos> {
    let mut fresh = MmapMut::map_anon(PAGES * PAGE).ok()?;
    // Where there are no huge pages this is refused, and does not matter.
    let _refused_or_done = fresh.advise(Advice::NoHugePage);
    let start = Instant::now();
    fresh.chunks_mut(PAGE).for_each(|page| page[0] = 1);
    let taken = u64::try_from(start.elapsed().as_nanos()).ok()?;
    Some(Nanos::from_nanos(taken / PAGES as u64))
}

#[cfg(test)]
mod tests {
    use super::{fault_cost, record_cost};

    #[test]
    fn a_page_fault_costs_something_and_being_told_of_it_less() {
        let fault = fault_cost().unwrap();
        assert!(fault > record_cost() && record_cost().as_nanos() < 5_000, "{fault} {}", record_cost());
    }
}
