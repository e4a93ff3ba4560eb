//! One lock's account: who owns it, who waits, and how long it was held, contended and free.
//!
//! Invariant: held + free + unknown = time since the window began; there are never two owners.

use crate::{
    ledger::{
        blame::{Between, BlameBook, CROWD, LONG},
        giving_way::Request,
        hold::{Hold, HoldBook},
        relation::{Ownership, Ownerships},
        spread::Durations,
        windows::Extent,
    },
    model::{
        event::CountedSteps,
        ids::{LockId, Tid},
        stack::StackId,
        time::{MonoNanos, Nanos},
    },
};

/// The account of one lock.
#[derive(Debug, Clone)]
pub(super) struct LockAccount {
    pub(super) id: LockId,
    pub(super) name: String,
    pub(super) interpreter: Option<i64>,
    pub(super) owner: Owner,
    pub(super) waiters: Vec<Waiter>,
    /// Whether its waiters read the stacks of its owners.
    pub(super) waiters_read: bool,
    /// Threads that have released it and may turn out to have been forced to.
    pub(super) givers: Vec<Tid>,
    /// The shortest time after which a waiter, whom nobody had woken, slept again: the switch interval, or a little more.
    pub(super) shortest_slice: Option<Nanos>,
    /// The last step that anybody took with it.
    pub(super) last_step: Option<LastStep>,
    pub(super) charged_until: MonoNanos,
    pub(super) ownerships: Ownerships,
    /// What probes have taken of these times.
    pub(super) probed: Probed,
    pub(super) contended: Nanos,
    pub(super) handoff: Nanos,
    pub(super) wait_unknown: Nanos,
    pub(super) blamed: Nanos,
    pub(super) wait_total: Nanos,
    /// Acquisitions so far, and waits that have begun.
    pub(super) acquired: u64,
    pub(super) wanted: u64,
    pub(super) counted: Option<CountedSteps>,
    /// Those that were told after a window had ended.
    pub(super) late: CountedSteps,
    pub(super) holds: u64,
    pub(super) waits: u64,
    pub(super) forced_releases: u64,
    /// The holds that are over.
    pub(super) book: HoldBook,
    pub(super) long_holds: u64,
    pub(super) hold_lengths: Durations,
    pub(super) wait_lengths: Durations,
}

/// Time in probes while the lock was held, while that kept others waiting, and by which waits for it were longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Probed {
    pub(super) held: Nanos,
    pub(super) contended: Nanos,
    pub(super) waited: Nanos,
}

/// A step with a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastStep {
    /// Whose.
    pub(super) by: Tid,
    /// How long that thread had run before.
    pub(super) ran: Nanos,
}

/// A thread that waits for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) tid: Tid,
    /// How long the lock had been held when the owners until then had been charged with this wait.
    blamed_until: Nanos,
}

/// Who owns the lock.
#[expect(clippy::large_enum_variant, reason = "there is one a lock, and a hold is made at every acquisition")]
#[derive(Debug, Clone)]
pub(super) enum Owner {
    /// No evidence yet, or none since events were lost.
    Unknown,
    /// Nobody.
    Free,
    /// One thread.
    Held(Hold),
}

/// A hold that is over.
#[derive(Debug, Clone)]
pub(super) struct Closed {
    pub(super) hold: Hold,
    pub(super) length: Nanos,
    /// What it was filed under.
    pub(super) stack: Option<StackId>,
}

/// The part of a wait found later that belongs to the hold which still goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct InHold {
    pub(super) waited: Nanos,
    /// The part of it in which nobody else waited.
    pub(super) contended: Nanos,
}

impl LockAccount {
    pub(super) fn new(id: LockId, name: String, interpreter: Option<i64>, owner: Owner, start: MonoNanos) -> Self {
        Self {
            id,
            name,
            interpreter,
            owner,
            waiters: Vec::new(),
            waiters_read: false,
            givers: Vec::new(),
            shortest_slice: None,
            last_step: None,
            charged_until: start,
            ownerships: Ownerships::default(),
            probed: Probed::default(),
            contended: Nanos::ZERO,
            handoff: Nanos::ZERO,
            wait_unknown: Nanos::ZERO,
            blamed: Nanos::ZERO,
            wait_total: Nanos::ZERO,
            acquired: 0,
            wanted: 0,
            counted: None,
            late: CountedSteps::default(),
            holds: 0,
            waits: 0,
            forced_releases: 0,
            book: HoldBook::default(),
            long_holds: 0,
            hold_lengths: Durations::default(),
            wait_lengths: Durations::default(),
        }
    }

    /// Charges the time up to `at`, in which neither the owner nor the waiters have changed, once for the lock and once for
    /// every waiter; returns how much of it the lock was held without a waiter.
    pub(super) fn charge(&mut self, at: MonoNanos) -> Nanos {
        let time = at.saturating_since(self.charged_until);
        self.charged_until = self.charged_until.max(at);
        let waited = time.times(self.waiters.len());
        match &mut self.owner {
            Owner::Unknown => {
                self.ownerships.unknown += time;
                self.wait_unknown += waited;
            }
            Owner::Free => {
                self.ownerships.free += time;
                self.handoff += waited;
            }
            Owner::Held(hold) => {
                self.ownerships.held += time;
                self.blamed += waited;
                hold.waited += waited;
                if self.waiters.is_empty() {
                    return time;
                }
                self.contended += time;
                hold.contended += time;
            }
        }
        Nanos::ZERO
    }

    /// Charges the present owner with the waits that go on, each for as long as it overlaps this hold. What follows the
    /// last reading of its stack belongs to that; where nobody has read it, the stack of its release stands in.
    pub(super) fn blame_owner(&mut self, blame: &mut BlameBook) {
        if let Owner::Held(hold) = &self.owner {
            let last = hold.last_read.or(hold.at_release.filter(|_| self.waiters_read));
            self.blame_between(blame, [last, None]);
        }
    }

    /// The owner's stack has been read by one who waits.
    pub(super) fn read_owner(&mut self, stack: StackId, blame: &mut BlameBook) {
        self.waiters_read = true;
        let (held, crowded) = (self.ownerships.held, self.waiters.len() > CROWD);
        let Owner::Held(hold) = &mut self.owner else { return };
        hold.seen.add(stack);
        // A crowd reads so often that each stretch would be too short to name those who wait.
        if crowded && hold.last_read.is_some() && held.saturating_sub(hold.read_at) < LONG {
            return;
        }
        hold.read_at = held;
        let last = hold.last_read.replace(stack);
        self.blame_between(blame, [last, Some(stack)]);
    }

    fn blame_between(&mut self, blame: &mut BlameBook, between: Between) {
        if let Owner::Held(hold) = &self.owner {
            let held = self.ownerships.held;
            let wait = |waiter: &mut Waiter| {
                (waiter.tid, held.saturating_sub(std::mem::replace(&mut waiter.blamed_until, held)))
            };
            blame.charge_all((self.id, hold.tid), self.waiters.iter_mut().map(wait), between);
        }
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
    pub(super) fn open_hold(&mut self, (tid, began): (Tid, MonoNanos), extent: Extent) {
        self.owner = Owner::Held(Hold { extent, ..Hold::new(tid, began, self.waiters.len()) });
    }

    /// Ends the present hold, leaving the lock free, counts it, and files it under the stack that is returned with it.
    pub(super) fn close_hold(&mut self, ended: MonoNanos) -> Option<Closed> {
        let Owner::Held(hold) = std::mem::replace(&mut self.owner, Owner::Free) else {
            return None;
        };
        let length = ended.saturating_since(hold.began);
        if hold.extent == Extent::Whole {
            self.holds += 1;
            self.hold_lengths.record(length);
        }
        let stack = self.book.file(&hold, length);
        Some(Closed { hold, length, stack })
    }

    /// Nothing more will be seen of the present hold.
    pub(super) fn cut_hold(&mut self, ended: MonoNanos) -> Option<Closed> {
        if let Owner::Held(hold) = &mut self.owner {
            hold.extent = Extent::Part;
        }
        self.close_hold(ended)
    }

    pub(super) fn add_waiter(&mut self, tid: Tid) {
        self.waiters.push(Waiter { tid, blamed_until: self.ownerships.held });
        if let Owner::Held(hold) = &mut self.owner {
            hold.waiters = hold.waiters.saturating_add(1);
        }
    }

    /// A waiter that has slept since `slept_since` sleeps again: if the same hold went on all the while, it has asked the
    /// owner to give way.
    pub(super) fn on_slice(&mut self, slept_since: MonoNanos, now: MonoNanos) {
        if let Owner::Held(hold) = &mut self.owner
            && hold.began <= slept_since
        {
            hold.request = Request::Made;
            let slice = now.saturating_since(slept_since);
            self.shortest_slice = Some(self.shortest_slice.map_or(slice, |shortest| shortest.min(slice)));
        }
    }

    /// A release was forced, and what followed it was a wait: `contended` of it alone, and of that and all its waiting the
    /// last parts in the present hold, if there is one. What concerns earlier holds, which are filed, counts as unseen.
    pub(super) fn confirm_forced(&mut self, contended: Nanos, in_hold: InHold) {
        self.contended += contended;
        let mut earlier = contended;
        if let Owner::Held(hold) = &mut self.owner {
            hold.waited += in_hold.waited;
            hold.contended += in_hold.contended;
            earlier = contended.saturating_sub(in_hold.contended);
        }
        self.book.unseen.contended += earlier;
    }

    /// Takes the waiter off the list; the owner has been charged with its wait.
    pub(super) fn remove_waiter(&mut self, tid: Tid) {
        self.waiters.retain(|waiter| waiter.tid != tid);
    }

    /// Counts a wait that is over, or that the end of the recording cuts off.
    pub(super) fn close_wait(&mut self, length: Nanos, extent: Extent) {
        self.wait_total += length;
        if extent == Extent::Whole {
            self.waits += 1;
            self.wait_lengths.record(length);
        }
    }
}
