//! The looks of one recording: what each saw of every thread and lock, kept as the sums that intervals are made of.

use rustc_hash::FxHashMap;

use crate::{
    estimate::looks::Series,
    model::{
        estimate::{ClassEstimate, Estimate, Estimates, LockEstimate, Method, StateEstimate, ThreadEstimate},
        ids::{LockId, Tid},
        profile::{LockProfile, Profile, ThreadProfile},
        state::{State, StateClass},
        time::Nanos,
    },
};

/// Threads kept one by one; of more, only what they come to together is told.
const MOST_THREADS: usize = 4096;
const CLASSES: [StateClass; 3] = [StateClass::Inside, StateClass::Waiting, StateClass::Outside];
/// Looks at a thread that is awake just after it had or wanted the lock: it may be on its way back to it, without a CPU.
const DOUBTED: u32 = 3;
/// States that a single look can tell.
const STATES: [State; 4] = [State::HeldBlocked, State::WaitQueued, State::WaitHandoff, State::OutsideBlocked];

/// What one look saw of one thread; `None`: not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadLook {
    /// Which thread.
    pub tid: Tid,
    /// What it was seen to be, as exactly as a look can tell.
    pub seen: Option<Seen>,
}

/// What a thread is seen to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// In this state.
    State(State),
    /// In one of the states of this class.
    Class(StateClass),
}

impl Seen {
    fn class(self) -> StateClass {
        match self {
            Self::State(state) => state.class(),
            Self::Class(class) => class,
        }
    }
}

/// What one look saw of one lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockLook {
    /// Which.
    pub lock: LockId,
    /// Whether somebody owned it.
    pub held: bool,
    /// How many waited for it.
    pub waiters: u64,
}

/// All looks so far.
#[derive(Debug, Clone, Default)]
pub struct LookBook {
    looks: u64,
    observed: Nanos,
    total: [Series; 3],
    threads: FxHashMap<Tid, ThreadBook>,
    locks: FxHashMap<LockId, LockBook>,
    cost: Nanos,
    waits: Waits,
}

/// Where waits are known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Waits {
    /// From the looks, like everything else.
    #[default]
    Looks,
    /// From their events: they are exact, and nothing about their length is estimated.
    Events,
}

#[derive(Debug, Clone, Default)]
struct ThreadBook {
    classes: [Series; 3],
    states: [Series; 4],
    /// Since the last look that settled it.
    gap: Nanos,
    /// Looks since it was last seen to have or to want a lock, while it has been awake; `None` once it was asleep elsewhere.
    away: Option<u32>,
    /// Time in which it was taken to be outside and may have wanted the lock.
    doubtful: Nanos,
}

#[derive(Debug, Clone, Default)]
struct LockBook {
    held: Series,
    contended: Series,
    waited: Series,
}

impl ThreadBook {
    fn doubt(&mut self, gap: Nanos, seen: Seen) {
        self.away = match (seen, self.away) {
            (Seen::State(State::OutsideBlocked), _) => None,
            (Seen::Class(StateClass::Outside), away) => away.map(|looks| looks + 1),
            _ => Some(0),
        };
        if self.away.is_some_and(|looks| (1..=DOUBTED).contains(&looks)) {
            self.doubtful += gap;
        }
    }
}

/// The interval of a class, made wider by time that may belong to waiting rather than to outside.
fn doubted((class, time): (StateClass, Estimate<Nanos>), doubtful: Nanos, whole: Nanos) -> Estimate<Nanos> {
    match class {
        StateClass::Outside => Estimate { low: time.low.saturating_sub(doubtful), ..time },
        StateClass::Waiting => Estimate { high: (time.high + doubtful).min(whole).max(time.value), ..time },
        StateClass::Inside | StateClass::Unknown => time,
    }
}

impl LookBook {
    /// Enters a look that came `gap` after the one before.
    pub fn enter(&mut self, gap: Nanos, threads: &[ThreadLook], locks: &[LockLook]) {
        self.looks += 1;
        self.observed += gap;
        for (class, series) in CLASSES.into_iter().zip(&mut self.total) {
            let number = threads.iter().filter(|look| look.seen.is_some_and(|seen| seen.class() == class)).count();
            series.add(gap, u64::try_from(number).unwrap_or(u64::MAX));
        }
        for look in threads {
            self.enter_thread(gap, *look);
        }
        for LockLook { lock, held, waiters } in locks.iter().copied() {
            let book = self.locks.entry(lock).or_default();
            book.held.add(gap, u64::from(held));
            book.contended.add(gap, u64::from(held && waiters > 0));
            book.waited.add(gap, waiters);
        }
    }

    fn enter_thread(&mut self, gap: Nanos, look: ThreadLook) {
        if self.threads.len() >= MOST_THREADS && !self.threads.contains_key(&look.tid) {
            return;
        }
        let book = self.threads.entry(look.tid).or_default();
        book.gap += gap;
        let Some(seen) = look.seen else { return };
        let gap = std::mem::take(&mut book.gap);
        if self.waits == Waits::Looks {
            book.doubt(gap, seen);
        }
        for (class, series) in CLASSES.into_iter().zip(&mut book.classes) {
            series.add(gap, u64::from(seen.class() == class));
        }
        for (state, series) in STATES.into_iter().zip(&mut book.states) {
            series.add(gap, u64::from(seen == Seen::State(state)));
        }
    }

    /// Time of all threads in which they were taken to be outside and may have wanted a lock.
    fn doubtful(&self) -> Nanos {
        self.threads.values().map(|book| book.doubtful).sum()
    }

    /// Empty books of looks beside which waits are taken exactly, or not.
    pub fn with(waits: Waits) -> Self {
        Self { waits, ..Self::default() }
    }

    /// Where waits are known from.
    pub fn waits(&self) -> Waits {
        self.waits
    }

    /// Looking has taken so much CPU time of ours.
    pub fn note_cost(&mut self, cost: Nanos) {
        self.cost = cost;
    }

    /// What looking has taken, as a share of one CPU.
    pub fn cost(&self) -> f64 {
        self.cost.share_of(self.observed)
    }

    /// How often it was looked a second.
    pub fn rate(&self) -> u32 {
        let observed = self.observed.as_nanos().max(1);
        u32::try_from(u128::from(self.looks) * 1_000_000_000 / u128::from(observed)).unwrap_or(u32::MAX)
    }

    /// The times of a profile that was put together from these looks, with their intervals.
    pub fn estimates(&self, profile: &Profile) -> Estimates {
        Estimates {
            method: Method::Looks { rate: self.rate() },
            parts: self.looks,
            observed: self.observed,
            total: self.total(profile),
            threads: profile.threads.iter().filter_map(|thread| self.thread(thread)).collect(),
            locks: profile.locks.iter().map(|lock| self.lock(lock, profile)).collect(),
        }
    }

    fn total(&self, profile: &Profile) -> Vec<ClassEstimate> {
        let lifetimes: Nanos = profile.threads.iter().map(|thread| thread.lifetime).sum();
        let unknown: Nanos = profile.threads.iter().map(|thread| thread.states.get(State::Unknown)).sum();
        let estimate = |(class, series): (StateClass, &Series)| {
            let value = profile.threads.iter().map(|thread| thread.states.class(class)).sum();
            let time = series.interval(value, lifetimes, unknown)?;
            Some(ClassEstimate { class, time: doubted((class, time), self.doubtful(), lifetimes) })
        };
        CLASSES
            .into_iter()
            .zip(&self.total)
            .filter(|(class, _)| self.estimates_class(*class))
            .filter_map(estimate)
            .collect()
    }

    fn estimates_class(&self, class: StateClass) -> bool {
        class != StateClass::Waiting || self.waits == Waits::Looks
    }

    fn thread(&self, thread: &ThreadProfile) -> Option<ThreadEstimate> {
        let book = self.threads.get(&thread.tid)?;
        let (whole, unknown) = (thread.lifetime, thread.states.get(State::Unknown));
        let class = |(class, series): (StateClass, &Series)| {
            let time = series.interval(thread.states.class(class), whole, unknown)?;
            Some(ClassEstimate { class, time: doubted((class, time), book.doubtful, whole) })
        };
        let state = |(state, series): (State, &Series)| {
            series.interval(thread.states.get(state), whole, unknown).map(|time| StateEstimate { state, time })
        };
        Some(ThreadEstimate {
            tid: thread.tid,
            classes: CLASSES
                .into_iter()
                .zip(&book.classes)
                .filter(|(class, _)| self.estimates_class(*class))
                .filter_map(class)
                .collect(),
            states: STATES.into_iter().zip(&book.states).filter_map(state).collect(),
        })
    }

    fn lock(&self, lock: &LockProfile, profile: &Profile) -> LockEstimate {
        let book = self.locks.get(&lock.id);
        let lifetimes: Nanos = profile.threads.iter().map(|thread| thread.lifetime).sum();
        let part = |series: Option<Series>, value, whole, unknown| series?.interval(value, whole, unknown);
        LockEstimate {
            lock: lock.id,
            held: part(book.map(|book| book.held), lock.held, profile.window, lock.unknown),
            contended: part(book.map(|book| book.contended), lock.contended, profile.window, lock.unknown),
            waited: part(
                book.filter(|_| self.waits == Waits::Looks).map(|book| book.waited),
                lock.wait_total,
                lifetimes,
                Nanos::ZERO,
            ),
            holds: None,
            waits: None,
        }
    }
}
