//! One lock's account: who owns it, who waits, and how long it was held, contended and free.
//!
//! Invariant: held + free + unknown = time since the window began; there are never two owners.

use crate::{
    ledger::{giving_way::Request, spread::Durations, thread::Ownership},
    model::{
        ids::{LockId, Tid},
        profile::LongHold,
        stack::StackId,
        time::{MonoNanos, Nanos},
    },
};

use super::thread::Samples;

/// The account of one lock.
#[derive(Debug)]
pub(super) struct LockAccount {
    pub(super) id: LockId,
    pub(super) name: String,
    pub(super) interpreter: Option<i64>,
    pub(super) owner: Owner,
    pub(super) waiters: Vec<Tid>,
    /// Threads that have released it and may turn out to have been forced to.
    pub(super) givers: Vec<Tid>,
    pub(super) charged_until: MonoNanos,
    pub(super) held: Nanos,
    pub(super) contended: Nanos,
    pub(super) free: Nanos,
    pub(super) unknown: Nanos,
    pub(super) handoff: Nanos,
    pub(super) wait_unknown: Nanos,
    pub(super) blamed: Nanos,
    pub(super) wait_total: Nanos,
    pub(super) holds: u64,
    pub(super) waits: u64,
    pub(super) forced_releases: u64,
    pub(super) hold_lengths: Durations,
    pub(super) wait_lengths: Durations,
}

/// Who owns the lock.
#[derive(Debug)]
pub(super) enum Owner {
    /// No evidence yet, or none since events were lost.
    Unknown,
    /// Nobody.
    Free,
    /// One thread.
    Held(Hold),
}

/// A hold that is going on.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) tid: Tid,
    pub(super) began: MonoNanos,
    /// Whether a waiter has asked the owner to give way.
    pub(super) request: Request,
    /// Waiting charged to this hold so far.
    pub(super) waited: Nanos,
    /// Threads that waited at some time during it.
    pub(super) waiters: u32,
    /// Stacks sampled during it.
    pub(super) ticks: Samples,
    /// The stack at its end, if it was read.
    pub(super) at_release: Option<StackId>,
}

impl LockAccount {
    pub(super) fn new(id: LockId, name: String, interpreter: Option<i64>, owner: Owner, start: MonoNanos) -> Self {
        Self {
            id,
            name,
            interpreter,
            owner,
            waiters: Vec::new(),
            givers: Vec::new(),
            charged_until: start,
            held: Nanos::ZERO,
            contended: Nanos::ZERO,
            free: Nanos::ZERO,
            unknown: Nanos::ZERO,
            handoff: Nanos::ZERO,
            wait_unknown: Nanos::ZERO,
            blamed: Nanos::ZERO,
            wait_total: Nanos::ZERO,
            holds: 0,
            waits: 0,
            forced_releases: 0,
            hold_lengths: Durations::default(),
            wait_lengths: Durations::default(),
        }
    }

    /// Charges the time up to `at` to the present owner, and returns how much of it the lock was held without a waiter.
    pub(super) fn charge(&mut self, at: MonoNanos) -> Nanos {
        let time = at.saturating_since(self.charged_until);
        self.charged_until = self.charged_until.max(at);
        match self.owner {
            Owner::Unknown => self.unknown += time,
            Owner::Free => self.free += time,
            Owner::Held(_) => {
                self.held += time;
                if !self.waiters.is_empty() {
                    self.contended += time;
                } else {
                    return time;
                }
            }
        }
        Nanos::ZERO
    }

    /// Who owns the lock, as a waiter sees it.
    pub(super) fn ownership(&self) -> Ownership {
        match &self.owner {
            Owner::Unknown => Ownership::Unknown,
            Owner::Free => Ownership::Free,
            Owner::Held(hold) => Ownership::By(hold.tid),
        }
    }

    /// Makes `tid` the owner; the previous one, if any, must have been closed.
    pub(super) fn open_hold(&mut self, tid: Tid, began: MonoNanos) {
        let waiters = u32::try_from(self.waiters.len()).unwrap_or(u32::MAX);
        self.owner = Owner::Held(Hold {
            tid,
            began,
            request: Request::None,
            waited: Nanos::ZERO,
            waiters,
            ticks: Samples::default(),
            at_release: None,
        });
    }

    /// Ends the present hold, leaving the lock free, and counts it.
    pub(super) fn close_hold(&mut self, ended: MonoNanos) -> Option<(Hold, Nanos)> {
        let Owner::Held(hold) = std::mem::replace(&mut self.owner, Owner::Free) else {
            return None;
        };
        let length = ended.saturating_since(hold.began);
        self.holds += 1;
        self.hold_lengths.record(length);
        Some((hold, length))
    }

    pub(super) fn add_waiter(&mut self, tid: Tid) {
        self.waiters.push(tid);
        if let Owner::Held(hold) = &mut self.owner {
            hold.waiters = hold.waiters.saturating_add(1);
        }
    }

    /// A waiter that has slept since `slept_since` sleeps again: if the same hold went on all the while, it has asked the
    /// owner to give way.
    pub(super) fn on_slice(&mut self, slept_since: MonoNanos) {
        if let Owner::Held(hold) = &mut self.owner
            && hold.began <= slept_since
        {
            hold.request = Request::Made;
        }
    }

    /// Adds to the waiting that the present hold has caused.
    pub(super) fn add_to_hold(&mut self, waited: Nanos) {
        if let Owner::Held(hold) = &mut self.owner {
            hold.waited += waited;
        }
    }

    pub(super) fn remove_waiter(&mut self, tid: Tid) {
        self.waiters.retain(|waiter| *waiter != tid);
    }

    /// Counts a wait that is over, or that the end of the recording cuts off.
    pub(super) fn close_wait(&mut self, length: Nanos) {
        self.waits += 1;
        self.wait_total += length;
        self.wait_lengths.record(length);
    }
}

impl Hold {
    /// The stack seen most often during the hold, the smallest id among equals; the one at its end if none was seen.
    pub(super) fn usual_stack(&self) -> Option<StackId> {
        let usual = self.ticks.iter().max_by_key(|(stack, count)| (**count, std::cmp::Reverse(**stack)));
        usual.map(|(stack, _)| *stack).or(self.at_release)
    }
}

/// The longest holds, at most a fixed number of them.
#[derive(Debug)]
pub(super) struct LongHolds {
    threshold: Nanos,
    longest: Vec<LongHold>,
}

/// How many long holds a profile lists.
const LISTED: usize = 100;

impl LongHolds {
    pub(super) fn above(threshold: Nanos) -> Self {
        Self { threshold, longest: Vec::new() }
    }

    /// Whether a hold of this length would be listed.
    pub(super) fn admits(&self, length: Nanos) -> bool {
        length >= self.threshold
            && (self.longest.len() < LISTED || self.longest.last().is_some_and(|last| length > last.duration))
    }

    pub(super) fn enter(&mut self, hold: LongHold) {
        let position = self.longest.partition_point(|other| other.duration >= hold.duration);
        self.longest.insert(position, hold);
        self.longest.truncate(LISTED);
    }

    pub(super) fn into_list(self) -> Vec<LongHold> {
        self.longest
    }
}
