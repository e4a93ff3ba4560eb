//! What windows tell of the whole: amounts between their beginnings and ends, cell by cell, and the estimates from them.
//!
//! A recording under a budget takes lock events in windows only. Outside of them every relation is unknown, and stays so in
//! the exact numbers. In every cell each moment has the same chance to lie in a window, so what a cell's windows show,
//! scaled to the cell, is an unbiased estimate of the cell; cells that were observed from end to end, and all time before
//! the first, are no estimate. Amounts that turn out later, such as wake-up latency, count for the window they lie in.
//!
//! Invariant: a hold or a wait that an edge of a window cuts off counts by its time and not as one.

mod account;
mod amounts;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    ledger::{Ledger, lock::LockAccount, lock::Owner, relation::Relation, thread::ThreadAccount},
    model::{
        estimate::{Estimates, LockEstimate, Method, ThreadEstimate},
        event::WindowStep,
        ids::{LockId, Tid},
        time::{MonoNanos, Nanos},
    },
};

use account::Account;
use amounts::{OF_LOCK, OF_THREAD, amounts, reading_of_lock, reading_of_thread};

/// How much of a hold or of a wait was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// A part: it had begun before the window did, or went on after it.
    Part,
}

/// Threads that have ended and lived longest, of which estimates are kept one by one.
const MOST_ENDED: usize = 5000;

/// Where a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// All lock events are taken, and count.
    #[default]
    Within,
    /// None are taken.
    Outside,
    /// They are taken, to know what each thread is doing when the window begins.
    Armed,
}

/// Sums of all windows so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Windows {
    phase: Phase,
    /// When the present cell began; `None` before the first.
    cell: Option<MonoNanos>,
    /// How many windows have ended.
    ended: u64,
    /// Cells of which a part was observed.
    cells: u64,
    /// Since when everything has been observed; `None` while nothing is.
    since: Option<MonoNanos>,
    observed: Nanos,
    threads: FxHashMap<Tid, Account<OF_THREAD>>,
    locks: FxHashMap<LockId, Account<OF_LOCK>>,
    all: Account<OF_THREAD>,
    done: Vec<(Nanos, ThreadEstimate)>,
    /// Threads that wait, as far as was told since the last window ended.
    pub(super) late_waits: FxHashSet<Tid>,
}

impl Windows {
    /// Whether lock events tell anything now.
    pub(super) fn take_events(&self) -> bool {
        self.phase != Phase::Outside
    }

    /// How much of what is seen to go on now was observed: what is found under way at the beginning of a window has begun
    /// before.
    pub(super) fn extent_of_found(&self) -> Extent {
        if self.cell.is_some() { Extent::Part } else { Extent::Whole }
    }

    fn read_lock(&mut self, lock: &LockAccount, seen: Nanos) {
        let reading = reading_of_lock(lock, seen);
        let phase = self.phase;
        self.locks.entry(lock.id).or_insert_with(|| Account::found(seen)).read(reading, phase);
    }

    fn read_thread(&mut self, thread: &ThreadAccount) {
        let news = self.threads.entry(thread.tid).or_default().read(reading_of_thread(thread), self.phase);
        self.all.in_cell.add(&news);
    }

    /// A thread has ended, with all its time charged.
    pub(super) fn end_thread(&mut self, thread: &ThreadAccount) {
        if self.cell.is_none() {
            // Its time is exact, and is told of all threads when the first cell begins.
            return;
        }
        self.read_thread(thread);
        let Some(mut account) = self.threads.remove(&thread.tid) else { return };
        let length = account.last.seen.saturating_sub(account.cell_seen);
        self.all.cell_seen += length;
        account.close_cell(length);
        let lifetime = account.last.seen;
        self.done.push((lifetime, account.estimate(thread.tid, lifetime)));
        if self.done.len() > 2 * MOST_ENDED {
            self.done.sort_by_key(|(lifetime, _)| std::cmp::Reverse(*lifetime));
            self.done.truncate(MOST_ENDED);
        }
    }

    fn close_cell(&mut self, now: MonoNanos) {
        let Some(began) = self.cell else { return };
        let length = now.saturating_since(began);
        for account in self.threads.values_mut() {
            let of_thread = account.last.seen.saturating_sub(account.cell_seen);
            self.all.cell_seen += of_thread;
            account.close_cell(of_thread);
            account.cell_seen = account.last.seen;
        }
        let all = std::mem::take(&mut self.all.cell_seen);
        self.all.close_cell(all);
        for account in self.locks.values_mut() {
            account.close_cell(length);
        }
        self.cells += 1;
    }

    /// The first cell begins: all that was before is exact.
    fn begin_cells(&mut self, start: MonoNanos) {
        self.threads.values_mut().for_each(Account::begin_cells);
        self.locks.values_mut().for_each(Account::begin_cells);
        self.all.begin_cells();
        self.all.certain = self.threads.values().map(|account| account.certain).sum();
        self.since = Some(start);
    }
}

impl Ledger {
    pub(super) fn on_window(&mut self, step: WindowStep) {
        self.read_windows();
        let now = self.now;
        let windows = &mut self.windows;
        match step {
            WindowStep::Cell => {
                match windows.cell {
                    Some(_) => windows.close_cell(now),
                    None => self.begin_cells(),
                }
                self.windows.cell = Some(now);
            }
            WindowStep::Armed => {
                windows.phase = Phase::Armed;
                windows.late_waits.clear();
            }
            WindowStep::Began => (windows.phase, windows.since) = (Phase::Within, Some(now)),
            WindowStep::Ended => {
                if let Some(since) = windows.since.take() {
                    windows.observed += now.saturating_since(since);
                }
                windows.ended += 1;
                windows.phase = Phase::Outside;
                self.cut_relations();
            }
        }
    }

    /// What was estimated; `None` when every lock event was taken.
    pub(super) fn estimates(&mut self) -> Option<Estimates> {
        if self.windows.ended == 0 {
            return None;
        }
        let (now, whole) = (self.now, self.now.saturating_since(self.options.start));
        let mut windows = std::mem::take(&mut self.windows);
        windows.close_cell(now);
        if let Some(since) = windows.since.filter(|_| windows.phase == Phase::Within) {
            windows.observed += now.saturating_since(since);
        }
        windows.done.sort_by_key(|(lifetime, thread)| (std::cmp::Reverse(*lifetime), thread.tid));
        let mut locks: Vec<LockEstimate> =
            windows.locks.iter().map(|(id, account)| account.estimate(*id, whole)).collect();
        locks.sort_by_key(|lock| lock.lock);
        let lifetimes = self.ended.lifetimes();
        let total = if windows.all.is_estimable() { windows.all.classes(lifetimes) } else { Vec::new() };
        let threads = windows.done.into_iter().map(|(_, thread)| thread).collect();
        let (method, parts, observed) = (Method::Windows, windows.cells, windows.observed);
        Some(Estimates { method, parts, observed, total, threads, locks })
    }

    /// Charges everything up to now and reads it.
    pub(super) fn read_windows(&mut self) {
        for id in self.locks.iter().map(|lock| lock.id).collect::<Vec<_>>() {
            self.charge_lock(id);
        }
        for tid in self.threads.keys().copied().collect::<Vec<_>>() {
            self.charge_thread(tid);
        }
        let seen = self.now.saturating_since(self.options.start);
        for lock in &self.locks {
            self.windows.read_lock(lock, seen);
        }
        for thread in self.threads.values() {
            self.windows.read_thread(thread);
        }
    }

    fn begin_cells(&mut self) {
        self.windows.begin_cells(self.options.start);
        let all = &mut self.windows.all;
        all.certain += self.ended.lifetimes();
        for (sum, amount) in all.exact.iter_mut().zip(amounts(|state| self.ended.time_in(state), [Nanos::ZERO; 2])) {
            *sum += amount;
        }
    }

    /// From now on nothing is known of any lock.
    fn cut_relations(&mut self) {
        for id in self.locks.iter().map(|lock| lock.id).collect::<Vec<_>>() {
            self.blame_owner(id);
            let now = self.now;
            let closed = self.lock(id).cut_hold(now);
            if let Some(closed) = closed {
                self.list_if_long(id, &closed);
            }
            let lock = self.lock(id);
            lock.owner = Owner::Unknown;
            lock.last_step = None;
            lock.givers.clear();
        }
        for tid in self.threads.keys().copied().collect::<Vec<_>>() {
            self.cut_wait(tid);
            if let Some(thread) = self.threads.get_mut(&tid) {
                thread.rule_out_giving_way();
                thread.relation = Relation::Unknown;
            }
        }
        self.lossy.clear();
    }

    fn cut_wait(&mut self, tid: Tid) {
        let relation = self.threads.get(&tid).map(|thread| thread.relation);
        let Some(Relation::Waiting(wait)) = relation else { return };
        self.windows.late_waits.insert(tid);
        let now = self.now;
        let lock = self.lock(wait.lock);
        lock.remove_waiter(tid);
        lock.close_wait(now.saturating_since(wait.began), Extent::Part);
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.close_wait(wait, now, Extent::Part);
        }
    }
}
