//! Stops of the world, told from the sleeps of those who take part: the thread that requests one sleeps, a millisecond at a
//! time, until all others have stopped; each of them sleeps until the world goes on.
//!
//! ```text
//! requester  ├ waits ┤ alone in the world │
//! another        ├─── suspended ──────────┤ goes on: the pause is over
//! a third    asleep elsewhere    ├ wants to go on ┤
//! ```
//!
//! A request that finds everybody asleep waits for nobody, and is told only by threads that want to go on meanwhile: who made
//! it is not known. One that nobody notices is none. Invariant: the pauses of all requesters are all pauses.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use crate::{
    ledger::parking::Shares,
    model::{
        event::ParkPlace,
        ids::Tid,
        parking::{Request, Stops, Stretches},
        time::{MonoNanos, Nanos},
    },
};

/// A thread that has stopped for a request sleeps by then, and a requester that waits on sleeps again.
const SOON: Nanos = Nanos::from_millis(1);
/// Requesters that are told one by one.
const MOST_REQUESTERS: usize = 256;

/// The book of stops.
#[derive(Debug, Clone, Default)]
pub(super) struct StopBook {
    current: Option<Stop>,
    pauses: Stretches,
    requesters: FxHashMap<Option<Tid>, Request>,
    suspended: Shares<Tid>,
}

/// A stop that is not over.
#[derive(Debug, Clone)]
struct Stop {
    began: MonoNanos,
    /// Who is known to have requested it, and how it waits.
    requester: Option<(Tid, Waiting)>,
    /// Those that have been suspended in it.
    members: Vec<Tid>,
}

/// How the requester waits for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Since(MonoNanos),
    /// It has waited so long from the first moment, up to here; `more`: it was still in vain.
    Until {
        first: MonoNanos,
        last: MonoNanos,
        more: bool,
    },
}

impl StopBook {
    pub(super) fn on_begun(&mut self, (tid, now): (Tid, MonoNanos), place: ParkPlace) {
        match place {
            ParkPlace::StopRequest(_) => self.on_request(tid, now),
            ParkPlace::Suspended => self.on_suspended(tid, now),
            ParkPlace::Mutex(_) | ParkPlace::Elsewhere => {}
        }
    }

    /// `in_vain`: it was not woken.
    pub(super) fn on_ended(
        &mut self,
        (tid, now): (Tid, MonoNanos),
        began: MonoNanos,
        (place, in_vain): (ParkPlace, bool),
    ) {
        match place {
            ParkPlace::StopRequest(_) => {
                let requester = self.current.as_mut().and_then(|stop| stop.requester.as_mut());
                if let Some((_, waiting)) = requester.filter(|(requester, _)| *requester == tid)
                    && let Waiting::Since(first) = *waiting
                {
                    *waiting = Waiting::Until { first, last: now, more: in_vain };
                }
            }
            ParkPlace::Suspended => {
                self.suspended.add(tid, now.saturating_since(began));
                // Interrupted by a signal, it sleeps again.
                if !in_vain && self.current.as_ref().is_some_and(|stop| stop.members.contains(&tid)) {
                    self.close_current(now);
                }
            }
            ParkPlace::Mutex(_) | ParkPlace::Elsewhere => {}
        }
    }

    pub(super) fn close(mut self, now: MonoNanos) -> Stops {
        self.close_current(now);
        let mut requesters: Vec<_> = self.requesters.into_iter().collect();
        requesters.sort_by_key(|(tid, request)| (Reverse(request.pauses.total), *tid));
        Stops { pauses: self.pauses, requesters, suspended: self.suspended.into_list() }
    }

    fn on_request(&mut self, tid: Tid, now: MonoNanos) {
        match &mut self.current {
            // The next slice of the same wait.
            Some(Stop { requester: Some((requester, waiting)), .. }) if *requester == tid && waiting.goes_on(now) => {
                *waiting = Waiting::Since(waiting.first());
            }
            // Others were quicker to sleep than the one that they stop for.
            Some(stop) if stop.requester.is_none() && now.saturating_since(stop.began) <= SOON => {
                stop.requester = Some((tid, Waiting::Since(now)));
            }
            _ => {
                self.close_current(now);
                self.current =
                    Some(Stop { began: now, requester: Some((tid, Waiting::Since(now))), members: Vec::new() });
            }
        }
    }

    fn on_suspended(&mut self, tid: Tid, now: MonoNanos) {
        match &mut self.current {
            Some(stop) if stop.stands(now) => {
                // One whose sleep was interrupted sleeps again.
                if !stop.members.contains(&tid) {
                    stop.members.push(tid);
                }
            }
            _ => {
                self.close_current(now);
                self.current = Some(Stop { began: now, requester: None, members: vec![tid] });
            }
        }
    }

    fn close_current(&mut self, now: MonoNanos) {
        let Some(stop) = self.current.take() else { return };
        let waited = stop.requester.map(|(_, waiting)| (waiting.first(), waiting.last(now)));
        let end = match waited {
            // Nobody has been seen to sleep for it.
            Some((_, last)) if stop.members.is_empty() => last,
            _ => now,
        };
        let length = end.saturating_since(stop.began);
        self.pauses.add(length);
        let requester = stop.requester.map(|(tid, _)| tid);
        let known = self.requesters.contains_key(&requester) || self.requesters.len() < MOST_REQUESTERS;
        let request = self.requesters.entry(requester.filter(|_| known)).or_default();
        request.pauses.add(length);
        request.waited += waited.map_or(Nanos::ZERO, |(first, last)| last.saturating_since(first));
    }
}

impl Stop {
    /// Whether a thread that begins to sleep now does so for this stop.
    fn stands(&self, now: MonoNanos) -> bool {
        !self.members.is_empty()
            || self.requester.is_some_and(|(_, waiting)| now.saturating_since(waiting.last(now)) <= SOON)
    }
}

impl Waiting {
    fn first(self) -> MonoNanos {
        match self {
            Self::Since(first) | Self::Until { first, .. } => first,
        }
    }

    /// The last moment of it by `now`.
    fn last(self, now: MonoNanos) -> MonoNanos {
        match self {
            Self::Since(_) => now,
            Self::Until { last, .. } => last,
        }
    }

    /// Whether a wait that begins now is the next slice of this one.
    fn goes_on(self, now: MonoNanos) -> bool {
        matches!(self, Self::Until { last, more: true, .. } if now.saturating_since(last) <= SOON)
    }
}

#[cfg(test)]
mod tests {
    use super::StopBook;
    use crate::model::{
        address::LiveAddress,
        event::ParkPlace::{self, StopRequest, Suspended},
        ids::Tid,
        parking::{Request, Stops, Stretches},
        time::{MonoNanos, Nanos},
    };

    const EVENT: LiveAddress = LiveAddress::in_target(0x100);

    /// Sleeps as (thread, from, to, for what, in vain), with times in microseconds.
    fn stops(sleeps: &[(i32, u64, u64, ParkPlace, bool)]) -> Stops {
        let mut book = StopBook::default();
        let at = |micros: u64| MonoNanos::from_monotonic(micros * 1000);
        let mut steps: Vec<_> = sleeps.iter().flat_map(|it| [(it.1, true, it), (it.2, false, it)]).collect();
        steps.sort_by_key(|(time, ..)| *time);
        for (time, begins, (tid, from, _, place, in_vain)) in steps {
            let who = (Tid::from_raw(*tid).unwrap(), at(time));
            if begins {
                book.on_begun(who, *place);
            } else {
                book.on_ended(who, at(*from), (*place, *in_vain));
            }
        }
        book.close(at(1_000_000))
    }

    fn stretches(count: u64, total: u64, longest: u64) -> Stretches {
        let micros = |time: u64| Nanos::from_nanos(time * 1000);
        Stretches { count, total: micros(total), longest: micros(longest) }
    }

    /// ```text
    /// 1 ├ waits ┤ waits ┤              ├ waits ┤
    /// 2   ├─────────────── suspended ┤   ├─ suspended ─┤
    /// 3            ├────── suspended ──────┤ woke up late
    /// ```
    #[test]
    fn a_pause_lasts_from_the_request_to_the_first_that_goes_on() {
        let told = stops(&[
            (1, 0, 1000, StopRequest(EVENT), true),
            (1, 1010, 1500, StopRequest(EVENT), false),
            (2, 10, 5000, Suspended, false),
            (3, 1490, 7000, Suspended, false),
            (1, 6000, 6500, StopRequest(EVENT), false),
            (2, 6400, 9000, Suspended, false),
        ]);
        assert_eq!(told.pauses, stretches(2, 8000, 5000));
        let request = Request { pauses: told.pauses, waited: Nanos::from_nanos(2_000_000) };
        assert_eq!(told.requesters, [(Tid::from_raw(1), request)]);
        let of = |tid| Tid::from_raw(tid);
        assert_eq!(told.suspended, [(of(2), stretches(2, 7590, 4990)), (of(3), stretches(1, 5510, 5510))]);
    }

    #[test]
    fn who_requests_without_having_to_wait_is_unknown() {
        let told = stops(&[(2, 0, 100, Suspended, false), (2, 5000, 5200, Suspended, false)]);
        let request = Request { pauses: stretches(2, 300, 200), waited: Nanos::ZERO };
        assert_eq!(told.requesters, [(None, request)]);
    }

    #[test]
    fn a_request_that_nobody_sleeps_for_is_as_long_as_its_wait() {
        let told = stops(&[(1, 0, 300, StopRequest(EVENT), false), (2, 50_000, 50_100, Suspended, false)]);
        assert_eq!(told.pauses, stretches(2, 400, 300));
        assert_eq!(told.requesters.iter().map(|(tid, _)| *tid).collect::<Vec<_>>(), [Tid::from_raw(1), None]);
    }

    #[test]
    fn the_first_to_sleep_may_be_one_that_is_stopped() {
        let told = stops(&[(2, 0, 900, Suspended, false), (1, 20, 100, StopRequest(EVENT), false)]);
        assert_eq!((told.pauses, told.requesters.len()), (stretches(1, 900, 900), 1));
        assert_eq!(told.requesters[0].0, Tid::from_raw(1));
    }
}
