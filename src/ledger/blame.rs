//! Whose holding made others wait: each wait's time charged to the owners it overlapped and to the owners' stacks.
//!
//! Invariant: the entries made of a pair of threads sum to exactly the nanoseconds charged to that pair.

use rustc_hash::FxHashMap;

use crate::{
    ledger::{apportion::apportion, thread::Samples},
    model::{
        ids::{LockId, Tid},
        profile::Blame,
        stack::StackId,
        time::Nanos,
    },
};

/// Who waited for which lock because of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pair {
    pub(super) lock: LockId,
    pub(super) waiter: Tid,
    pub(super) holder: Tid,
}

/// All blame so far.
#[derive(Debug, Default)]
pub(super) struct BlameBook {
    pairs: FxHashMap<Pair, Charged>,
    /// Stacks of a holder while anybody waited, for pairs without a sample of their own.
    contended: FxHashMap<(LockId, Tid), Samples>,
}

#[derive(Debug, Default)]
struct Charged {
    time: Nanos,
    stacks: Samples,
    /// Stacks at the ends of holds, weighted by their lengths, for pairs without a tick.
    at_release: Samples,
}

impl BlameBook {
    /// Charges `time` of a wait to the owner that it overlapped.
    pub(super) fn charge(&mut self, pair: Pair, time: Nanos) {
        if time > Nanos::ZERO {
            self.pairs.entry(pair).or_default().time += time;
        }
    }

    /// The holder's stack was `stack` while these threads waited.
    pub(super) fn sample(&mut self, lock: LockId, holder: Tid, waiters: &[Tid], stack: StackId) {
        for waiter in waiters {
            let pair = Pair { lock, waiter: *waiter, holder };
            *self.pairs.entry(pair).or_default().stacks.entry(stack).or_default() += 1;
            *self.contended.entry((lock, holder)).or_default().entry(stack).or_default() += 1;
        }
    }

    /// The holder's stack was `stack` at the end of a hold of this length, while these threads waited.
    pub(super) fn release(&mut self, (lock, holder): (LockId, Tid), waiters: &[Tid], stack: StackId, length: Nanos) {
        for waiter in waiters {
            let pair = Pair { lock, waiter: *waiter, holder };
            *self.pairs.entry(pair).or_default().at_release.entry(stack).or_default() += length.as_nanos();
        }
    }

    /// The entries, largest first. `fallback` gives a holder's stacks when none was sampled while others waited.
    pub(super) fn into_entries(self, fallback: impl Fn(Tid) -> Samples) -> Vec<Blame> {
        let mut entries = Vec::new();
        for (pair, charged) in self.pairs {
            let of_pair = [Some(charged.stacks), Some(charged.at_release)];
            let stacks = of_pair.into_iter().chain([self.contended.get(&(pair.lock, pair.holder)).cloned()]);
            let stacks = stacks.flatten().find(|stacks| !stacks.is_empty());
            let stacks = sorted(stacks.unwrap_or_else(|| fallback(pair.holder)));
            let weights: Vec<u64> = stacks.iter().map(|(_, weight)| *weight).collect();
            let parts = stacks.iter().zip(apportion(charged.time, &weights));
            let Pair { lock, waiter, holder } = pair;
            entries.extend(parts.map(|((stack, _), wait)| Blame { lock, waiter, holder, wait, stack: *stack }));
        }
        entries.retain(|entry| entry.wait > Nanos::ZERO);
        entries.sort_by_key(|e| (std::cmp::Reverse(e.wait), e.lock, e.waiter, e.holder, e.stack));
        entries
    }
}

/// Samples in an order that does not depend on hashing.
pub(super) fn sorted(samples: Samples) -> Vec<(StackId, u64)> {
    let mut samples: Vec<_> = samples.into_iter().collect();
    samples.sort_unstable();
    samples
}
