//! One hold, and what is left of it when it is over: a line in the account of the stack that was seen most often during it,
//! and an entry of its own if it was long.
//!
//! Invariant: the tallies of all stacks and that of the holds which nobody saw sum to the lock's holds, held time,
//! contended time, forced releases, and what was counted of its owners.

use rustc_hash::FxHashMap;

use crate::{
    ledger::{giving_way::Request, windows::Extent},
    model::{
        counts::Counts,
        ids::{LockId, Tid},
        profile::{HoldSite, HoldTally, LongHold},
        stack::StackId,
        time::{MonoNanos, Nanos},
    },
};

/// A hold that is going on.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) tid: Tid,
    pub(super) began: MonoNanos,
    pub(super) extent: Extent,
    /// Whether a waiter has asked the owner to give way.
    pub(super) request: Request,
    /// Waiting charged to this hold so far.
    pub(super) waited: Nanos,
    /// The part of it during which anybody waited.
    pub(super) contended: Nanos,
    /// Threads that waited at some time during it.
    pub(super) waiters: u32,
    /// What was counted of its owner so far.
    pub(super) counts: Counts,
    /// Stacks seen during it.
    pub(super) seen: Sightings,
    /// The stack that a waiter read last.
    pub(super) last_read: Option<StackId>,
    /// Since when, in time that the lock was held.
    pub(super) read_at: Nanos,
    /// The stack at its end, if it was read.
    pub(super) at_release: Option<StackId>,
}

impl Hold {
    /// A hold that begins while `waiters` threads wait.
    pub(super) fn new(tid: Tid, began: MonoNanos, waiters: usize) -> Self {
        Self {
            tid,
            began,
            extent: Extent::Whole,
            request: Request::None,
            waited: Nanos::ZERO,
            contended: Nanos::ZERO,
            waiters: u32::try_from(waiters).unwrap_or(u32::MAX),
            counts: Counts::default(),
            seen: Sightings::default(),
            last_read: None,
            read_at: Nanos::ZERO,
            at_release: None,
        }
    }

    /// The stack seen most often during the hold; that of its release, a moment the owner chose, only where none was.
    pub(super) fn usual_stack(&self) -> Option<StackId> {
        self.seen.most_frequent().or(self.at_release)
    }
}

/// Stacks seen during one hold. Most holds see none, which costs nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Sightings {
    by_stack: FxHashMap<StackId, Sighted>,
    count: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sighted {
    times: u64,
    last: u64,
}

impl Sightings {
    /// `stack` was seen, later than all before.
    pub(super) fn add(&mut self, stack: StackId) {
        self.count += 1;
        let sighted = self.by_stack.entry(stack).or_default();
        *sighted = Sighted { times: sighted.times + 1, last: self.count };
    }

    /// The one seen last among those seen most often.
    fn most_frequent(&self) -> Option<StackId> {
        let usual = self.by_stack.iter().max_by_key(|(_, sighted)| (sighted.times, sighted.last));
        usual.map(|(stack, _)| *stack)
    }
}

/// The holds of one lock that are over, by stack.
#[derive(Debug, Clone, Default)]
pub(super) struct HoldBook {
    seen: FxHashMap<StackId, HoldTally>,
    /// Those during which no stack was seen.
    pub(super) unseen: HoldTally,
}

/// Stacks with an account of their own; holds of others count as unseen.
const MOST_STACKS: usize = 1 << 16;

impl HoldBook {
    /// Files a hold that has ended; returns the stack it was filed under.
    pub(super) fn file(&mut self, hold: &Hold, length: Nanos) -> Option<StackId> {
        let stack = hold.usual_stack();
        let tally = self.tally(stack);
        tally.holds += u64::from(hold.extent == Extent::Whole);
        tally.held += length;
        tally.contended += hold.contended;
        tally.longest = tally.longest.max(length);
        tally.counts.add_all(&hold.counts);
        stack
    }

    /// The release of a hold filed under `stack` has turned out to be forced.
    pub(super) fn count_forced(&mut self, stack: Option<StackId>) {
        self.tally(stack).forced += 1;
    }

    fn tally(&mut self, stack: Option<StackId>) -> &mut HoldTally {
        let full = self.seen.len() >= MOST_STACKS;
        match stack.filter(|stack| !full || self.seen.contains_key(stack)) {
            Some(stack) => self.seen.entry(stack).or_default(),
            None => &mut self.unseen,
        }
    }

    /// Every stack's account, in an order that does not depend on hashing.
    pub(super) fn sites(&self, lock: LockId) -> Vec<HoldSite> {
        let site = |(stack, tally): (&StackId, &HoldTally)| HoldSite { lock, stack: *stack, tally: *tally };
        let mut sites: Vec<HoldSite> = self.seen.iter().map(site).collect();
        sites.sort_unstable_by_key(|site| site.stack);
        sites
    }
}

/// The longest holds, at most a fixed number of them.
#[derive(Debug, Clone, Default)]
pub(super) struct LongHolds(Vec<LongHold>);

/// How many long holds a profile lists.
const LISTED: usize = 100;

impl LongHolds {
    /// Whether a long hold of this length would be listed.
    pub(super) fn admits(&self, length: Nanos) -> bool {
        self.0.len() < LISTED || self.0.last().is_some_and(|last| length > last.duration)
    }

    pub(super) fn enter(&mut self, hold: LongHold) {
        let position = self.0.partition_point(|other| other.duration >= hold.duration);
        self.0.insert(position, hold);
        self.0.truncate(LISTED);
    }

    pub(super) fn into_list(self) -> Vec<LongHold> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Hold, HoldBook, MOST_STACKS};
    use crate::model::{
        ids::{LockId, Tid},
        stack::{Frame, StackId, StackTable},
        time::{MonoNanos, Nanos},
    };

    fn stacks(count: usize) -> Vec<StackId> {
        let mut table = StackTable::default();
        (0..count).map(|index| table.intern(&[Frame::marker(&index.to_string())])).collect()
    }

    fn hold(seen: &[StackId], at_release: Option<StackId>) -> Hold {
        let mut hold = Hold::new(Tid::from_raw(1).unwrap(), MonoNanos::from_monotonic(0), 0);
        seen.iter().for_each(|stack| hold.seen.add(*stack));
        Hold { at_release, ..hold }
    }

    #[test]
    fn the_stack_seen_most_often_stands_for_a_hold_and_the_later_of_two() {
        let [a, b, c] = stacks(3)[..] else { unreachable!() };
        for (seen, at_release, expected) in [
            (&[a, b, a][..], Some(c), Some(a)),
            (&[a, b], Some(c), Some(b)),
            (&[b, a], None, Some(a)),
            (&[b, a, b, a, c], None, Some(a)),
            (&[], Some(c), Some(c)),
            (&[], None, None),
        ] {
            assert_eq!(hold(seen, at_release).usual_stack(), expected, "{seen:?}");
        }
    }

    #[test]
    fn a_full_book_counts_further_stacks_as_unseen() {
        let mut book = HoldBook::default();
        for (length, stack) in (1..).zip(stacks(MOST_STACKS + 5)) {
            let filed = book.file(&hold(&[stack], None), Nanos::from_nanos(length));
            book.count_forced(filed);
        }
        let sites = book.sites(LockId::from_index(0));
        assert_eq!(sites.len(), MOST_STACKS);
        assert!(sites.iter().all(|site| (site.tally.holds, site.tally.forced) == (1, 1)));
        let longest = u64::try_from(MOST_STACKS + 5).unwrap();
        assert_eq!((book.unseen.holds, book.unseen.forced, book.unseen.longest.as_nanos()), (5, 5, longest));
    }
}
