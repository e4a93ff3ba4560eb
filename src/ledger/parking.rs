//! Sleeps of threads at locks of objects, by lock, thread and stack; stops of the world are in `stops`.
//!
//! Invariant: the sleeps of a lock by thread, and those by stack with those whose stack nobody read, each sum to all sleeps at it.
//! What is kept is bounded: where there are too many, those that cost least are told together.

use std::{cmp::Reverse, hash::Hash};

use rustc_hash::FxHashMap;

use crate::{
    ledger::stops::StopBook,
    model::{
        address::LiveAddress,
        event::{ParkPlace, ParkStep},
        ids::Tid,
        parking::{ParkedMutex, Parking, Stretches},
        stack::StackId,
        time::{MonoNanos, Nanos},
    },
};

/// Locks that are told one by one.
const MOST_MUTEXES: usize = 2048;
/// Threads, and stacks, of one lock that are told one by one.
const MOST_SHARES: usize = 256;

/// The book of sleeps.
#[derive(Debug, Clone, Default)]
pub(super) struct ParkingBook {
    asleep: FxHashMap<Tid, Sleep>,
    mutexes: FxHashMap<LiveAddress, MutexBook>,
    /// Those that are not told one by one.
    others: MutexBook,
    stops: StopBook,
    elsewhere: Stretches,
}

/// A sleep that is going on.
#[derive(Debug, Clone, Copy)]
struct Sleep {
    began: MonoNanos,
    place: ParkPlace,
    stack: Option<StackId>,
}

/// All about one lock.
#[derive(Debug, Clone, Default)]
struct MutexBook {
    parks: Stretches,
    threads: Shares<Tid>,
    stacks: Shares<StackId>,
    unseen: Stretches,
}

/// Stretches by whatever has a part in them.
#[derive(Debug, Clone)]
pub(super) struct Shares<K> {
    by: FxHashMap<K, Stretches>,
    others: Stretches,
}

impl ParkingBook {
    pub(super) fn on_step(&mut self, (tid, now): (Tid, MonoNanos), step: ParkStep) {
        match step {
            ParkStep::Began(place) => {
                // Its end is missing.
                self.asleep.insert(tid, Sleep { began: now, place, stack: None });
                self.stops.on_begun((tid, now), place);
            }
            ParkStep::Stack(stack) => {
                if let Some(sleep) = self.asleep.get_mut(&tid) {
                    sleep.stack = stack;
                }
            }
            ParkStep::Woken | ParkStep::GaveUp => {
                // One that began before the recording is not told of.
                if let Some(sleep) = self.asleep.remove(&tid) {
                    self.end((tid, now), sleep);
                    self.stops.on_ended((tid, now), sleep.began, (sleep.place, step == ParkStep::GaveUp));
                }
            }
        }
    }

    /// The thread's stack was sampled now; a sleeping one's does not move.
    pub(super) fn on_sampled(&mut self, tid: Tid, stack: StackId) {
        if let Some(sleep) = self.asleep.get_mut(&tid) {
            sleep.stack = sleep.stack.or(Some(stack));
        }
    }

    /// The thread has ended.
    pub(super) fn on_exited(&mut self, tid: Tid, now: MonoNanos) {
        self.on_step((tid, now), ParkStep::Woken);
    }

    /// When the sleep of this thread ended is not known.
    pub(super) fn on_lost(&mut self, tid: Tid) {
        self.asleep.remove(&tid);
    }

    /// Closes the book; sleeps that go on count up to now.
    pub(super) fn close(mut self, now: MonoNanos) -> Parking {
        let mut asleep: Vec<Tid> = self.asleep.keys().copied().collect();
        asleep.sort_unstable();
        asleep.into_iter().for_each(|tid| self.on_exited(tid, now));
        let mutexes = self.mutexes.into_iter().map(|(address, book)| book.close(Some(address)));
        let mut mutexes: Vec<_> = mutexes.collect();
        mutexes.sort_by_key(|mutex| (Reverse(mutex.parks.total), mutex.address));
        if self.others.parks.count > 0 {
            mutexes.push(self.others.close(None));
        }
        Parking { mutexes, stops: self.stops.close(now), elsewhere: self.elsewhere }
    }

    fn end(&mut self, (tid, now): (Tid, MonoNanos), sleep: Sleep) {
        let length = now.saturating_since(sleep.began);
        match sleep.place {
            ParkPlace::Mutex(address) => {
                if self.mutexes.len() >= MOST_MUTEXES && !self.mutexes.contains_key(&address) {
                    self.make_room();
                }
                self.mutexes.entry(address).or_default().add(tid, sleep.stack, length);
            }
            ParkPlace::Suspended | ParkPlace::StopRequest(_) => {}
            ParkPlace::Elsewhere => self.elsewhere.add(length),
        }
    }

    /// Tells the half of the locks together that cost least.
    fn make_room(&mut self) {
        let mut all: Vec<_> = self.mutexes.drain().collect();
        all.sort_unstable_by_key(|(address, book)| (Reverse(book.parks.total), *address));
        let least = all.split_off(MOST_MUTEXES / 2);
        self.mutexes.extend(all);
        least.into_iter().for_each(|(_, book)| self.others.absorb(book));
    }
}

impl MutexBook {
    fn add(&mut self, tid: Tid, stack: Option<StackId>, length: Nanos) {
        self.parks.add(length);
        self.threads.add(tid, length);
        match stack {
            Some(stack) => self.stacks.add(stack, length),
            None => self.unseen.add(length),
        }
    }

    fn absorb(&mut self, other: Self) {
        self.parks.absorb(other.parks);
        self.threads.absorb(other.threads);
        self.stacks.absorb(other.stacks);
        self.unseen.absorb(other.unseen);
    }

    fn close(self, address: Option<LiveAddress>) -> ParkedMutex {
        let Self { parks, threads, stacks, unseen } = self;
        ParkedMutex { address, parks, threads: threads.into_list(), stacks: stacks.into_list(), unseen }
    }
}

impl<K: Copy + Eq + Hash + Ord> Shares<K> {
    pub(super) fn add(&mut self, key: K, length: Nanos) {
        self.enter(key, Stretches { count: 1, total: length, longest: length });
    }

    fn enter(&mut self, key: K, stretches: Stretches) {
        let known = self.by.contains_key(&key) || self.by.len() < MOST_SHARES;
        let entry = if known { self.by.entry(key).or_default() } else { &mut self.others };
        entry.absorb(stretches);
    }

    fn absorb(&mut self, other: Self) {
        other.by.into_iter().for_each(|(key, stretches)| self.enter(key, stretches));
        self.others.absorb(other.others);
    }

    /// The largest first, those that are not told one by one last.
    pub(super) fn into_list(self) -> Vec<(Option<K>, Stretches)> {
        let mut list: Vec<_> = self.by.into_iter().map(|(key, stretches)| (Some(key), stretches)).collect();
        list.sort_by_key(|(key, stretches)| (Reverse(stretches.total), *key));
        list.extend((self.others.count > 0).then_some((None, self.others)));
        list
    }
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { by: FxHashMap::default(), others: Stretches::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_MUTEXES, ParkingBook};
    use crate::model::{
        address::LiveAddress,
        event::{ParkPlace, ParkStep},
        ids::Tid,
        parking::Stretches,
        stack::StackTable,
        time::{MonoNanos, Nanos},
    };

    fn step(book: &mut ParkingBook, (tid, at): (i32, u64), step: ParkStep) {
        book.on_step((Tid::from_raw(tid).unwrap(), MonoNanos::from_monotonic(at)), step);
    }

    fn mutex(address: u64) -> ParkStep {
        ParkStep::Began(ParkPlace::Mutex(LiveAddress::in_target(address)))
    }

    fn stretches(count: u64, total: u64, longest: u64) -> Stretches {
        Stretches { count, total: Nanos::from_nanos(total), longest: Nanos::from_nanos(longest) }
    }

    /// ```text
    /// 1 ├── mutex 9, stack ──┤    ├ mutex 9 ┤
    /// 2      ├── mutex 8 ──…  (end of the recording)
    /// 3      ├── join ─┤   ├ lost
    /// ```
    #[test]
    fn sleeps_add_up_by_lock_thread_and_stack() {
        let stack = StackTable::default().intern(&[]);
        let mut book = ParkingBook::default();
        for (who, what) in [
            ((1, 0), mutex(9)),
            ((1, 0), ParkStep::Stack(Some(stack))),
            ((2, 10), mutex(8)),
            ((3, 10), ParkStep::Began(ParkPlace::Elsewhere)),
            ((3, 40), ParkStep::GaveUp),
            ((3, 50), mutex(7)),
            ((1, 100), ParkStep::Woken),
            ((1, 120), mutex(9)),
            ((1, 130), ParkStep::Woken),
            ((4, 140), ParkStep::Woken),
        ] {
            step(&mut book, who, what);
        }
        book.on_lost(Tid::from_raw(3).unwrap());
        let parking = book.close(MonoNanos::from_monotonic(200));
        let all: Vec<_> =
            parking.mutexes.iter().map(|mutex| (mutex.address.map(LiveAddress::raw), mutex.parks)).collect();
        assert_eq!(all, [(Some(8), stretches(1, 190, 190)), (Some(9), stretches(2, 110, 100))]);
        let nine = &parking.mutexes[1];
        assert_eq!(nine.threads, [(Tid::from_raw(1), stretches(2, 110, 100))]);
        assert_eq!(
            (nine.stacks.as_slice(), nine.unseen),
            (&[(Some(stack), stretches(1, 100, 100))][..], stretches(1, 10, 10))
        );
        assert_eq!(parking.elsewhere, stretches(1, 30, 30));
        assert_eq!(parking.stops.pauses, Stretches::default());
    }

    #[test]
    fn of_too_many_locks_the_dearest_are_kept_and_none_is_lost() {
        let mut book = ParkingBook::default();
        let many = u64::try_from(MOST_MUTEXES).unwrap() + 10;
        for address in 1..=many {
            step(&mut book, (1, 0), mutex(address));
            step(&mut book, (1, address), ParkStep::Woken);
        }
        let parking = book.close(MonoNanos::from_monotonic(1));
        assert!(parking.mutexes.len() <= MOST_MUTEXES + 1);
        assert_eq!(parking.mutexes[0].address, Some(LiveAddress::in_target(many)));
        assert_eq!(parking.mutexes.iter().map(|mutex| mutex.parks.count).sum::<u64>(), many);
    }
}
