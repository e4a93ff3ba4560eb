//! Threads that have ended: some thousand that lived longest one by one, the others summed up by name.
//!
//! Invariant: every sum over threads is the same as if all had been kept; only who spent the time is told less finely.

use rustc_hash::FxHashMap;

use crate::{
    ledger::{close::ClosedThread, thread::Samples},
    model::{
        ids::{LockId, Tid},
        profile::{StackTime, ThreadProfile},
        stack::StackId,
        state::State,
        time::Nanos,
    },
};

/// Ended threads kept one by one; when there are more, the half that lived shortest is summed up.
const MOST_KEPT: usize = 5000;
/// Names under which others are summed up.
const MOST_NAMES: usize = 64;

/// The accounts of all threads that have ended.
#[derive(Debug, Clone, Default)]
pub(super) struct EndedThreads {
    kept: Vec<ClosedThread>,
    sums: FxHashMap<Box<str>, Sum>,
}

#[derive(Debug, Clone)]
struct Sum {
    threads: u64,
    /// Its stacks are kept below instead.
    profile: ThreadProfile,
    stacks: FxHashMap<(State, Option<LockId>, StackId), Nanos>,
}

impl EndedThreads {
    /// Enters a thread that has ended.
    pub(super) fn enter(&mut self, thread: ClosedThread) {
        self.kept.push(thread);
        if self.kept.len() > MOST_KEPT {
            self.kept.sort_by_key(|thread| std::cmp::Reverse(thread.profile.lifetime));
            let short_lived = self.kept.split_off(MOST_KEPT / 2);
            short_lived.into_iter().for_each(|thread| self.sum_up(thread.profile));
        }
    }

    /// Enters a thread by itself: one that was alive at the end.
    pub(super) fn keep(&mut self, thread: ClosedThread) {
        self.kept.push(thread);
    }

    /// How long all of them lived.
    pub(super) fn lifetimes(&self) -> Nanos {
        self.profiles().map(|thread| thread.lifetime).sum()
    }

    /// How long all of them were in `state`.
    pub(super) fn time_in(&self, state: State) -> Nanos {
        self.profiles().map(|thread| thread.states.get(state)).sum()
    }

    fn profiles(&self) -> impl Iterator<Item = &ThreadProfile> {
        self.kept.iter().map(|thread| &thread.profile).chain(self.sums.values().map(|sum| &sum.profile))
    }

    /// The stacks of each thread inside a lock, where any were sampled.
    pub(super) fn held_stacks(&self) -> FxHashMap<Tid, Samples> {
        let sampled = self.kept.iter().filter(|thread| !thread.held.is_empty());
        sampled.map(|thread| (thread.profile.tid, thread.held.clone())).collect()
    }

    /// All entries, by first sight.
    pub(super) fn into_profiles(self) -> Vec<ThreadProfile> {
        let mut profiles: Vec<_> = self.kept.into_iter().map(|thread| thread.profile).collect();
        profiles.extend(self.sums.into_iter().map(|(name, sum)| sum.into_profile(&name)));
        profiles.sort_by_key(|thread| (thread.first_seen, thread.tid));
        profiles
    }

    fn sum_up(&mut self, thread: ThreadProfile) {
        let mut name = pattern(&thread.name);
        if self.sums.len() >= MOST_NAMES && !self.sums.contains_key(&name) {
            name = "*".into();
        }
        match self.sums.get_mut(&name) {
            Some(sum) => sum.add(thread),
            None => drop(self.sums.insert(name, Sum::of(thread))),
        }
    }
}

impl Sum {
    fn of(mut thread: ThreadProfile) -> Self {
        let stacks = std::mem::take(&mut thread.stacks);
        let stacks = stacks.into_iter().map(|part| ((part.state, part.lock, part.stack), part.time)).collect();
        Self { threads: 1, profile: thread, stacks }
    }

    fn add(&mut self, thread: ThreadProfile) {
        let sum = &mut self.profile;
        self.threads += 1;
        sum.lifetime += thread.lifetime;
        sum.holds += thread.holds;
        sum.waits += thread.waits;
        sum.forced_releases += thread.forced_releases;
        thread.states.iter().for_each(|(state, time)| sum.states.add(state, time));
        sum.undivided.inside += thread.undivided.inside;
        sum.undivided.outside += thread.undivided.outside;
        sum.counts = [sum.counts, thread.counts].into_iter().sum();
        for part in thread.stacks {
            *self.stacks.entry((part.state, part.lock, part.stack)).or_default() += part.time;
        }
    }

    fn into_profile(self, name: &str) -> ThreadProfile {
        let mut stacks: Vec<_> = self
            .stacks
            .into_iter()
            .map(|((state, lock, stack), time)| StackTime { state, lock, stack, time })
            .collect();
        stacks.sort_unstable_by_key(|part| (part.state, part.lock, part.stack));
        ThreadProfile { name: format!("{} ended threads '{name}'", self.threads), stacks, ..self.profile }
    }
}

/// The name with every number in it replaced: threads are often numbered.
fn pattern(name: &str) -> Box<str> {
    let mut pattern = String::with_capacity(name.len());
    for character in name.chars() {
        let shown = if character.is_ascii_digit() { '#' } else { character };
        if shown != '#' || !pattern.ends_with('#') {
            pattern.push(shown);
        }
    }
    pattern.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::{MOST_KEPT, MOST_NAMES, pattern};
    use crate::{
        ledger::{Attribution, GivingWayLimits, Ledger, LedgerOptions, LockStart},
        model::{
            event::{Event, LockStep, What},
            ids::{LockId, Tid},
            stack::{Frame, StackTable},
            time::{MonoNanos, Nanos},
        },
    };

    const THREADS: i32 = 20_000;
    const LIFE: u64 = 100;

    /// ```text
    /// each thread:   created   wants      acquired        released, ends
    ///                0         10         50 or later     100
    /// the one before it holds until 50 of this time line
    /// ```
    fn churn(name: impl Fn(i32) -> String) -> Attribution {
        let no_stack = StackTable::default().intern(&[Frame::marker("no stack read")]);
        let mut ledger = Ledger::new(LedgerOptions {
            start: MonoNanos::from_monotonic(0),
            long_hold: Nanos::from_millis(10),
            giving_way: GivingWayLimits {
                computing: Nanos::from_nanos(60),
                step: Nanos::from_nanos(60),
                mutex_sleep: Nanos::from_nanos(60),
            },
            no_stack,
        });
        let lock = LockId::from_index(0);
        ledger.declare_lock(lock, "GIL", None, LockStart::Free);
        let first = Tid::from_raw(THREADS + 1).unwrap();
        ledger.apply(&Event { at: MonoNanos::from_monotonic(0), tid: first, what: What::Created });
        let mut events = Vec::new();
        for (thread, birth) in (1..=THREADS).zip((0..).step_by(50)) {
            let steps = [
                (0, What::Created),
                (0, What::Named(name(thread).into())),
                (0, What::SwitchedIn),
                (10, What::Lock(lock, LockStep::Want)),
                (50, What::Lock(lock, LockStep::Acquired)),
                (LIFE, What::Lock(lock, LockStep::Released)),
                (LIFE, What::Exited),
            ];
            let tid = Tid::from_raw(thread).unwrap();
            events.extend(steps.map(|(at, what)| Event { at: MonoNanos::from_monotonic(birth + at), tid, what }));
        }
        // At one moment a release comes before the acquisition that it makes possible.
        events.sort_by_key(|event| (event.at, event.what == What::Lock(lock, LockStep::Acquired)));
        events.iter().for_each(|event| ledger.apply(event));
        let end = ledger.now();
        ledger.apply(&Event { at: end, tid: first, what: What::Exited });
        ledger.finish(end)
    }

    fn assert_nothing_is_missing(result: &Attribution) {
        let threads = u64::try_from(THREADS).unwrap();
        assert_eq!(result.invariants_broken, Vec::<String>::new());
        assert_eq!(result.tally.unmatched, 0);
        assert_eq!(result.threads.iter().map(|thread| thread.holds).sum::<u64>(), threads);
        let lifetimes: Nanos = result.threads.iter().map(|thread| thread.lifetime).sum();
        assert_eq!(lifetimes, Nanos::from_nanos(threads * LIFE + (threads - 1) * 50 + LIFE));
        assert!(
            result.threads.iter().any(|thread| thread.tid.raw() == THREADS + 1),
            "the longest life is told by itself"
        );
        let blame: Nanos = result.blame.iter().map(|entry| entry.wait).sum();
        assert_eq!((blame, result.locks[0].blamed), (Nanos::from_nanos((threads - 1) * 40), blame));
    }

    #[test]
    fn twenty_thousand_threads_are_summed_up_by_name() {
        let result = churn(|thread| format!("worker-{thread}"));
        assert_nothing_is_missing(&result);
        let sum = result.threads.iter().find(|thread| thread.name.ends_with("ended threads 'worker-#'")).unwrap();
        let summed = u64::try_from(20_001 - (result.threads.len() - 1)).unwrap();
        assert!((15_000..=17_500).contains(&summed), "{summed}");
        assert_eq!((sum.holds, sum.lifetime), (summed, Nanos::from_nanos(summed * LIFE)));
        assert_eq!(sum.name, format!("{summed} ended threads 'worker-#'"));
        assert!(result.blame.len() < 5000, "{}", result.blame.len());
    }

    #[test]
    fn threads_that_all_have_different_names_are_summed_up_too() {
        let letter = |index: i32| char::from(b'a' + u8::try_from(index % 26).unwrap());
        let result = churn(|thread| [thread, thread / 26, thread / 676].map(letter).iter().collect());
        assert_nothing_is_missing(&result);
        assert!(result.threads.len() <= MOST_KEPT + MOST_NAMES + 1, "{}", result.threads.len());
        assert!(result.threads.iter().any(|thread| thread.name.ends_with("ended threads '*'")));
    }

    #[test]
    fn numbers_in_names_do_not_matter() {
        assert_eq!(&*pattern("Thread-12 (run3)"), "Thread-# (run#)");
        assert_eq!(&*pattern(""), "");
    }
}
