//! Whose holding made others wait: each wait's time charged to the owners it overlapped and to the owners' stacks.
//!
//! A holder's stack is read at moments that do not depend on the holder. The time between two such readings in one hold
//! belongs half to each, what lies before the first or after the last to that one; see `docs/method.md`.
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
    /// Part of the present hold's time that awaits the next reading of the holder's stack.
    pending: Nanos,
    /// Nanoseconds by the readings they lie next to.
    near: Samples,
    /// Ticks, for sources that do not read the holder's stack themselves.
    ticks: Samples,
}

impl BlameBook {
    /// Charges `time` of a wait to the owner that it overlaps up to now.
    pub(super) fn charge(&mut self, pair: Pair, time: Nanos) {
        if time > Nanos::ZERO {
            let charged = self.pairs.entry(pair).or_default();
            charged.time += time;
            charged.pending += time;
        }
    }

    /// Charges `time` of a wait that has only now turned out to be one, and may belong to holds that are over.
    pub(super) fn charge_late(&mut self, pair: Pair, time: Nanos) {
        if time > Nanos::ZERO {
            self.pairs.entry(pair).or_default().time += time;
        }
    }

    /// Gives what these threads have waited since the last reading in the present hold to that reading and the next; a
    /// hold's last stretch has no next one, its first no last one.
    pub(super) fn settle(&mut self, hold: (LockId, Tid), waiters: &[Tid], between: [Option<StackId>; 2]) {
        let (lock, holder) = hold;
        for waiter in waiters {
            let Some(charged) = self.pairs.get_mut(&Pair { lock, waiter: *waiter, holder }) else {
                continue;
            };
            let time = std::mem::take(&mut charged.pending).as_nanos();
            let parts = match between {
                [Some(last), Some(next)] => [Some((last, time / 2)), Some((next, time - time / 2))],
                [only, None] | [None, only] => [only.map(|only| (only, time)), None],
            };
            for (stack, part) in parts.into_iter().flatten().filter(|(_, part)| *part > 0) {
                *charged.near.entry(stack).or_default() += part;
            }
        }
    }

    /// What is known of a pair's time by readings of the holder's stack.
    #[cfg(test)]
    pub(super) fn near(&self, pair: Pair) -> Samples {
        self.pairs.get(&pair).map(|charged| charged.near.clone()).unwrap_or_default()
    }

    /// The holder's stack was `stack` while these threads waited.
    pub(super) fn sample(&mut self, lock: LockId, holder: Tid, waiters: &[Tid], stack: StackId) {
        for waiter in waiters {
            let pair = Pair { lock, waiter: *waiter, holder };
            *self.pairs.entry(pair).or_default().ticks.entry(stack).or_default() += 1;
            *self.contended.entry((lock, holder)).or_default().entry(stack).or_default() += 1;
        }
    }

    /// The entries, largest first. `fallback` gives a holder's stacks when none was sampled while others waited.
    pub(super) fn into_entries(self, fallback: impl Fn(Tid) -> Samples) -> Vec<Blame> {
        let mut entries = Vec::new();
        for (pair, charged) in self.pairs {
            let stacks =
                [Some(charged.near), Some(charged.ticks), self.contended.get(&(pair.lock, pair.holder)).cloned()];
            let stacks = stacks.into_iter().flatten().find(|stacks| !stacks.is_empty());
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
