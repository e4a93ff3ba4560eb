//! What a call means for the stacks: who waits, whose stack is worth a look, and when.
//!
//! An acquisition costs next to nothing, whatever happened before: the thread has work to do. A release without waiters
//! costs a few comparisons. Whoever waits has time: it notes its own stack once, and its lock's owner's now and then. But
//! all of it happens with the mutex in hand that an acquisition or a release needs, so where waits are short and many,
//! [`crate::layout::Walk::spacing`] thins the stacks out.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::{
    emit,
    layout::{
        KIND_SIGNAL, KIND_TIMED_WAIT, Lock, REMEMBERED, RUNTIME_ARRAY, Ring, STACK_CHANGING, STACK_CUT, STACK_FAILED,
        STACK_KNOWN, STACK_OF_HOLDER, STACK_OF_PARKED, STACK_OF_RELEASER, STACK_OF_WAITER, Slot, memory_index,
    },
    local::{Local, UNKNOWN},
    system,
    walk::{Room, Trail, Walked},
};

/// How often the owner is read before what the last two readings agree on is good enough, and before it is given up.
const READINGS: u32 = 6;
const MOST_READINGS: u32 = 24;

/// A call that was recorded just now.
#[derive(Clone, Copy)]
pub struct Call {
    /// When, on the clock of the records.
    pub time: u64,
    /// Which function.
    pub kind: u64,
    /// On which condition variable.
    pub cond: u64,
}

/// The thread that has recorded, and where.
#[derive(Clone, Copy)]
pub struct Place {
    /// The shared memory.
    pub ring: &'static Ring,
    /// The thread's slot, marked as busy.
    pub slot: &'static Slot,
    /// The thread's own state.
    pub local: &'static Local,
}

/// Does what is due after the call.
#[inline(always)]
pub fn follow(place: Place, call: Call) {
    let [lock, ..] = &place.ring.header.locks;
    let cond = lock.cond.load(Ordering::Relaxed);
    if call.kind == KIND_SIGNAL && call.cond == cond {
        on_release(place, lock, call.time);
    } else if call.kind == KIND_SIGNAL && call.cond == lock.switch_cond.load(Ordering::Relaxed) {
        on_acquisition(place, call.time);
    } else if cond != 0 {
        follow_elsewhere(place, call);
    }
}

/// Counts the call, and keeps up who waits. An acquisition is counted by the thread that has just got the lock, so nobody
/// else counts at that moment, and the word is next to others that it has just used.
#[inline(always)]
pub fn count(ring: &'static Ring, kind: u64, cond: u64) {
    let [lock, ..] = &ring.header.locks;
    if kind == KIND_SIGNAL && cond == lock.switch_cond.load(Ordering::Relaxed) {
        count_acquisition(ring, lock);
    } else if !(kind == KIND_SIGNAL && cond == lock.cond.load(Ordering::Relaxed)) {
        count_elsewhere(ring, kind, cond);
    }
}

/// The same of a call that should have been recorded.
pub fn count_lost(ring: &'static Ring, kind: u64, cond: u64) {
    let [lock, ..] = &ring.header.locks;
    if lock.cond.load(Ordering::Acquire) == 0 {
        ring.header.uncounted.fetch_add(1, Ordering::Relaxed);
    } else {
        count(ring, kind, cond);
    }
}

#[inline(always)]
fn count_acquisition(ring: &'static Ring, lock: &Lock) {
    lock.acquisitions.store(lock.acquisitions.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    let local = Local::of_this_thread();
    if local.waits.load(Ordering::Relaxed) != 0 {
        end_wait(ring, local);
    }
}

/// Waits, and all calls on locks other than the first.
#[cold]
#[inline(never)]
fn count_elsewhere(ring: &'static Ring, kind: u64, cond: u64) {
    let known = || (1..).zip(&ring.header.locks).take_while(|(_, lock)| lock.cond.load(Ordering::Acquire) != 0);
    if kind == KIND_SIGNAL {
        if let Some((_, lock)) = known().find(|(_, lock)| lock.switch_cond.load(Ordering::Relaxed) == cond) {
            count_acquisition(ring, lock);
        }
    } else if kind == KIND_TIMED_WAIT
        && let Some((link, lock)) = known().find(|(_, lock)| lock.cond.load(Ordering::Relaxed) == cond)
        && begin_wait(Local::of_this_thread(), link, lock)
    {
        // With the lock's mutex in hand, as an acquisition.
        lock.waits.store(lock.waits.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

#[inline(always)]
fn on_release(place: Place, lock: &Lock, time: u64) {
    let Place { ring, local, .. } = place;
    local.state.store(holder(lock), Ordering::Relaxed);
    let held = time.wrapping_sub(local.acquired.load(Ordering::Relaxed));
    if lock.waiters.load(Ordering::Relaxed) != 0 || held > ring.header.walk.long_hold.load(Ordering::Relaxed) {
        on_notable_release(place, lock, time);
    }
}

/// The stack at the release stands in for a hold whose owner nobody has read.
#[cold]
#[inline(never)]
fn on_notable_release(place: Place, lock: &Lock, time: u64) {
    let is_read = lock.read_at.load(Ordering::Relaxed) >= place.local.acquired.load(Ordering::Relaxed);
    if !is_read && is_due(place, &lock.noted_at, time) {
        note_own(place, STACK_OF_RELEASER);
    }
}

/// Whether the last stack of this kind is long enough ago for another.
fn is_due(place: Place, last: &AtomicU64, time: u64) -> bool {
    let due = time.wrapping_sub(last.load(Ordering::Relaxed)) >= place.ring.header.walk.spacing.load(Ordering::Relaxed);
    if due {
        last.store(time, Ordering::Relaxed);
    }
    due
}

#[inline(always)]
fn on_acquisition(place: Place, time: u64) {
    let local = place.local;
    local.acquired.store(time, Ordering::Relaxed);
    if local.waits.load(Ordering::Relaxed) != 0 {
        end_wait(place.ring, local);
    }
}

/// Waits, and all calls on locks other than the first.
#[cold]
#[inline(never)]
fn follow_elsewhere(place: Place, call: Call) {
    let locks = &place.ring.header.locks;
    let known = || (1..).zip(locks).take_while(|(_, lock)| lock.cond.load(Ordering::Acquire) != 0);
    let of_cond = known().find(|(_, lock)| lock.cond.load(Ordering::Relaxed) == call.cond);
    match (call.kind, of_cond) {
        (KIND_SIGNAL, Some((_, lock))) => on_release(place, lock, call.time),
        (KIND_TIMED_WAIT, Some((link, lock))) => on_want(place, link, lock, call.time),
        (KIND_SIGNAL, None) if known().any(|(_, lock)| lock.switch_cond.load(Ordering::Relaxed) == call.cond) => {
            on_acquisition(place, call.time);
        }
        _ => {}
    }
}

fn on_want(place: Place, link: u32, lock: &Lock, time: u64) {
    let local = place.local;
    begin_wait(local, link, lock);
    if local.told.load(Ordering::Relaxed) == 0 && is_due(place, &local.told_at, time) {
        local.told.store(1, Ordering::Relaxed);
        note_own(place, STACK_OF_WAITER);
    }
    if is_due(place, &lock.read_at, time) {
        note_holder(place, lock);
    }
}

/// Whether this is not just the next slice of a wait.
fn begin_wait(local: &Local, link: u32, lock: &Lock) -> bool {
    let begins = local.waits.load(Ordering::Relaxed) == 0;
    if begins {
        local.waits.store(link, Ordering::Relaxed);
        local.told.store(0, Ordering::Relaxed);
        lock.waiters.fetch_add(1, Ordering::Relaxed);
    }
    begins
}

#[cold]
#[inline(never)]
fn end_wait(ring: &Ring, local: &Local) {
    let link = local.waits.swap(0, Ordering::Relaxed) as usize;
    let lock = ring.header.locks.get(link.wrapping_sub(1));
    if let Some(lock) = lock {
        // Never below zero, whatever happened to the memory.
        let _ = lock.waiters.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiters| waiters.checked_sub(1));
    }
}

/// Has `note` read a stack, and counts how long that takes.
fn timed(place: Place, note: impl FnOnce()) {
    let begun = system::now();
    note();
    place.ring.header.spent.fetch_add(system::now().wrapping_sub(begun), Ordering::Relaxed);
}

#[cold]
#[inline(never)]
fn note_own(place: Place, subject: u64) {
    timed(place, || read_own(place, subject, place.local.state.load(Ordering::Relaxed)));
}

/// Notes the stack of the calling thread, whose state is `state`, unless it has done so a moment ago.
pub fn note_parked(place: Place, state: u64, time: u64) {
    let described = place.ring.header.walk.runtime.load(Ordering::Relaxed) != 0;
    if described && is_due(place, &place.local.told_at, time) {
        timed(place, || read_own(place, STACK_OF_PARKED, state));
    }
}

fn read_own(place: Place, subject: u64, state: u64) {
    let walk = &place.ring.header.walk;
    let mut room = Room::uninit();
    let mut trail = Trail::new(place.ring, &mut room);
    let mark = match walk.runtime.load(Ordering::Relaxed) {
        RUNTIME_ARRAY => place.slot.tid.load(Ordering::Relaxed) as u64,
        _ => Local::thread_pointer(),
    };
    let found = match state {
        // A thread that has never owned a lock has no frames yet.
        0 => Some(()),
        // It waited before locks were known.
        UNKNOWN => return,
        _ => trail.walk(walk, state, Walked::Own(mark)),
    };
    note(place, subject, found.map(|()| &trail));
}

fn note_holder(place: Place, lock: &Lock) {
    timed(place, || read_holder(place, lock));
    // The space to the next reading begins here: a long one must not be followed by another at once.
    lock.read_at.store(system::now(), Ordering::Relaxed);
}

fn read_holder(place: Place, lock: &Lock) {
    let walk = &place.ring.header.walk;
    let mut room = Room::uninit();
    let mut trail = Trail::new(place.ring, &mut room);
    let state = holder(lock);
    let mut agreed = 0;
    for reading in 1..=MOST_READINGS {
        agreed = trail.walk_again(walk, state);
        if !(is_owned(lock) && holder(lock) == state) {
            return;
        }
        if agreed > 0 && (agreed == trail.count() || reading >= READINGS) {
            break;
        }
    }
    trail.keep_outer(agreed);
    note(place, STACK_OF_HOLDER, (agreed > 0).then_some(&trail));
}

/// Records a stack, or that there is none.
fn note(place: Place, subject: u64, trail: Option<&Trail<'_>>) {
    let Some(trail) = trail else {
        emit::append_stack(place, 0, subject | STACK_FAILED, None);
        return;
    };
    let print = trail.fingerprint() | 1;
    let cut = if trail.cut { STACK_CUT } else { 0 };
    let operand = subject | cut | if trail.is_changing() { STACK_CHANGING } else { 0 };
    let memory = &place.local.stacks[memory_index(print) % REMEMBERED];
    if memory.load(Ordering::Relaxed) == print {
        emit::append_stack(place, print, operand | STACK_KNOWN, None);
    } else if emit::append_stack(place, print, operand, Some(trail)) {
        memory.store(print, Ordering::Relaxed);
    }
}

/// The state of the thread that took the lock last.
#[inline(always)]
fn holder(lock: &Lock) -> u64 {
    let place = lock.last_holder.load(Ordering::Relaxed) as *const u64;
    // SAFETY: gilscope gave the address inside the lock's structure, and the caller has just used the lock.
    unsafe { place.read_volatile() }
}

fn is_owned(lock: &Lock) -> bool {
    let place = lock.locked.load(Ordering::Relaxed) as *const i32;
    // SAFETY: as in `holder`.
    unsafe { place.read_volatile() == 1 }
}
