//! What windows tell of the whole: amounts between their beginnings and ends, cell by cell, and the estimates from them.
//!
//! A recording under a budget takes lock events in windows only. Outside of them every relation is unknown, and stays so in
//! the exact numbers. In every cell each moment has the same chance to lie in a window, so what a cell's windows show,
//! scaled to the cell, is an unbiased estimate of the cell; cells that were observed from end to end, and all time before
//! the first, are no estimate. Amounts that turn out later, such as wake-up latency, count for the window they lie in.
//!
//! Invariant: a hold or a wait that an edge of a window cuts off counts by its time and not as one.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    estimate::Parts,
    ledger::{Ledger, lock::LockAccount, lock::Owner, relation::Relation, thread::ThreadAccount},
    model::{
        estimate::{ClassEstimate, Estimate, Estimates, LockEstimate, Method, StateEstimate, ThreadEstimate},
        event::WindowStep,
        ids::{LockId, Tid},
        state::{State, StateClass},
        time::{MonoNanos, Nanos},
    },
};

/// How much of a hold or of a wait was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// A part: it had begun before the window did, or went on after it.
    Part,
}

/// The classes that are estimated.
const CLASSES: [StateClass; 3] = [StateClass::Inside, StateClass::Waiting, StateClass::Outside];
/// The states that are estimated: all but `unknown`.
const STATES: usize = State::ALL.len() - 1;
const OF_THREAD: usize = STATES + CLASSES.len();
/// Held, contended, waited, holds, waits.
const OF_LOCK: usize = 5;
/// Of a thread of which more of the observed time is unknown than this, nothing is estimated.
const MOST_UNKNOWN: f64 = 0.2;
/// What an event may cost, as a share of what was measured on the machine, the likeliest first. It was measured at its best; in the
/// program caches are full of other things. (Watchpoints at 6 µs each: with 1.0 the number of holds came out 5 % short.)
const COSTS: [f64; 3] = [1.15, 0.85, 1.5];
/// At least one part of so many of the time that was observed was the program's own.
const LEAST_LEFT: i64 = 20;
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

/// Amounts of one thread or lock at one moment, since it is known.
#[derive(Debug, Clone, Copy)]
struct Reading<const N: usize> {
    amounts: [i64; N],
    /// How long it has been known.
    seen: Nanos,
    /// How much of that is unknown.
    unknown: Nanos,
    /// What probes have taken of each amount, and of the time.
    probed: [i64; N],
    probed_seen: i64,
}

/// What has come together of one thread or lock, or of all threads.
#[derive(Debug, Clone)]
struct Account<const N: usize> {
    last: Reading<N>,
    /// When the cell began.
    cell_seen: Nanos,
    /// In the windows of the present cell.
    in_cell: Reading<N>,
    /// What was observed from end to end, and how long that was.
    exact: [i64; N],
    certain: Nanos,
    /// The cells of which a part was observed.
    parts: [[Parts; N]; COSTS.len()],
    /// Time in windows, and how much of that is unknown.
    seen: Nanos,
    unknown: Nanos,
    /// Nothing is said of the time before.
    born: Nanos,
}

impl<const N: usize> Default for Reading<N> {
    fn default() -> Self {
        Self { amounts: [0; N], seen: Nanos::ZERO, unknown: Nanos::ZERO, probed: [0; N], probed_seen: 0 }
    }
}

impl<const N: usize> Reading<N> {
    fn add(&mut self, other: &Self) {
        self.amounts = combined(self.amounts, other.amounts, |sum, more| sum + more);
        self.probed = combined(self.probed, other.probed, |sum, more| sum + more);
        self.probed_seen += other.probed_seen;
        self.seen += other.seen;
        self.unknown += other.unknown;
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            amounts: combined(self.amounts, earlier.amounts, |now, before| now - before),
            probed: combined(self.probed, earlier.probed, |now, before| now - before),
            probed_seen: self.probed_seen - earlier.probed_seen,
            seen: self.seen.saturating_sub(earlier.seen),
            unknown: self.unknown.saturating_sub(earlier.unknown),
        }
    }

    /// The amounts, and the known time, without `share` of what probes have taken by measure.
    fn without_probes(&self, share: f64) -> ([u64; N], Nanos) {
        let known = self.seen.saturating_sub(self.unknown);
        // Where probes have taken nearly all, nothing can be told.
        let left = (signed(known) - part(self.probed_seen, share)).max(signed(known) / LEAST_LEFT);
        let without = |amount, probed| amount - part(probed, share);
        let amounts = combined(self.amounts, self.probed, without).map(|amount| u64::try_from(amount).unwrap_or(0));
        (amounts, Nanos::from_nanos(u64::try_from(left).unwrap_or(0)))
    }
}

fn combined<const N: usize>(one: [i64; N], other: [i64; N], with: impl Fn(i64, i64) -> i64) -> [i64; N] {
    std::array::from_fn(|index| with(one[index], other[index]))
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a cost is known to some percent")]
fn part(whole: i64, share: f64) -> i64 {
    (whole as f64 * share) as i64
}

impl<const N: usize> Default for Account<N> {
    fn default() -> Self {
        Self {
            last: Reading::default(),
            cell_seen: Nanos::ZERO,
            in_cell: Reading::default(),
            exact: [0; N],
            certain: Nanos::ZERO,
            parts: [[Parts::default(); N]; COSTS.len()],
            seen: Nanos::ZERO,
            unknown: Nanos::ZERO,
            born: Nanos::ZERO,
        }
    }
}

impl<const N: usize> Account<N> {
    /// Takes what has come since the last reading, as far as it counts; returns that.
    fn read(&mut self, now: Reading<N>, phase: Phase) -> Reading<N> {
        let mut news = now.since(&std::mem::replace(&mut self.last, now));
        match phase {
            Phase::Within => {}
            // What turns out only now had happened before.
            Phase::Outside => (news.seen, news.unknown) = (Nanos::ZERO, Nanos::ZERO),
            Phase::Armed => news = Reading::default(),
        }
        self.in_cell.add(&news);
        news
    }

    /// The cell is over, of which this lasted for `length`.
    fn close_cell(&mut self, length: Nanos) {
        let in_cell = std::mem::take(&mut self.in_cell);
        let Reading { amounts, seen, unknown, .. } = in_cell;
        if seen >= length {
            self.exact = combined(self.exact, amounts, |sum, amount| sum + amount);
            self.certain += length;
            return;
        }
        self.seen += seen;
        self.unknown += unknown;
        if seen <= unknown {
            return;
        }
        for (share, parts) in COSTS.iter().zip(&mut self.parts) {
            let (amounts, known) = in_cell.without_probes(*share);
            parts.iter_mut().zip(amounts).for_each(|(parts, amount)| parts.add_sampled(length, known, amount));
        }
    }

    /// Whether enough is known to estimate anything.
    fn is_estimable(&self) -> bool {
        self.unknown.share_of(self.seen) <= MOST_UNKNOWN
    }

    fn time(
        &self,
        index: usize,
        whole: Nanos,
        of_rest: fn(&Parts, Nanos) -> Option<Estimate<Nanos>>,
    ) -> Option<Estimate<Nanos>> {
        let rest = whole.saturating_sub(self.certain);
        let exact = Nanos::from_nanos(u64::try_from(self.exact[index]).unwrap_or(0));
        if rest == Nanos::ZERO {
            return Some(Estimate { value: exact, low: exact, high: exact });
        }
        let Estimate { value, low, high } = self.spanned(index, |parts| of_rest(parts, rest))?;
        Some(Estimate { value: exact + value, low: exact + low, high: exact + high })
    }

    fn count(&self, index: usize, whole: Nanos) -> Option<Estimate<u64>> {
        let rest = whole.saturating_sub(self.certain);
        let exact = u64::try_from(self.exact[index]).unwrap_or(0);
        if rest == Nanos::ZERO {
            return Some(Estimate { value: exact, low: exact, high: exact });
        }
        let Estimate { value, low, high } = self.spanned(index, |parts| parts.count_in(rest))?;
        Some(Estimate { value: exact + value, low: exact + low, high: exact + high })
    }

    /// The estimate if probes cost what was measured, from the lowest to the highest if they cost a little less or more.
    fn spanned<T: Ord + Copy>(&self, index: usize, of: impl Fn(&Parts) -> Option<Estimate<T>>) -> Option<Estimate<T>> {
        let all = self.parts.iter().map(|parts| of(&parts[index])).collect::<Option<Vec<_>>>()?;
        let (low, high) = (all.iter().map(|one| one.low).min()?, all.iter().map(|one| one.high).max()?);
        all.first().map(|measured| Estimate { value: measured.value, low, high })
    }
}

impl Account<OF_THREAD> {
    fn estimate(&self, tid: Tid, lifetime: Nanos) -> ThreadEstimate {
        let (classes, states) = if self.is_estimable() {
            (self.classes(lifetime), self.states(lifetime))
        } else {
            (Vec::new(), Vec::new())
        };
        ThreadEstimate { tid, classes, states }
    }

    fn classes(&self, lifetime: Nanos) -> Vec<ClassEstimate> {
        let of = |(index, class): (usize, &StateClass)| {
            Some(ClassEstimate { class: *class, time: self.time(STATES + index, lifetime, Parts::time_in)? })
        };
        CLASSES.iter().enumerate().filter_map(of).collect()
    }

    fn states(&self, lifetime: Nanos) -> Vec<StateEstimate> {
        let of = |(index, state): (usize, &State)| {
            Some(StateEstimate { state: *state, time: self.time(index, lifetime, Parts::time_in)? })
        };
        State::ALL.iter().take(STATES).enumerate().filter_map(of).collect()
    }
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
        for account in self.threads.values_mut() {
            account.certain = account.last.seen;
            account.cell_seen = account.last.seen;
            account.exact = std::mem::take(&mut account.in_cell).amounts;
        }
        self.all.exact = std::mem::take(&mut self.all.in_cell).amounts;
        self.since = Some(start);
        self.all.certain = self.threads.values().map(|account| account.certain).sum();
        for account in self.locks.values_mut() {
            account.born = Nanos::ZERO;
            account.certain = account.last.seen;
            account.exact = std::mem::take(&mut account.in_cell).amounts;
        }
    }
}

impl Account<OF_LOCK> {
    fn found(seen: Nanos) -> Self {
        let last = Reading { seen, ..Reading::default() };
        Self { last, born: seen, ..Self::default() }
    }

    fn estimate(&self, lock: LockId, whole: Nanos) -> LockEstimate {
        let whole = whole.saturating_sub(self.born);
        let (time, count) = (|index| self.time(index, whole, Parts::time_in), |index| self.count(index, whole));
        let nothing = LockEstimate { lock, held: None, contended: None, waited: None, holds: None, waits: None };
        if !self.is_estimable() {
            return nothing;
        }
        LockEstimate {
            held: time(0),
            contended: time(1),
            waited: self.time(2, whole, Parts::times_in),
            holds: count(3),
            waits: count(4),
            ..nothing
        }
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

fn reading_of_lock(lock: &LockAccount, seen: Nanos) -> Reading<OF_LOCK> {
    let waited = lock.blamed + lock.handoff + lock.wait_unknown;
    let [held, contended, waited] = [lock.ownerships.held, lock.contended, waited].map(signed);
    let [acquired, wanted] = [lock.acquired, lock.wanted].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let probed = [lock.probed.held, lock.probed.contended, lock.probed.waited, Nanos::ZERO, Nanos::ZERO];
    Reading {
        amounts: [held, contended, waited, acquired, wanted],
        seen,
        unknown: lock.ownerships.unknown,
        probed: probed.map(signed),
        probed_seen: signed(lock.ownerships.probed),
    }
}

fn reading_of_thread(thread: &ThreadAccount) -> Reading<OF_THREAD> {
    let [inside, waiting, outside] = thread.probed;
    // A thread in a probe is on a CPU; whoever waits for it waits in a queue.
    let probed_in = |state| match state {
        State::HeldRunning => inside,
        State::WaitQueued => waiting,
        State::OutsideRunning => outside,
        _ => Nanos::ZERO,
    };
    Reading {
        amounts: amounts(|state| thread.times.get(state), thread.unresolved()),
        seen: thread.charged_until.saturating_since(thread.first_seen),
        unknown: thread.times.get(State::Unknown),
        probed: amounts(probed_in, [Nanos::ZERO; 2]),
        probed_seen: thread.probed.into_iter().map(signed).sum(),
    }
}

/// Each state, and each class; the time inside and outside whose state is not yet known belongs to a class all the same.
fn amounts(time_in: impl Fn(State) -> Nanos, unresolved: [Nanos; 2]) -> [i64; OF_THREAD] {
    let mut amounts = [0; OF_THREAD];
    for (state, amount) in State::ALL.iter().take(STATES).zip(&mut amounts) {
        *amount = signed(time_in(*state));
    }
    let [inside, outside] = unresolved;
    for ((class, more), place) in CLASSES.iter().zip([inside, Nanos::ZERO, outside]).zip(STATES..) {
        let states = State::ALL.iter().filter(|state| state.class() == *class);
        amounts[place] = signed(states.map(|state| time_in(*state)).sum::<Nanos>() + more);
    }
    amounts
}

fn signed(time: Nanos) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
