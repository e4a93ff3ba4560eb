//! When to take lock events, so that probes do not cost the target more than they may: everything while that is cheap enough,
//! else windows.
//!
//! Time is divided into cells. In each, one stretch of a length that was decided when the cell began is observed; it begins
//! at a random moment of the cell and, past the cell's end, goes on at its beginning. So every moment of a cell has the same
//! chance to be seen, whatever the program does and with whatever rhythm. Invariant: what a cell and its window are like
//! depends on the past alone, never on what the window shows.

use std::collections::VecDeque;

use crate::{
    estimate::{random::Random, wide},
    model::time::{MonoNanos, Nanos},
};

/// Aimed at, as a part of the budget: the cost of one event is measured at its best, and switching costs a little, too.
const AIM: f64 = 0.85;
/// Time whose budget may be spent at once: at the beginning, and later when nothing was spent for a while.
const FIRST_CREDIT: Nanos = Nanos::from_millis(300);
const MOST_CREDIT: Nanos = Nanos::from_millis(1_000);
/// How long everything must have been observed for the rate of events to be known.
const FIRST_LOOK: Nanos = Nanos::from_millis(10);
/// What everything cost at the end of a stretch in which it was observed is known from so long, up to twice.
const LATELY: Nanos = Nanos::from_millis(50);
/// A window's length at first; it grows with the number of windows, so that short recordings have some, too.
const SHORTEST_WINDOW: f64 = 10e6;
const GROWTH: f64 = 24.0;
const LONGEST_WINDOW: f64 = 50e6;
/// A cell is no longer, however little of it may be observed.
const LONGEST_CELL: f64 = 1e9;
/// Of a cell of which only a part is observed, this much may be.
const LARGEST_PART: f64 = 0.9;
/// If all events together cost no more than this part of the budget, they are taken again.
const CALM: f64 = 0.7;
/// The cells from which the cost of taking everything is known.
const MEMORY: usize = 8;
/// How long before a window events are taken again, at first, at least and at most.
const FIRST_LEAD: f64 = 2e6;
const SHORTEST_LEAD: f64 = 0.2e6;
const LONGEST_LEAD: f64 = 10e6;
/// If we get a CPU later than that after a cell's end, the next one begins only then.
const MOST_LATE: Nanos = Nanos::from_millis(50);
/// How much of what was spent beyond the budget is saved in one cell.
const REPAID: f64 = 0.25;

/// What to do now. Moments are those that were planned, whenever we got a CPU: what the program did while we had none must not
/// decide what is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// A cell begins at this moment.
    BeginCell(MonoNanos),
    /// Take lock events: the window begins at the first moment, or as soon as that is possible, and ends at the second.
    Open(MonoNanos, MonoNanos),
    /// Take none: the window ended at this moment.
    Close(MonoNanos),
}

/// Keeps what is spent below what may be.
#[derive(Debug)]
pub(super) struct Pacer {
    /// The part of the elapsed time that may be spent.
    budget: f64,
    /// What may be spent at once, in nanoseconds; less than nothing: too much was.
    credit: f64,
    looked: MonoNanos,
    spent: Nanos,
    /// What observing everything cost lately: time observed, and what was spent in it.
    costs: VecDeque<(f64, f64)>,
    /// When the present cell began, and what had been spent by then.
    since: (MonoNanos, Nanos),
    /// The same of two moments lately, while everything is observed.
    lately: [(MonoNanos, Nanos); 2],
    cell: Option<Cell>,
    cells: u32,
    open: bool,
    /// When the present window is to begin; before that it is not over.
    opening: MonoNanos,
    /// How long before its window begins events must be taken again.
    lead: f64,
    dearest: f64,
    random: Random,
}

/// A stretch of time, in nanoseconds since it began.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cell {
    began: MonoNanos,
    length: f64,
    /// Where its window begins, and how long that is.
    offset: f64,
    window: f64,
}

impl Cell {
    /// Whether the moment `at` after its beginning lies in the window.
    fn is_open(&self, at: f64) -> bool {
        (at - self.offset).rem_euclid(self.length) < self.window
    }

    fn is_whole(&self) -> bool {
        self.window >= self.length
    }

    /// How far into the cell `now` is.
    fn position(&self, now: MonoNanos) -> f64 {
        wide(now.saturating_since(self.began).as_nanos())
    }

    fn moment(&self, position: f64) -> MonoNanos {
        self.began.later_by(Nanos::from_nanos(whole(position)))
    }

    /// The last moment up to `at` at which something changed.
    fn last_change(&self, at: f64) -> f64 {
        self.edges().into_iter().filter(|edge| *edge <= at).fold(0.0, f64::max)
    }

    /// The next moment after `at` at which something changes.
    fn next_change(&self, at: f64) -> f64 {
        self.edges().into_iter().filter(|edge| *edge > at).fold(self.length, f64::min)
    }
}

impl Cell {
    fn edges(&self) -> [f64; 4] {
        let end = self.offset + self.window;
        [self.offset, end, end - self.length, self.length]
    }
}

impl Pacer {
    /// Begins now, with everything observed.
    pub(super) fn new(budget: f64, now: MonoNanos, seed: u64) -> Self {
        Self {
            budget,
            credit: budget * wide(FIRST_CREDIT.as_nanos()),
            looked: now,
            spent: Nanos::ZERO,
            costs: VecDeque::new(),
            since: (now, Nanos::ZERO),
            lately: [(now, Nanos::ZERO); 2],
            cell: None,
            cells: 0,
            open: true,
            opening: now,
            lead: FIRST_LEAD,
            dearest: 0.0,
            random: Random::seeded(seed),
        }
    }

    /// What is to be done at this moment, by which `spent` has been spent in all; to be asked again until there is nothing.
    pub(super) fn order(&mut self, now: MonoNanos, spent: Nanos) -> Option<Order> {
        self.account(now, spent);
        let Some(cell) = self.cell else {
            return self.is_too_much(now).then(|| self.begin_cell(now));
        };
        let end = cell.moment(cell.length);
        // Also of a cell that is over by now.
        let at = cell.position(now).min(cell.length - 1.0);
        if self.open && now >= self.opening && !cell.is_open(at) {
            self.open = false;
            return Some(Order::Close(cell.moment(cell.last_change(at))));
        }
        if now >= end {
            let late = now.saturating_since(end) > MOST_LATE;
            return Some(self.begin_cell(if late { now } else { end }));
        }
        if cell.is_whole() && self.is_too_much(now) {
            return Some(self.begin_cell(now));
        }
        let begins = if cell.is_open(at) { at } else { cell.next_change(at) };
        let due = cell.is_open(begins) && begins - at <= self.lead;
        (due && !self.open).then(|| {
            (self.open, self.opening) = (true, cell.moment(begins));
            Order::Open(self.opening, cell.moment(cell.next_change(begins)))
        })
    }

    /// Until the window could begin, it took so long.
    pub(super) fn opened_in(&mut self, time: Nanos) {
        self.lead = (self.lead * 0.75 + wide(time.as_nanos()) * 0.5).clamp(SHORTEST_LEAD, LONGEST_LEAD);
    }

    /// The next moment at which something changes: what comes from there on can be booked only then.
    pub(super) fn next_edge(&self) -> Option<MonoNanos> {
        let cell = self.cell?;
        Some(cell.moment(cell.next_change(cell.position(self.looked))))
    }

    /// The part of the time that taking all events would have taken when it was dearest.
    pub(super) fn dearest(&self) -> f64 {
        self.dearest
    }

    /// How long until there is something to be done.
    pub(super) fn until_next(&self, now: MonoNanos) -> Option<Nanos> {
        let cell = self.cell?;
        let at = cell.position(now);
        let change = cell.next_change(at) - at;
        // Events must be taken again some time before.
        let due = if self.open || change <= self.lead { change } else { change - self.lead };
        Some(Nanos::from_nanos(whole(due)))
    }

    fn account(&mut self, now: MonoNanos, spent: Nanos) {
        let elapsed = wide(now.saturating_since(self.looked).as_nanos());
        let news = wide(spent.saturating_sub(self.spent).as_nanos());
        let most = self.budget * wide(MOST_CREDIT.as_nanos());
        self.credit = (self.credit + self.budget * elapsed - news).min(most.max(self.credit));
        (self.looked, self.spent) = (now, self.spent.max(spent));
        if now.saturating_since(self.lately[1].0) >= LATELY {
            self.lately = [self.lately[1], (now, self.spent)];
        }
    }

    /// Whether everything is observed and that has become too dear.
    fn is_too_much(&self, now: MonoNanos) -> bool {
        self.credit < 0.0 && now.saturating_since(self.lately[0].0) >= FIRST_LOOK
    }

    fn begin_cell(&mut self, now: MonoNanos) -> Order {
        self.remember(now);
        let (length, window) = self.plan();
        let offset = self.random.unit() * length;
        self.cell = Some(Cell { began: now, length, offset, window });
        self.cells = self.cells.saturating_add(1);
        self.since = (now, self.spent);
        Order::BeginCell(now)
    }

    /// Notes what the cell that is over has cost, or all that was before the first.
    fn remember(&mut self, now: MonoNanos) {
        let everything = self.cell.is_none_or(|cell| cell.is_whole());
        // It may have become dearer only now: what it cost long before does not matter.
        let (since, before) = if everything { self.lately[0] } else { self.since };
        let elapsed = wide(now.saturating_since(since).as_nanos());
        let observed = self.cell.map_or(elapsed, |cell| elapsed.min(cell.window));
        if everything {
            self.costs.clear();
        }
        let cost = wide(self.spent.saturating_sub(before).as_nanos());
        self.costs.push_back((observed, cost));
        self.dearest = self.dearest.max(if observed > 0.0 { cost / observed } else { 0.0 });
        if self.costs.len() > MEMORY {
            self.costs.pop_front();
        }
    }

    /// The length of the next cell and of its window.
    fn plan(&self) -> (f64, f64) {
        let (observed, spent) = self.costs.iter().fold((0.0, 0.0), |(time, cost), part| (time + part.0, cost + part.1));
        let dear = if observed > 0.0 { spent / observed } else { 0.0 };
        if dear <= CALM * self.budget && self.credit >= 0.0 {
            return (LONGEST_CELL, LONGEST_CELL);
        }
        let part = if dear > 0.0 { (AIM * self.budget / dear).min(LARGEST_PART) } else { LARGEST_PART };
        let window = (SHORTEST_WINDOW * (1.0 + f64::from(self.cells) / GROWTH)).min(LONGEST_WINDOW);
        // Neither what is observed nor what is not should be shorter than that.
        let length = (window / part.min(1.0 - part)).min(LONGEST_CELL);
        let window = part * length;
        (length + REPAID * (-self.credit).max(0.0) / self.budget, window)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded up, never negative, saturating")]
fn whole(number: f64) -> u64 {
    number.ceil() as u64
}

#[cfg(test)]
mod tests;
