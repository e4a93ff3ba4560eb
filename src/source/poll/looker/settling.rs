//! Who waits, by what one look has read of the locks and of each thread: whatever can be settled is, the rest is pending or unknown.
//!
//! Threads asleep at a lock wait for it, by their own system call. Of those awake the locks' words, their counts and what each
//! thread has run since tell. One that acquires a lock during the look is not settled. One that was woken while it waits and has no
//! CPU yet is told by what the C library counts, or by its not having run since. One that has just released and lost its CPU may have
//! been forced to: what it does next will tell. Invariant: a relation that the readings leave open is not made up.

use crate::{
    model::{
        event::{CpuSight, Pause, SeenCpu, SeenRelation},
        ids::{LockId, Tid},
        time::Nanos,
    },
    source::poll::{
        look::{Owner, Relation, ThreadSight},
        looker::{Looker, MOST_SEEN, lock_id},
    },
    target::{glance::Counters, waiters::WaiterCount},
};

/// CPU time from a forced release to asking for the lock again, at the most: it takes some microseconds, but the counter of a
/// thread on a CPU lags behind by up to a tick.
const GIVING_WAY: Nanos = Nanos::from_millis(5);
/// CPU time that one slice of a wait takes at the most, from waking up to sleeping again.
const SLICE: Nanos = Nanos::from_nanos(50_000);

impl Looker {
    /// Tells who among those awake waits: the lock says how many wait, and those seen to sleep there are not enough.
    pub(super) fn settle(&mut self, seen: Vec<Candidate>, newcomers: &[Tid]) -> Vec<ThreadSight> {
        self.counts.resize_with(self.seats.len(), WaiterCount::default);
        let mut missing = Vec::new();
        for (index, (reading, count)) in self.readings.iter().zip(&mut self.counts).enumerate() {
            let asleep = seen.iter().filter(|thread| thread.place == Place::Waiting(lock_id(index))).count();
            let awake = seen.iter().filter(|thread| thread.is_awake()).count();
            missing.push(reading.and_then(|reading| {
                count.learn(&reading, number(asleep), number(awake));
                count.of(&reading).map(|count| (count.saturating_sub(number(asleep)), number(awake)))
            }));
        }
        let whole = self.threads.len() <= MOST_SEEN;
        let missing =
            if let ([Some((missing, _))], true) = (missing.as_slice(), whole) { Some(*missing) } else { None };
        let likely = number(seen.iter().filter(|thread| thread.is_awake() && thread.hardly_ran()).count());
        let awake = number(seen.iter().filter(|thread| thread.is_awake()).count());
        let counted = missing.map(|missing| Missing { missing, likely, awake });
        let contested = self.owners.iter().any(|owner| *owner != Owner::Nobody)
            || missing.is_some_and(|missing| missing > 0)
            || seen.iter().any(|thread| matches!(thread.place, Place::Waiting(_)));
        let moment = Moment { counted, contested, newcomers };
        seen.into_iter().map(|thread| self.sight(thread, &moment)).collect()
    }

    fn sight(&mut self, thread: Candidate, moment: &Moment<'_>) -> ThreadSight {
        let Candidate { tid, place, cpu, counters, waited, pending, asked } = thread;
        let woken = match moment.counted {
            Some(counted) => counted.woken(thread.hardly_ran()),
            None if thread.hardly_ran() => Woken::Yes,
            None => Woken::No,
        };
        let straight = match (pending, counters) {
            (Some(then), Some(now)) => now.time.ran.saturating_sub(then.time.ran) <= GIVING_WAY,
            _ => false,
        };
        let lock = waited.map_or(lock_id(0), |waited| waited.lock);
        // It comes from the lock: others have it, or want it.
        let may_want = moment.contested && asked == Asked::Perhaps;
        let unseen = moment.contested && asked == Asked::Unseen && waited.is_some();
        let settled = |relation| Relation::Settled(relation);
        let relation = match (place, woken) {
            (Place::Inside(lock), _) => settled(Some(SeenRelation::Inside(lock))),
            (Place::Waiting(lock), _) => settled(Some(SeenRelation::Waiting(lock))),
            (Place::AtMutex, _) if waited.is_some() => settled(Some(SeenRelation::Waiting(lock))),
            (Place::Awake, Woken::Yes) => settled(Some(SeenRelation::Waiting(lock))),
            (Place::Awake, _) if counters.is_some() && (straight || may_want && pending.is_none()) => Relation::Pending,
            // It has got a lock while we looked, and may have waited for it or not.
            (Place::Awake, _) if moment.counted.is_none() && moment.newcomers.contains(&tid) => settled(None),
            (Place::Unknown | Place::AtMutex, _) | (Place::Awake, Woken::Perhaps) => settled(None),
            (Place::Awake, Woken::No) if unseen => settled(None),
            (Place::Awake | Place::Elsewhere, _) => settled(Some(SeenRelation::Outside)),
        };
        if let Some(watched) = self.threads.get_mut(&tid) {
            watched.waits = match (relation, counters) {
                (Relation::Settled(Some(SeenRelation::Waiting(lock))), Some(counters)) => {
                    Some(Waited { lock, counters })
                }
                _ => None,
            };
            watched.pending = if relation == Relation::Pending { pending.or(counters) } else { None };
        }
        let spent = counters.map(|counters| counters.time);
        let cpu = CpuSight { cpu, pause: Pause::Unknown, spent };
        ThreadSight { tid, relation, cpu, straight }
    }
}

/// What a look tells beside each thread by itself.
#[derive(Debug)]
struct Moment<'a> {
    /// How many wait for the only lock although they are awake.
    counted: Option<Missing>,
    /// Whether somebody owns or wants a lock.
    contested: bool,
    /// Who has acquired a lock meanwhile.
    newcomers: &'a [Tid],
}

/// A thread as seen by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) tid: Tid,
    pub(super) place: Place,
    pub(super) cpu: SeenCpu,
    pub(super) counters: Option<Counters>,
    /// How it was seen to wait at the last look.
    pub(super) waited: Option<Waited>,
    /// Its counters when it was first not settled.
    pub(super) pending: Option<Counters>,
    /// Whether it may have been asked to give way.
    pub(super) asked: Asked,
}

impl Candidate {
    fn is_awake(&self) -> bool {
        self.place == Place::Awake
    }

    /// Whether a wait that was seen may go on, by what the thread has run since.
    fn hardly_ran(&self) -> bool {
        self.waited.zip(self.counters).is_some_and(|(waited, now)| waited.until(now))
    }
}

/// Whether a thread may have been asked to give way since it was last seen not to own a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// That was just now.
    No,
    /// It has been seen to own it since.
    Perhaps,
    /// It has not, but so long ago was the last look.
    Unseen,
}

/// Who waits for the only lock although awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Missing {
    /// How many do.
    missing: u64,
    /// How many awake have been seen to wait and have hardly run since,
    likely: u64,
    /// of how many awake.
    awake: u64,
}

impl Missing {
    fn woken(self, hardly_ran: bool) -> Woken {
        match self.missing {
            0 => Woken::No,
            missing if missing >= self.awake => Woken::Yes,
            missing if missing == self.likely => {
                if hardly_ran {
                    Woken::Yes
                } else {
                    Woken::No
                }
            }
            missing if missing > self.likely && hardly_ran => Woken::Yes,
            missing if missing < self.likely && !hardly_ran => Woken::No,
            _ => Woken::Perhaps,
        }
    }
}

/// A wait that was seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waited {
    lock: LockId,
    counters: Counters,
}

impl Waited {
    /// Whether the wait may go on, by what the thread has run since.
    fn until(self, now: Counters) -> bool {
        let slices = usize::try_from(now.runs.saturating_sub(self.counters.runs)).unwrap_or(usize::MAX);
        now.time.ran.saturating_sub(self.counters.time.ran) <= SLICE.times(slices)
    }
}

/// Whether a thread that is awake was woken from a wait that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Yes,
    No,
    Perhaps,
}

/// Where one thread is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Inside(LockId),
    Waiting(LockId),
    /// Asleep for one of the lock's mutexes, which are taken for some instants while acquiring and while releasing.
    AtMutex,
    /// On a CPU or queued for one.
    Awake,
    /// Asleep for something else.
    Elsewhere,
    Unknown,
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
