//! The book of locks: which condition variable belongs to which lock, as far as the target has told.
//!
//! A condition variable that is made anew is another one: a lock that lay there is over. Interpreters come and go, and so do
//! their locks, often at the same address. Two made anew by the same thread at the distance of a lock's are a new lock, even
//! if it is gone before anybody can look for it. Invariant: a lock keeps its number, and no number stands for two.

use std::time::{Duration, Instant};

use crate::{
    model::{address::LiveAddress, ids::LockId},
    source::calls::{Call, FindLocks, Role, Translator},
    target::lock::{LockLayout, LockSeat},
};

/// Addresses remembered as foreign; past that they are looked up again each time.
const FOREIGN_LIMIT: usize = 1 << 16;

/// Locks that are known; more than any program has.
const MOST_LOCKS: usize = 4096;

/// Looking up addresses may take this long at once, and later this part of the time.
const FIRST_LOOKS: Duration = Duration::from_secs(1);
const SHARE_OF_LOOKS: u32 = 4;
/// Threads that are in the middle of making a lock, at the most.
const MOST_MAKERS: usize = 64;

impl Translator {
    /// From now on asks `finder`, and looks for locks at once.
    pub fn find_with(&mut self, finder: Box<dyn FindLocks>) {
        self.finder = Some(finder);
        self.refresh();
    }

    /// Looks for locks that are new.
    pub fn look_again(&mut self) {
        self.refresh();
    }

    /// The locks found so far, in the order of their ids.
    pub fn seats(&self) -> &[LockSeat] {
        &self.seats
    }

    /// Looks for locks now; says whether there are any, or else the target cannot be read or is still starting.
    fn refresh(&mut self) -> bool {
        let begun = Instant::now();
        let found = self.finder.as_mut().and_then(|finder| finder.find_locks()).unwrap_or_default();
        self.looked += begun.elapsed();
        let any = !found.is_empty();
        for seat in found {
            self.enter(seat);
        }
        any
    }

    /// The same for an address that nobody knows, unless a target makes us do little else by naming ever new ones.
    pub(super) fn look(&mut self) -> bool {
        self.looked <= FIRST_LOOKS + self.begun.elapsed() / SHARE_OF_LOOKS && self.refresh()
    }

    /// Whether the lock is one that the interpreter can do without.
    pub(super) fn can_be_off(&self, lock: LockId) -> bool {
        let seat = usize::try_from(lock.index()).ok().and_then(|index| self.seats.get(index));
        seat.is_some_and(|seat| seat.layout == LockLayout::FREE_THREADED)
    }

    pub(super) fn role_of(&mut self, cond: LiveAddress) -> Option<(LockId, Role)> {
        if let Some(role) = self.roles.get(&cond) {
            return Some(*role);
        }
        if self.foreign.contains(&cond) {
            return None;
        }
        let settled = self.look();
        let role = self.roles.get(&cond).copied();
        if role.is_none() && settled && self.foreign.len() < FOREIGN_LIMIT {
            self.foreign.insert(cond);
        }
        role
    }

    /// A condition variable begins its life.
    pub(super) fn on_made(&mut self, call: Call) {
        self.foreign.remove(&call.cond);
        if let Some((lock, _)) = self.roles.get(&call.cond).copied()
            && self.is_used(lock)
        {
            self.roles.retain(|_, (of, _)| *of != lock);
            self.places.retain(|_, of| *of != lock);
        }
        if self.made.len() >= MOST_MAKERS {
            self.made.clear();
        }
        let before = self.made.insert(call.tid, call.cond);
        // Another place of the same shape, one of whose condition variables was made a moment ago.
        let shaped = self.seats.first().and_then(|model| model.of_pair(before?, call.cond));
        let Some(seat) = shaped else { return };
        self.made.remove(&call.tid);
        self.look();
        if !self.places.contains_key(&seat.address) && self.is_believed(&seat) {
            self.enter(seat);
        }
    }

    /// Whether a lock is made there, although no interpreter has it (any more): one lay there before, or it looks like one.
    fn is_believed(&mut self, seat: &LockSeat) -> bool {
        let before = self.seats.iter().any(|known| known.address == seat.address);
        before || self.finder.as_mut().is_some_and(|finder| finder.looks_like(seat))
    }

    pub(super) fn note_use(&mut self, lock: LockId) {
        if let Some(used) = usize::try_from(lock.index()).ok().and_then(|index| self.used.get_mut(index)) {
            *used = true;
        }
    }

    fn is_used(&self, lock: LockId) -> bool {
        usize::try_from(lock.index()).ok().and_then(|index| self.used.get(index)) == Some(&true)
    }

    /// Enters a lock that another has found; one that is known keeps its number.
    pub fn enter(&mut self, seat: LockSeat) {
        if self.seats.len() >= MOST_LOCKS || self.places.contains_key(&seat.address) {
            return;
        }
        let id = lock_id(self.seats.len());
        self.places.insert(seat.address, id);
        for (address, role) in [(seat.cond(), Role::Cond), (seat.switch_cond(), Role::SwitchCond)] {
            self.roles.insert(address, (id, role));
            self.foreign.remove(&address);
        }
        self.seats.push(seat);
        self.used.push(false);
    }
}

fn lock_id(index: usize) -> LockId {
    LockId::from_index(u32::try_from(index).expect("fewer than 2^32 locks"))
}
