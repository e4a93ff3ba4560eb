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
/// Time whose budget may besides be spent in advance while everything is observed from the beginning on, so that a program that
/// is over soon, and does most when it starts, is seen whole. It is saved in the first cell.
const ADVANCE: Nanos = Nanos::from_millis(300);
/// How long everything must have been observed for the rate of events to be known.
const FIRST_LOOK: Nanos = Nanos::from_millis(2);
/// What everything costs lately is known from so long.
const LATELY: Nanos = Nanos::from_millis(50);
/// While everything is observed, what was spent is looked at so often: in the first moments, and when it is dear.
const WATCHFUL: Nanos = Nanos::from_millis(1);
const FIRST_MOMENTS: Nanos = Nanos::from_millis(100);
/// A window's length at first; it grows with the number of windows, so that short recordings have some, too.
const SHORTEST_WINDOW: f64 = 10e6;
const GROWTH: f64 = 24.0;
const LONGEST_WINDOW: f64 = 50e6;
/// A cell is no longer, however little of it may be observed; at first, so that short recordings have several.
const FIRST_CELL: f64 = 250e6;
const LONGEST_CELL: f64 = 1e9;
/// A shorter window makes a cell longer than the first ones: it would show hardly more than its edges.
const LEAST_WINDOW: f64 = 1e6;
/// Of a cell of which only a part is observed, this much may be.
const LARGEST_PART: f64 = 0.9;
/// If all events together cost no more than this part of the budget, they are taken again.
const CALM: f64 = 0.7;
/// The cells from which the cost of taking everything is known.
const MEMORY: usize = 8;
/// How long before a window events are taken again, at first, at least and at most.
const FIRST_LEAD: f64 = 2e6;
const SHORTEST_LEAD: f64 = 0.2e6;
const LONGEST_LEAD: f64 = 20e6;
/// If we get a CPU later than that after a cell's end, the next one begins only then.
const MOST_LATE: Nanos = Nanos::from_millis(50);

/// What to do now. Moments are those that were planned, whenever we got a CPU: what the program did while we had none must not
/// decide what is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// A cell begins at this moment.
    BeginCell(MonoNanos),
    /// Take lock events; once that is done, [`Pacer::begun`] tells when the window begins.
    Open,
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
    began: MonoNanos,
    looked: MonoNanos,
    spent: Nanos,
    /// What observing everything cost lately: time observed, and what was spent in it.
    costs: VecDeque<(f64, f64)>,
    /// When the present cell began, and what had been spent by then.
    since: (MonoNanos, Nanos),
    /// What had been spent at moments lately.
    lately: Lately,
    cell: Option<Cell>,
    cells: u32,
    open: bool,
    /// When the present window, or its present piece, begins, and when it ends; `None` while everything is observed.
    opening: MonoNanos,
    closing: Option<MonoNanos>,
    /// How many pieces of the present cell's window have been begun.
    pieces_begun: usize,
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

/// A part of a cell's window, in nanoseconds since the cell began: the window of most cells has only one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Piece {
    begin: f64,
    end: f64,
}

impl Cell {
    fn is_whole(&self) -> bool {
        self.window >= self.length
    }

    /// The parts of its window: what lies past the cell's end goes on at its beginning.
    fn pieces(&self) -> [Option<Piece>; 2] {
        let Self { length, offset, window, .. } = *self;
        match offset + window - length {
            _ if self.is_whole() => [Some(Piece { begin: 0.0, end: length }), None],
            beyond if beyond > 0.0 => {
                [Some(Piece { begin: 0.0, end: beyond }), Some(Piece { begin: offset, end: length })]
            }
            _ => [Some(Piece { begin: offset, end: offset + window }), None],
        }
    }

    /// How far into the cell `now` is.
    fn position(&self, now: MonoNanos) -> f64 {
        wide(now.saturating_since(self.began).as_nanos())
    }

    fn moment(&self, position: f64) -> MonoNanos {
        self.began.later_by(Nanos::from_nanos(whole(position)))
    }

    fn end(&self) -> MonoNanos {
        self.moment(self.length)
    }
}

impl Pacer {
    /// Everything has been observed since `start`, some time ago.
    pub(super) fn new(budget: f64, start: MonoNanos, seed: u64) -> Self {
        Self {
            budget,
            credit: budget * wide(FIRST_CREDIT.as_nanos()),
            looked: start,
            spent: Nanos::ZERO,
            costs: VecDeque::new(),
            since: (start, Nanos::ZERO),
            began: start,
            lately: Lately::since(start),
            cell: None,
            cells: 0,
            open: true,
            opening: start,
            closing: None,
            pieces_begun: 0,
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
        if let Some(at) = self.close(now) {
            return Some(Order::Close(at));
        }
        let end = cell.end();
        if now >= end {
            let late = now.saturating_since(end) > MOST_LATE;
            return Some(self.begin_cell(if late { now } else { end }));
        }
        if cell.is_whole() && self.is_too_much(now) {
            return Some(self.begin_cell(now));
        }
        let due = self.next_piece().filter(|piece| piece.begin - cell.position(now) <= self.lead && !self.open)?;
        self.enter(due);
        Some(Order::Open)
    }

    /// The moment at which the window has ended, if it has and that has not been told yet. To be asked before anything that takes
    /// time: events cost as long as they are taken.
    pub(super) fn close(&mut self, now: MonoNanos) -> Option<MonoNanos> {
        let closing = self.closing.filter(|closing| self.open && now >= *closing)?;
        self.open = false;
        Some(closing)
    }

    /// Events are taken since `ready`. Tells when the window begins: as planned, or now if that is later, and then it ends later,
    /// too; `None` when the cell is over.
    pub(super) fn begun(&mut self, ready: MonoNanos) -> Option<MonoNanos> {
        let end = self.cell?.end();
        let late = ready.saturating_since(self.opening);
        self.closing = self.closing.map(|closing| closing.later_by(late).min(end));
        Some(self.opening.max(ready)).filter(|begins| *begins < end)
    }

    /// Until the window could begin, it took so long.
    pub(super) fn opened_in(&mut self, time: Nanos) {
        self.lead = (self.lead * 0.75 + wide(time.as_nanos()) * 0.3).clamp(SHORTEST_LEAD, LONGEST_LEAD);
    }

    /// The next moment at which something changes: what comes from there on can be booked only then.
    pub(super) fn next_edge(&self) -> Option<MonoNanos> {
        let cell = self.cell?;
        let opening = self.next_piece().map(|piece| cell.moment(piece.begin));
        let next = if self.open { self.closing } else { opening };
        Some(next.filter(|edge| *edge > self.looked).unwrap_or(cell.end()))
    }

    fn next_piece(&self) -> Option<Piece> {
        self.cell?.pieces().get(self.pieces_begun).copied().flatten()
    }

    fn enter(&mut self, piece: Piece) {
        let Some(cell) = self.cell else { return };
        self.pieces_begun += 1;
        self.open = true;
        self.opening = cell.moment(piece.begin);
        self.closing = (!cell.is_whole()).then(|| cell.moment(piece.end));
    }

    /// The part of the time that taking all events would have taken when it was dearest.
    pub(super) fn dearest(&self) -> f64 {
        self.dearest
    }

    /// How long until there is something to be done.
    pub(super) fn until_next(&self, now: MonoNanos) -> Option<Nanos> {
        let Some(cell) = self.cell.filter(|cell| !cell.is_whole()) else {
            return self.is_watchful(now).then_some(WATCHFUL);
        };
        // Events must be taken again some time before.
        let arming = |piece: Piece| cell.moment((piece.begin - self.lead).max(0.0));
        let next = if self.open { self.closing } else { self.next_piece().map(arming) };
        Some(next.unwrap_or(cell.end()).saturating_since(now))
    }

    fn account(&mut self, now: MonoNanos, spent: Nanos) {
        let elapsed = wide(now.saturating_since(self.looked).as_nanos());
        let news = wide(spent.saturating_sub(self.spent).as_nanos());
        let most = self.budget * wide(MOST_CREDIT.as_nanos());
        self.credit = (self.credit + self.budget * elapsed - news).min(most.max(self.credit));
        (self.looked, self.spent) = (now, self.spent.max(spent));
        self.lately.note((now, self.spent));
    }

    /// Whether everything is observed and that has become too dear.
    fn is_too_much(&self, now: MonoNanos) -> bool {
        let advance = if self.cell.is_none() { self.budget * wide(ADVANCE.as_nanos()) } else { 0.0 };
        self.credit < -advance && now.saturating_since(self.began) >= FIRST_LOOK
    }

    /// Whether everything may soon have become too dear.
    fn is_watchful(&self, now: MonoNanos) -> bool {
        let (time, cost) = self.lately.average();
        now.saturating_since(self.began) < FIRST_MOMENTS || cost > CALM * self.budget * time
    }

    fn begin_cell(&mut self, now: MonoNanos) -> Order {
        self.remember(now);
        let (length, window) = self.plan();
        let offset = self.random.unit() * length;
        self.cell = Some(Cell { began: now, length, offset, window });
        self.pieces_begun = 0;
        match self.next_piece() {
            Some(first) if self.open && first.begin == 0.0 => self.enter(first),
            // What has been observed until now is over.
            _ => self.closing = Some(now),
        }
        self.cells = self.cells.saturating_add(1);
        self.since = (now, self.spent);
        Order::BeginCell(now)
    }

    /// Notes what the cell that is over has cost, or all that was before the first.
    fn remember(&mut self, now: MonoNanos) {
        let (observed, cost) = match self.cell.filter(|cell| !cell.is_whole()) {
            Some(cell) => {
                let elapsed = wide(now.saturating_since(self.since.0).as_nanos());
                (elapsed.min(cell.window), wide(self.spent.saturating_sub(self.since.1).as_nanos()))
            }
            None => {
                // What it cost long before does not matter; and if it is too much now, it may have become so only now.
                self.costs.clear();
                if self.credit < 0.0 { self.lately.dearest() } else { self.lately.average() }
            }
        };
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
        let longest = (FIRST_CELL * (1.0 + f64::from(self.cells) / 4.0)).max(LEAST_WINDOW / part).min(LONGEST_CELL);
        // Neither what is observed nor what is not should be shorter than that.
        let length = (window / part.min(1.0 - part)).min(longest);
        let window = part * length;
        // What was spent beyond the budget is saved at once.
        (length + (-self.credit).max(0.0) / self.budget, window)
    }
}

/// What had been spent at some moments of the last [`LATELY`].
#[derive(Debug)]
struct Lately(VecDeque<(MonoNanos, Nanos)>);

impl Lately {
    fn since(start: MonoNanos) -> Self {
        Self(VecDeque::from([(start, Nanos::ZERO)]))
    }

    fn note(&mut self, now: (MonoNanos, Nanos)) {
        let far = |then: &(MonoNanos, Nanos), from| now.0.saturating_since(then.0) >= from;
        // The last one is the present, until it is as old as a rate takes to be known.
        let before = self.0.len().checked_sub(2).and_then(|index| self.0.get(index));
        if before.is_some_and(|before| !far(before, FIRST_LOOK)) {
            self.0.pop_back();
        }
        self.0.push_back(now);
        while self.0.get(1).is_some_and(|next| far(next, LATELY)) {
            self.0.pop_front();
        }
    }

    /// The time from a moment to the present, and what was spent in it.
    fn from(&self, (at, before): (MonoNanos, Nanos)) -> (f64, f64) {
        let (now, spent) = self.0.back().copied().unwrap_or((at, before));
        (wide(now.saturating_since(at).as_nanos()), wide(spent.saturating_sub(before).as_nanos()))
    }

    fn average(&self) -> (f64, f64) {
        self.0.front().map_or((0.0, 0.0), |first| self.from(*first))
    }

    /// The time up to now in which most was spent, in proportion.
    fn dearest(&self) -> (f64, f64) {
        let known = wide(FIRST_LOOK.as_nanos());
        let stretches = self.0.iter().map(|then| self.from(*then)).filter(|(time, _)| *time >= known);
        stretches.max_by(|one, other| (one.1 / one.0).total_cmp(&(other.1 / other.0))).unwrap_or(self.average())
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded up, never negative, saturating")]
fn whole(number: f64) -> u64 {
    number.ceil() as u64
}

#[cfg(test)]
mod tests;
