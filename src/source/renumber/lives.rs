//! Who had which inner number when. Pure.
//!
//! The kernel gives inner numbers and ours in one step, both in ascending order until they run over. So between two threads
//! whose inner numbers are known, as many apart as births were seen between them, the others' are certain; and after the last
//! one known, a number fits a thread if all before it fit, or if no other without a number lived at the time.

use std::collections::VecDeque;

use crate::model::{ids::Tid, time::MonoNanos};

/// One thread's life under one number of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Life {
    outer: Tid,
    inner: Option<i32>,
    born: MonoNanos,
    ended: Option<MonoNanos>,
}

/// The lives of the threads of one process, in order of birth.
#[derive(Debug, Default)]
pub(super) struct Lives(VecDeque<Life>);

impl Lives {
    /// `outer` was created at `at`.
    pub(super) fn on_born(&mut self, outer: Tid, at: MonoNanos) {
        // One that was seen before its birth is told of is no other.
        let known = self.of(outer).is_some_and(|life| life.ended.is_none() && life.inner.is_some());
        if !known {
            self.0.push_back(Life { outer, inner: None, born: at, ended: None });
        }
    }

    /// `outer` ended at `at`.
    pub(super) fn on_ended(&mut self, outer: Tid, at: MonoNanos) {
        if let Some(life) = self.of(outer) {
            life.ended = Some(at);
        }
    }

    /// Those alive whose inner number is not known.
    pub(super) fn nameless(&self) -> Vec<Tid> {
        self.0.iter().filter(|life| life.inner.is_none() && life.ended.is_none()).map(|life| life.outer).collect()
    }

    /// `outer`, which is alive, has this inner number.
    pub(super) fn on_named(&mut self, outer: Tid, inner: i32) {
        if let Some(life) = self.of(outer) {
            life.inner = Some(inner);
            self.name_between();
        }
    }

    /// `outer`, alive now and since `since` at least, has this inner number.
    pub(super) fn was_there(&mut self, outer: Tid, inner: i32, since: MonoNanos) {
        let known = self.of(outer).is_some_and(|life| life.ended.is_none());
        if known {
            self.on_named(outer, inner);
        } else {
            self.0.push_back(Life { outer, inner: Some(inner), born: since, ended: None });
        }
    }

    /// Our number of the thread that had `inner` at `at`; `None` if that cannot be told.
    pub(super) fn bearer(&mut self, inner: i32, at: MonoNanos) -> Option<Tid> {
        let named = self.0.iter().rev().find(|life| life.inner == Some(inner) && life.spans(at));
        if let Some(life) = named {
            return Some(life.outer);
        }
        let place = self.expected(inner, at).or_else(|| self.only_nameless(at))?;
        self.0[place].inner = Some(inner);
        Some(self.0[place].outer)
    }

    /// Forgets those that ended before `at`, but not the last one whose number is known.
    pub(super) fn forget_before(&mut self, at: MonoNanos) {
        let last = self.0.iter().rposition(|life| life.inner.is_some());
        let mut place = 0;
        self.0.retain(|life| {
            let keep = Some(place) == last || life.ended.is_none_or(|ended| ended >= at);
            place += 1;
            keep
        });
    }

    fn of(&mut self, outer: Tid) -> Option<&mut Life> {
        self.0.iter_mut().rev().find(|life| life.outer == outer)
    }

    /// Names those between two known ones that are as many numbers apart as births.
    fn name_between(&mut self) {
        let known: Vec<(usize, i32)> =
            self.0.iter().enumerate().filter_map(|(place, life)| Some((place, life.inner?))).collect();
        for pair in known.windows(2) {
            let [(from, low), (to, high)] = [pair[0], pair[1]];
            if usize::try_from(high.wrapping_sub(low)) == Ok(to - from) {
                for (inner, life) in (low..).zip(self.0.range_mut(from..to)) {
                    life.inner = Some(inner);
                }
            }
        }
    }

    /// The nameless one that comes as many births after the last known one as `inner` after that one's number.
    fn expected(&self, inner: i32, at: MonoNanos) -> Option<usize> {
        let (place, known) = self.0.iter().enumerate().rev().find_map(|(place, life)| Some((place, life.inner?)))?;
        let distance = usize::try_from(inner.checked_sub(known)?).ok().filter(|distance| *distance > 0)?;
        let life = self.0.get(place.checked_add(distance)?)?;
        life.spans(at).then_some(place + distance)
    }

    fn only_nameless(&self, at: MonoNanos) -> Option<usize> {
        let mut fitting = self.0.iter().enumerate().filter(|(_, life)| life.inner.is_none() && life.spans(at));
        let (place, _) = fitting.next()?;
        fitting.next().is_none().then_some(place)
    }
}

impl Life {
    fn spans(&self, at: MonoNanos) -> bool {
        self.born <= at && self.ended.is_none_or(|ended| at <= ended)
    }
}

#[cfg(test)]
mod tests {
    use super::Lives;
    use crate::model::{ids::Tid, time::MonoNanos};

    fn tid(raw: i32) -> Tid {
        Tid::from_raw(raw).unwrap()
    }

    fn at(nanos: u64) -> MonoNanos {
        MonoNanos::from_monotonic(nanos)
    }

    /// The first thread, 100 outside and 1 inside, and others born at 10, 20, … whose numbers are not known.
    fn lives(others: &[i32]) -> Lives {
        let mut lives = Lives::default();
        lives.was_there(tid(100), 1, at(0));
        (1..).zip(others).for_each(|(turn, outer)| lives.on_born(tid(*outer), at(10 * turn)));
        lives
    }

    #[test]
    fn a_number_used_twice_belongs_to_who_lived_then() {
        let mut lives = lives(&[101]);
        lives.on_named(tid(101), 2);
        lives.on_ended(tid(101), at(20));
        lives.on_born(tid(102), at(30));
        lives.on_named(tid(102), 2);
        assert_eq!(lives.bearer(2, at(15)), Some(tid(101)));
        assert_eq!(lives.bearer(2, at(35)), Some(tid(102)));
        assert_eq!(lives.bearer(1, at(35)), Some(tid(100)));
    }

    #[test]
    fn who_died_unasked_is_told_by_its_place() {
        let mut lives = lives(&[101, 102, 103]);
        [101, 102].iter().for_each(|outer| lives.on_ended(tid(*outer), at(50)));
        lives.on_named(tid(103), 4);
        assert_eq!([2, 3].map(|inner| lives.bearer(inner, at(40))), [Some(tid(101)), Some(tid(102))]);
    }

    #[test]
    fn the_newest_are_told_by_counting_and_a_single_one_by_being_it() {
        let mut counted = lives(&[101, 102]);
        assert_eq!(counted.bearer(3, at(25)), Some(tid(102)));
        // Another process took numbers 2 to 6.
        let mut single = lives(&[101]);
        assert_eq!(single.bearer(7, at(15)), Some(tid(101)));
        let mut either = lives(&[101, 102]);
        assert_eq!(either.bearer(7, at(25)), None);
    }

    #[test]
    fn the_dead_are_forgotten_and_get_no_more_events() {
        let mut lives = lives(&[101]);
        lives.on_named(tid(101), 2);
        lives.on_ended(tid(101), at(20));
        assert_eq!(lives.bearer(2, at(21)), None);
        lives.forget_before(at(30));
        assert_eq!(lives.0.len(), 2, "the last known number is kept to count from");
        lives.on_born(tid(102), at(40));
        assert_eq!(lives.bearer(3, at(41)), Some(tid(102)));
        lives.forget_before(at(50));
        assert_eq!(lives.0.len(), 2);
    }
}
