//! What a thread's events have counted, read at its calls without a call to the kernel, where gilscope has asked for that.
//!
//! A thread opens the events for itself when it gets its slot, keeps one page of each mapped and no file open. The pages are
//! those of the slot: whoever gets it next unmaps them, so that there are never more than for as many threads as were alive at
//! a time, and nothing has to be called when a thread ends. A page that is not there any more is never looked at:
//! the kernel gives none to a forked process, and zeroes the table of them there, however it was forked.
//!
//! Which calls are read, and what the readings belong to:
//!
//! ```text
//!            cond_timedwait                 cond_signal           cond_signal
//!   outside ───── read ────── waiting ────────── read ─── inside ───── read ── outside
//! ```
//!
//! - An acquisition is told with the lock and its mutex in hand, a release with the mutex: earlier or later the thread does nothing
//!   that we are called at, so both are read there, right after the record's time is taken and before all else that the probe does.
//!   That then counts for the state that begins.
//! - The first call of a wait is read with the mutex in hand as well, for the same reason, and before the thread gives it up to sleep.
//! - A wait that goes on is not read again, and neither is `cond_wait`, by which a thread yields: what it has done since its
//!   release belongs to the wait that this begins, which is read at its end. Both hold the mutex up that the lock's owner needs.

use core::{
    ptr::{from_ref, null_mut},
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};

use crate::{
    emit::append_readings,
    follow::{Call, Place},
    layout::{KIND_FILLER, KIND_SIGNAL, KIND_TIMED_WAIT, MEASURED, Ring, SLOTS, Slot, WantedEvent},
    local::Local,
    page::Page,
    system,
};

/// The pages of one slot's thread, null where an event could not be opened.
#[repr(C)]
struct Row {
    pages: [AtomicPtr<Page>; MEASURED],
    /// Not zero once it has been told that none of them says anything.
    told: AtomicU32,
}

const TABLE_BYTES: usize = SLOTS * size_of::<Row>();

/// One row for each slot, wiped by the kernel in every child; null where nothing is measured.
static TABLE: AtomicPtr<Row> = AtomicPtr::new(null_mut());

/// Makes the table if it is needed; `false` when the kernel does not let us.
pub fn prepare(ring: &Ring) -> bool {
    if wanted(ring) == 0 || !TABLE.load(Ordering::Relaxed).is_null() {
        return true;
    }
    let Some(table) = system::map_private(TABLE_BYTES) else { return false };
    if !system::wipe_on_fork(table, TABLE_BYTES) {
        return false;
    }
    TABLE.store(table.cast(), Ordering::Release);
    true
}

/// How many events are to be measured.
#[inline(always)]
pub fn wanted(ring: &Ring) -> usize {
    (ring.header.measured.load(Ordering::Relaxed) as usize).min(MEASURED)
}

/// Opens the events for the calling thread, which has just got `slot` and is not yet known to have it. The thread that had
/// the slot before has ended.
#[cold]
#[inline(never)]
pub fn begin(ring: &'static Ring, slot: &Slot) {
    let Some(row) = row(ring, slot) else { return };
    let begun = system::now();
    row.close();
    for (page, event) in row.pages.iter().zip(&ring.header.events).take(wanted(ring)) {
        page.store(open(event).map_or(null_mut(), <*mut _>::cast), Ordering::Relaxed);
    }
    ring.header.spent.fetch_add(system::now().wrapping_sub(begun), Ordering::Relaxed);
}

/// Records what the thread's counters say before the record of `call` is written, and returns the position for that; 0 when
/// there is no room for it.
#[cold]
#[inline(never)]
pub fn note(place: Place, call: Call, cursor: usize) -> usize {
    if !is_due(place.local, call.kind) {
        return cursor;
    }
    let Some(row) = row(place.ring, place.slot) else { return cursor };
    let mut readings = [None; MEASURED];
    let pages = row.pages.iter().take(wanted(place.ring));
    let mut count = 0;
    for (reading, page) in readings.iter_mut().zip(pages) {
        // SAFETY: null, or a page that this thread has mapped and that it alone unmaps, not while it is busy.
        let page = unsafe { page.load(Ordering::Relaxed).as_ref() };
        *reading = page.and_then(|page| page.read(system::counter, system::time_stamp));
        count += 1;
    }
    let readings = readings.get(..count).unwrap_or(&[]);
    let is_mute = readings.iter().all(Option::is_none);
    if is_mute && row.told.swap(u32::from(is_mute), Ordering::Relaxed) != 0 {
        return cursor;
    }
    append_readings(place, call.time, readings)
}

fn is_due(local: &Local, kind: u64) -> bool {
    match kind {
        // A record without meaning is there for the reading alone.
        KIND_SIGNAL | KIND_FILLER => true,
        KIND_TIMED_WAIT => local.waits.load(Ordering::Relaxed) == 0,
        _ => false,
    }
}

/// Gives up the calling thread's pages, since nothing is recorded any more; not in the middle of a record that uses them.
#[cold]
#[inline(never)]
pub fn end(ring: &'static Ring, local: &Local) {
    let Some(slot) = local.slot().filter(|slot| slot.busy.load(Ordering::Relaxed) == 0) else { return };
    let Some(row) = row(ring, slot) else { return };
    slot.busy.store(1, Ordering::Relaxed);
    row.close();
    slot.busy.store(0, Ordering::Release);
}

impl Row {
    fn close(&self) {
        for page in &self.pages {
            let page = page.swap(null_mut(), Ordering::Relaxed);
            if !page.is_null() {
                system::unmap(page.cast(), system::PAGE);
            }
        }
        self.told.store(0, Ordering::Relaxed);
    }
}

fn row(ring: &'static Ring, slot: &Slot) -> Option<&'static Row> {
    let table = TABLE.load(Ordering::Relaxed);
    let index = (from_ref(slot).addr() - from_ref(&ring.slots).addr()) / size_of::<Slot>();
    let row = (!table.is_null() && index < SLOTS).then(|| table.wrapping_add(index))?;
    // SAFETY: the table has a row for each slot, and is never unmapped.
    Some(unsafe { &*row })
}

/// A page of the event for the calling thread, which keeps the event.
fn open(event: &WantedEvent) -> Option<*mut core::ffi::c_void> {
    let word = |word: &core::sync::atomic::AtomicU64| word.load(Ordering::Relaxed);
    let kind = event.kind.load(Ordering::Relaxed);
    let configs = [word(&event.config), word(&event.config1), word(&event.config2)];
    system::map_event(kind, configs, event.exclusions.load(Ordering::Relaxed))
}

/// From now on the thread that has `slot` reads these pages, which nobody unmaps.
#[cfg(test)]
pub fn pretend(ring: &'static Ring, slot: &Slot, pages: &'static [Page]) {
    let row = row(ring, slot).expect("the table was made");
    for (own, page) in row.pages.iter().zip(pages) {
        own.store(from_ref(page).cast_mut(), Ordering::Relaxed);
    }
}
