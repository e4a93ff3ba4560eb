//! Whose holding made others wait: each wait's time charged to the owners it overlapped and to the owners' stacks.
//!
//! A holder's stack is read at moments that do not depend on the holder. The time between two such readings in one hold
//! belongs half to each, what lies before the first or after the last to that one; see `docs/method.md`.
//!
//! Invariant: all entries together sum to exactly the nanoseconds charged, and those of a pair of threads to what was
//! charged to that pair. The book has a largest size: past it the smallest charges are summed up, first over waiters,
//! then over holders; nothing is dropped.

use rustc_hash::FxHashMap;

use crate::{
    ledger::{apportion::apportion, lock::Waiter, thread::Samples},
    model::{
        ids::{LockId, Tid},
        profile::Blame,
        stack::StackId,
        time::Nanos,
    },
};

/// Pairs kept apart: 64 threads can all wait for each other.
const MOST_PAIRS: usize = 4096;
/// Stacks kept apart by pair; past that every pair has the stacks of its holder, whoever waited.
const MOST_SAMPLES: usize = 1 << 16;
/// Waiters that are named one by one; of a greater crowd only long holds tell whom they kept waiting.
pub(super) const CROWD: usize = 32;
/// Holds that are charged to each waiter, however many there are.
pub(super) const LONG: Nanos = Nanos::from_millis(1);

/// Who waited for which lock because of whom; `None` stands for all threads that are not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Pair {
    pub(super) lock: LockId,
    pub(super) waiter: Option<Tid>,
    pub(super) holder: Option<Tid>,
}

/// All blame so far.
#[derive(Debug, Clone)]
pub(super) struct BlameBook {
    pairs: FxHashMap<Pair, Charged>,
    /// Stacks of a holder while anybody waited, for pairs without a sample of their own; `None`: of all holders that are
    /// not named.
    contended: FxHashMap<(LockId, Option<Tid>), Samples>,
    /// How many stacks `pairs` has; `None` when they became too many and none are kept there any more.
    samples: Option<usize>,
}

#[derive(Debug, Clone, Default)]
struct Charged {
    time: Nanos,
    /// Nanoseconds by the readings of the holder's stack that they lie next to.
    near: Samples,
    /// Ticks, for holders whose stack nobody has read so.
    ticks: Samples,
    /// Stacks at the ends of holds, weighted by their lengths, for pairs with neither.
    at_release: Samples,
}

/// The readings of the holder's stack before and after a stretch of its hold.
pub(super) type Between = [Option<StackId>; 2];

impl Charged {
    fn absorb(&mut self, other: Self) {
        self.time += other.time;
        add(&mut self.near, other.near);
        add(&mut self.ticks, other.ticks);
        add(&mut self.at_release, other.at_release);
    }

    fn stacks(&self) -> usize {
        self.near.len() + self.ticks.len() + self.at_release.len()
    }
}

impl Pair {
    /// Both threads by name.
    pub(super) fn of(lock: LockId, waiter: Tid, holder: Tid) -> Self {
        Self { lock, waiter: Some(waiter), holder: Some(holder) }
    }

    fn any_waiter(self) -> Self {
        Self { waiter: None, ..self }
    }

    fn anybody(self) -> Self {
        Self { waiter: None, holder: None, ..self }
    }
}

impl Default for BlameBook {
    fn default() -> Self {
        Self { pairs: FxHashMap::default(), contended: FxHashMap::default(), samples: Some(0) }
    }
}

impl BlameBook {
    /// Charges `time` of a wait to the owner that it overlapped.
    pub(super) fn charge(&mut self, pair: Pair, time: Nanos) {
        if time > Nanos::ZERO {
            self.pairs.entry(pair).or_default().time += time;
            self.shrink();
        }
    }

    /// Charges a holder with all `waits`, each a thread and its time, `between` two readings of its stack.
    pub(super) fn charge_all(
        &mut self,
        (lock, holder): (LockId, Tid),
        waits: impl ExactSizeIterator<Item = (Tid, Nanos)>,
        between: Between,
    ) {
        let crowded = waits.len() > CROWD;
        let mut crumbs = Nanos::ZERO;
        for (waiter, time) in waits {
            if crowded && time < LONG {
                crumbs += time;
            } else {
                self.charge_between(Pair::of(lock, waiter, holder), time, between);
            }
        }
        self.charge_between(Pair { lock, waiter: None, holder: Some(holder) }, crumbs, between);
    }

    /// Half of the time is near the last reading, half near the next; all of it if there is only one.
    fn charge_between(&mut self, pair: Pair, time: Nanos, between: Between) {
        let nanos = time.as_nanos();
        let parts = match between {
            [Some(last), Some(next)] => [Some((last, nanos / 2)), Some((next, nanos - nanos / 2))],
            [only, None] | [None, only] => [only.map(|only| (only, nanos)), None],
        };
        for (stack, part) in parts.into_iter().flatten().filter(|(_, part)| *part > 0) {
            self.add_stack(pair, |charged| &mut charged.near, (stack, part));
        }
        self.charge(pair, time);
    }

    /// What is known of a pair's time by readings of the holder's stack.
    #[cfg(test)]
    pub(super) fn near(&self, pair: Pair) -> Samples {
        self.pairs.get(&pair).map(|charged| charged.near.clone()).unwrap_or_default()
    }

    /// The holder's stack was `stack` while these threads waited.
    pub(super) fn sample(&mut self, lock: LockId, holder: Tid, waiters: &[Waiter], stack: StackId) {
        if waiters.is_empty() {
            return;
        }
        let weight = u64::try_from(waiters.len()).unwrap_or(u64::MAX);
        *self.contended.entry((lock, Some(holder))).or_default().entry(stack).or_default() += weight;
        if waiters.len() <= CROWD {
            for waiter in waiters {
                self.add_stack(Pair::of(lock, waiter.tid, holder), |charged| &mut charged.ticks, (stack, 1));
            }
        }
        self.shrink();
    }

    /// The holder's stack was `stack` at the end of a hold of this length, while these threads waited.
    pub(super) fn release(&mut self, (lock, holder): (LockId, Tid), waiters: &[Waiter], stack: StackId, length: Nanos) {
        if waiters.len() <= CROWD {
            for waiter in waiters {
                let weighted = (stack, length.as_nanos());
                self.add_stack(Pair::of(lock, waiter.tid, holder), |charged| &mut charged.at_release, weighted);
            }
        }
        self.shrink();
    }

    /// The entries, largest first. `fallback` gives a holder's stacks when none was sampled while others waited.
    pub(super) fn into_entries(self, fallback: impl Fn(Option<Tid>) -> Samples) -> Vec<Blame> {
        let mut entries = Vec::new();
        for (pair, charged) in self.pairs {
            let of_holder = |holder| self.contended.get(&(pair.lock, holder)).cloned();
            let of_pair = [Some(charged.near), Some(charged.ticks), Some(charged.at_release)];
            let stacks = of_pair.into_iter().chain([of_holder(pair.holder), of_holder(None)]);
            let stacks = stacks.flatten().find(|stacks| stacks.values().any(|weight| *weight > 0));
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

    fn add_stack(&mut self, pair: Pair, kind: fn(&mut Charged) -> &mut Samples, (stack, weight): (StackId, u64)) {
        if self.samples.is_none() {
            return;
        }
        let sum = kind(self.pairs.entry(pair).or_default()).entry(stack).or_default();
        *sum += weight;
        if *sum == weight {
            self.samples = self.samples.map(|samples| samples + 1).filter(|samples| *samples <= MOST_SAMPLES);
        }
        if self.samples.is_none() {
            // Samples of some pairs and not of others would be worse than those of all holders.
            for charged in self.pairs.values_mut() {
                (charged.near, charged.ticks) = (Samples::default(), Samples::default());
            }
        }
    }

    /// Keeps the book below its largest size; each time room is made for many entries, so that it costs little for each.
    fn shrink(&mut self) {
        if self.pairs.len() > MOST_PAIRS {
            self.sum_up(Pair::any_waiter);
            if self.pairs.len() > MOST_PAIRS / 4 * 3 {
                self.sum_up(Pair::anybody);
            }
        }
        if self.contended.len() > MOST_PAIRS {
            self.sum_up_stacks();
        }
    }

    /// Names only the larger half; the others go to what `wider` makes of them.
    fn sum_up(&mut self, wider: impl Fn(Pair) -> Pair) {
        let mut pairs: Vec<_> = self.pairs.drain().collect();
        pairs.sort_unstable_by_key(|(pair, charged)| (std::cmp::Reverse(charged.time), *pair));
        let rest = pairs.split_off(pairs.len().min(MOST_PAIRS / 2));
        self.pairs.extend(pairs);
        for (pair, charged) in rest {
            self.pairs.entry(wider(pair)).or_default().absorb(charged);
        }
        self.samples = self.samples.map(|_| self.pairs.values().map(Charged::stacks).sum());
    }

    fn sum_up_stacks(&mut self) {
        let mut holders: Vec<_> = self.contended.drain().collect();
        holders.sort_unstable_by_key(|(key, stacks)| (std::cmp::Reverse(stacks.values().sum::<u64>()), *key));
        let rest = holders.split_off(holders.len().min(MOST_PAIRS / 2));
        self.contended.extend(holders);
        for ((lock, _), stacks) in rest {
            add(self.contended.entry((lock, None)).or_default(), stacks);
        }
    }
}

fn add(sum: &mut Samples, samples: Samples) {
    for (stack, weight) in samples {
        *sum.entry(stack).or_default() += weight;
    }
}

/// Samples in an order that does not depend on hashing.
pub(super) fn sorted(samples: Samples) -> Vec<(StackId, u64)> {
    let mut samples: Vec<_> = samples.into_iter().collect();
    samples.sort_unstable();
    samples
}

#[cfg(test)]
mod tests {
    use super::{BlameBook, CROWD, LONG, MOST_PAIRS, MOST_SAMPLES, Pair};
    use crate::{
        ledger::{lock::LockAccount, lock::Owner, thread::Samples},
        model::{
            ids::{LockId, Tid},
            profile::Blame,
            stack::{Frame, StackId, StackTable},
            time::{MonoNanos, Nanos},
        },
    };

    const LOCK: LockId = LockId::from_index(0);

    fn tid(raw: i32) -> Tid {
        Tid::from_raw(raw).unwrap()
    }

    fn stacks(count: usize) -> Vec<StackId> {
        let mut table = StackTable::default();
        (0..count).map(|index| table.intern(&[Frame::marker(&index.to_string())])).collect()
    }

    fn entries(book: BlameBook, no_stack: StackId) -> Vec<Blame> {
        book.into_entries(|_| Samples::from_iter([(no_stack, 1)]))
    }

    #[test]
    fn a_full_book_sums_up_the_smallest_and_drops_nothing() {
        let mut book = BlameBook::default();
        let threads = 300;
        let mut charged = Nanos::ZERO;
        for (nanos, pair) in (1..).zip((1..=threads).flat_map(|a| (1..=threads).map(move |b| (a, b)))) {
            book.charge(Pair::of(LOCK, tid(pair.0), tid(pair.1)), Nanos::from_nanos(nanos));
            charged += Nanos::from_nanos(nanos);
            assert!(book.pairs.len() <= MOST_PAIRS);
        }
        let entries = entries(book, stacks(1)[0]);
        assert_eq!(entries.iter().map(|entry| entry.wait).sum::<Nanos>(), charged);
        let named = entries.iter().filter(|entry| entry.waiter.is_some());
        assert!(named.clone().count() >= MOST_PAIRS / 4);
        assert!(named.map(|entry| entry.wait).min() > Some(Nanos::from_nanos(80_000)), "the largest are named");
        assert!(entries.iter().any(|entry| entry.waiter.is_none() && entry.holder.is_some()));
    }

    #[test]
    fn a_crowd_is_named_only_by_long_holds() {
        let mut book = BlameBook::default();
        let crowd = 1..i32::try_from(CROWD).unwrap() + 2;
        for time in [Nanos::from_nanos(10), LONG] {
            let waits: Vec<_> = crowd.clone().map(|raw| (tid(raw), time)).collect();
            book.charge_all((LOCK, tid(1000)), waits.into_iter(), [None, None]);
        }
        let entries = entries(book, stacks(1)[0]);
        let (unnamed, named): (Vec<&Blame>, Vec<&Blame>) = entries.iter().partition(|entry| entry.waiter.is_none());
        assert_eq!((named.len(), named[0].wait), (CROWD + 1, LONG));
        assert_eq!((unnamed.len(), unnamed[0].wait), (1, Nanos::from_nanos(10).times(CROWD + 1)));
    }

    #[test]
    fn too_many_stacks_are_told_apart_by_holder_only() {
        let mut account = LockAccount::new(LOCK, "GIL".to_owned(), None, Owner::Free, MonoNanos::from_monotonic(0));
        (1..=16).for_each(|raw| account.add_waiter(tid(raw)));
        let (mut book, stacks) = (BlameBook::default(), stacks(MOST_SAMPLES / 16 + 1));
        book.charge(Pair::of(LOCK, tid(1), tid(99)), Nanos::from_millis(1000));
        for stack in &stacks {
            book.sample(LOCK, tid(99), &account.waiters, *stack);
        }
        assert!(book.pairs.values().all(|charged| charged.stacks() == 0));
        assert_eq!(entries(book, stacks[0]).len(), stacks.len());
    }
}
