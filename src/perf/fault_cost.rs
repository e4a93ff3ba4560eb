//! What a page fault costs, measured on this machine and this very process.

use std::{sync::OnceLock, time::Instant};

use memmap2::{Advice, MmapMut};

use crate::model::time::Nanos;

const PAGE: usize = 4096;
/// Touches a batch; the fastest batch counts, since nothing makes one too fast.
const PAGES: usize = 128;
const BATCHES: usize = 5;

/// The time that the first touch of a page of memory takes, the page being empty and small; `None` when there is no memory to
/// try it on. It takes a millisecond once.
pub fn fault_cost() -> Option<Nanos> {
    static COST: OnceLock<Option<Nanos>> = OnceLock::new();
    *COST.get_or_init(|| (0..BATCHES).filter_map(|_| batch()).min())
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
    use super::fault_cost;

    #[test]
    fn a_page_fault_costs_something() {
        assert!(fault_cost().is_some_and(|cost| cost.as_nanos() > 0));
    }
}
