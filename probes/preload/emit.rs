//! The path that every interposed call takes, some hundred thousand times a second.
//!
//! A thread writes only to its own slot and chunk, with plain stores; it never waits, and a record that cannot be
//! written is counted. A signal handler that comes here while its thread is in the middle of a record is such a case.

use core::{
    ptr::{from_ref, null_mut},
    sync::atomic::{AtomicPtr, Ordering, compiler_fence},
};

#[cfg(family)]
use crate::family;
use crate::{
    follow::{Call, Place, count, count_lost, follow, note_parked},
    gate,
    layout::{
        COUNTING, Chunk, KIND_BITS, KIND_FILLER, KIND_LOST, KIND_PARK, KIND_READINGS, KIND_SIGNAL, KIND_STACK, PASSING,
        RECORDING, Record, Ring, Slot, TIMES_BITS, TIMES_SAME, TIMES_SHARED, TIMES_UNKNOWN, filter_index,
    },
    local::{Local, UNKNOWN},
    meter,
    page::Counted,
    pool, system,
    walk::Trail,
};

/// The slot whose thread recorded last, alone on its cache line.
#[repr(align(64))]
struct LastWriter(AtomicPtr<Slot>);

static LAST_WRITER: LastWriter = LastWriter(AtomicPtr::new(null_mut()));

const CHUNK_MASK: usize = size_of::<Chunk>() - 1;

/// Records a call of kind `kind` on the condition variable at `cond`.
#[inline(always)]
pub fn emit(kind: u64, cond: usize) {
    let Some(ring) = gate::ring() else {
        #[cfg(family)]
        family::on_silent_call(kind, cond);
        return;
    };
    let cond = cond as u64;
    match ring.header.mode.load(Ordering::Relaxed) {
        RECORDING if is_filtered(ring, cond) => {}
        RECORDING => record(ring, Local::of_this_thread(), (kind, cond), follow),
        COUNTING => count(ring, kind, cond),
        PASSING.. if meter::wanted(ring) == 0 => {}
        PASSING.. => meter::end(ring, Local::of_this_thread()),
    }
}

/// The same whatever is kept from being recorded: what lay there before is gone.
pub fn emit_always(kind: u64, cond: usize) {
    let Some(ring) = gate::ring() else { return };
    if ring.header.mode.load(Ordering::Relaxed) != PASSING {
        record(ring, Local::of_this_thread(), (kind, cond as u64), follow);
    }
}

/// Records that the calling thread goes to sleep or goes on, whatever else is recorded: a sleep costs more than the record of
/// it. `state` is its state in the interpreter; 0 if it has none, or no stack is wanted.
pub fn emit_park(operand: u64, state: u64) {
    let Some(ring) = gate::ring() else { return };
    if ring.header.mode.load(Ordering::Relaxed) != PASSING {
        record(ring, Local::of_this_thread(), (KIND_PARK, operand), |place, call| {
            if state != 0 {
                note_parked(place, state, call.time);
            }
        });
    }
}

/// Records what the calling thread's counters say, though it calls nothing: it is about to end the process.
pub fn emit_last() {
    let Some(ring) = gate::ring().filter(|ring| meter::wanted(ring) != 0) else { return };
    let local = Local::of_this_thread();
    if ring.header.mode.load(Ordering::Relaxed) == RECORDING && local.slot().is_some() {
        record(ring, local, (KIND_FILLER, 0), |_, _| {});
    }
}

/// An address that is no condition variable but, unlike 0, passes the empty filter.
const REHEARSED: usize = 8;

/// Nobody has recorded here yet: this process has just been forked.
#[cfg(family)]
pub fn forget_writers() {
    LAST_WRITER.0.store(null_mut(), Ordering::Relaxed);
}

/// Records that are written to be timed and then taken back.
pub struct Rehearsal {
    local: &'static Local,
    chunk: &'static Chunk,
}

impl Rehearsal {
    /// On what it calls.
    pub const COND: u64 = REHEARSED as u64;
    /// On what it calls in between.
    pub const OTHER_COND: u64 = 2 * Self::COND;

    /// Begins in the calling thread's chunk; `None` when it can get none.
    pub fn begin() -> Option<Self> {
        Self::emit();
        let local = Local::of_this_thread();
        let cursor = local.cursor.load(Ordering::Relaxed);
        // SAFETY: chunks are aligned to their size; a cursor that is not at a chunk's end lies in the thread's own.
        let chunk = (cursor & CHUNK_MASK != 0).then(|| unsafe { &*((cursor & !CHUNK_MASK) as *const Chunk) })?;
        Some(Self { local, chunk })
    }

    /// Writes one record.
    pub fn emit() {
        emit(KIND_SIGNAL, REHEARSED);
    }

    /// Writes one of another condition variable.
    pub fn emit_other() {
        emit(KIND_SIGNAL, 2 * REHEARSED);
    }

    /// Takes back every record of the chunk.
    pub fn rewind(&self) {
        self.chunk.committed.store(0, Ordering::Relaxed);
        self.local.cursor.store(from_ref(&self.chunk.records).addr(), Ordering::Relaxed);
    }
}

#[inline(always)]
fn is_filtered(ring: &Ring, cond: u64) -> bool {
    ring.header.filter.get(filter_index(cond)).is_some_and(|entry| entry.load(Ordering::Relaxed) == cond)
}

#[inline(always)]
fn record(ring: &'static Ring, local: &'static Local, (kind, cond): (u64, u64), then: impl FnOnce(Place, Call)) {
    let Some(slot) = local.slot().or_else(|| claim_slot(ring, local)) else {
        return lose_without_slot(ring, local, (kind, cond));
    };
    if slot.busy.load(Ordering::Relaxed) != 0 {
        return lose(Place { ring, slot, local }, (kind, cond));
    }
    slot.busy.store(1, Ordering::Relaxed);
    // The compiler must not read the clock before that store; the processor's store buffer is the reader's concern.
    compiler_fence(Ordering::SeqCst);
    order_after_others(slot);
    let time = system::now();
    let mut cursor = local.cursor.load(Ordering::Relaxed);
    if cursor & CHUNK_MASK == 0 || local.pending.load(Ordering::Relaxed) != 0 {
        cursor = make_room(ring, slot, local, time);
    }
    if cursor != 0 && meter::wanted(ring) != 0 {
        cursor = meter::note(Place { ring, slot, local }, Call { time, kind, cond }, cursor);
    }
    if cursor == 0 {
        lose(Place { ring, slot, local }, (kind, cond));
    } else {
        local.cursor.store(write(cursor, time, word(cond, kind)), Ordering::Relaxed);
        then(Place { ring, slot, local }, Call { time, kind, cond });
    }
    // Release: whoever sees the slot at rest sees the record.
    slot.busy.store(0, Ordering::Release);
}

/// Keeps this thread's next time from lying before the release by which another thread gave it the lock.
///
/// The processor may read its counter ahead of older instructions that wait for memory: the manual allows it, although
/// 400 000 hand-overs between two processors without the fence showed no such case. The fence costs a quarter of a
/// record, but is needed only when another thread has recorded since we did: that other's store precedes its release,
/// so having the lock we see it.
#[inline(always)]
fn order_after_others(slot: &Slot) {
    let this = from_ref(slot).cast_mut();
    if LAST_WRITER.0.load(Ordering::Relaxed) != this {
        LAST_WRITER.0.store(this, Ordering::Relaxed);
        system::wait_for_older_instructions();
    }
}

const fn word(operand: u64, kind: u64) -> u64 {
    (operand << KIND_BITS) | kind
}

/// Writes and commits the record at `cursor` and returns the next position.
#[inline(always)]
fn write(cursor: usize, time: u64, word: u64) -> usize {
    put(cursor, time, word);
    commit(cursor);
    cursor + size_of::<Record>()
}

#[inline(always)]
fn put(cursor: usize, time: u64, word: u64) {
    // SAFETY: a cursor that is not at a chunk's end points to a record of a chunk that this thread owns.
    let record = unsafe { &*(cursor as *const Record) };
    record.time.store(time, Ordering::Relaxed);
    record.word.store(word, Ordering::Relaxed);
}

/// Makes the record at `cursor`, and those before it, visible to the reader.
#[inline(always)]
fn commit(cursor: usize) {
    // SAFETY: chunks are aligned to their size, so this is the chunk around the record.
    let chunk = unsafe { &*((cursor & !CHUNK_MASK) as *const Chunk) };
    // The records begin one record's size after the chunk: the position in such units is the count with this one.
    let count = (cursor & CHUNK_MASK) / size_of::<Record>();
    // Release: a record must be complete before it is counted.
    chunk.committed.store(count as u32, Ordering::Release);
}

/// Appends a stack to the call that was recorded last, all of it in one chunk; `false` when the pool is empty.
#[inline(never)]
pub fn append_stack(place: Place, print: u64, operand: u64, trail: Option<&Trail<'_>>) -> bool {
    let count = trail.map_or(0, Trail::count);
    let Some(mut cursor) = stretch(place, count + 1) else { return false };
    put(cursor, print, word(operand | count as u64, KIND_STACK));
    for [code, instruction] in trail.into_iter().flat_map(Trail::frames) {
        cursor += size_of::<Record>();
        put(cursor, code, instruction);
    }
    commit(cursor);
    place.local.cursor.store(cursor + size_of::<Record>(), Ordering::Relaxed);
    true
}

/// Records what the thread's counters say at a call at `time` that is recorded next, and returns the position for that; 0 when
/// there is none.
pub fn append_readings(place: Place, time: u64, readings: &[Option<Counted>]) -> usize {
    let Some(start) = stretch(place, 2 * readings.len() + 1) else { return 0 };
    let mut cursor = start;
    let mut append = |value, times| {
        cursor += size_of::<Record>();
        put(cursor, value, times);
    };
    let mut records = readings.len() as u64;
    for reading in readings {
        match *reading {
            None => append(0, TIMES_UNKNOWN),
            Some(Counted { value, enabled, running }) if enabled == running => {
                append(value, enabled << TIMES_BITS | TIMES_SAME);
            }
            Some(Counted { value, enabled, running }) => {
                append(value, enabled << TIMES_BITS | TIMES_SHARED);
                append(running, 0);
                records += 1;
            }
        }
    }
    put(start, time, word(records << 8 | readings.len() as u64, KIND_READINGS));
    commit(cursor);
    place.local.cursor.store(cursor + size_of::<Record>(), Ordering::Relaxed);
    position(place.ring, place.slot, place.local).unwrap_or(0)
}

/// The thread's position where `records` records have room before the end of the chunk.
fn stretch(place: Place, records: usize) -> Option<usize> {
    let Place { ring, slot, local } = place;
    let mut cursor = position(ring, slot, local)?;
    if size_of::<Chunk>() - (cursor & CHUNK_MASK) >= records * size_of::<Record>() {
        return Some(cursor);
    }
    while cursor & CHUNK_MASK != 0 {
        cursor = write(cursor, 0, KIND_FILLER);
    }
    local.cursor.store(cursor, Ordering::Relaxed);
    position(ring, slot, local)
}

/// The position for the next record, after a fresh chunk and a mark of lost records where they are due; 0 when the
/// pool is empty.
#[cold]
#[inline(never)]
fn make_room(ring: &'static Ring, slot: &Slot, local: &Local, time: u64) -> usize {
    let Some(cursor) = position(ring, slot, local) else { return 0 };
    let lost = local.pending.load(Ordering::Relaxed);
    if lost == 0 {
        return cursor;
    }
    local.cursor.store(write(cursor, time, word(u64::from(lost), KIND_LOST)), Ordering::Relaxed);
    local.pending.fetch_sub(lost, Ordering::Relaxed);
    position(ring, slot, local).unwrap_or(0)
}

/// The thread's position, moved into a fresh chunk if it was at the end of one.
fn position(ring: &'static Ring, slot: &Slot, local: &Local) -> Option<usize> {
    let cursor = local.cursor.load(Ordering::Relaxed);
    if cursor & CHUNK_MASK != 0 {
        return Some(cursor);
    }
    let index = pool::take_chunk(ring)?;
    let chunk = ring.chunks.get(index as usize)?;
    chunk.next.store(0, Ordering::Relaxed);
    chunk.committed.store(0, Ordering::Relaxed);
    let link = if cursor == 0 {
        &slot.first
    } else {
        // SAFETY: the cursor is one past the end of a chunk that this thread owns.
        &unsafe { &*((cursor - size_of::<Chunk>()) as *const Chunk) }.next
    };
    // Release: the chunk must be empty before the reader can reach it.
    link.store(index + 1, Ordering::Release);
    let fresh = from_ref(chunk).addr() + size_of::<Record>();
    local.cursor.store(fresh, Ordering::Relaxed);
    Some(fresh)
}

#[cold]
#[inline(never)]
fn claim_slot(ring: &'static Ring, local: &Local) -> Option<&'static Slot> {
    if local.claiming.swap(1, Ordering::Relaxed) != 0 {
        return None;
    }
    let slot = pool::take_slot(ring).and_then(|index| ring.slots.get(index as usize));
    if let Some(slot) = slot {
        let earlier = u64::from(local.pending.load(Ordering::Relaxed));
        slot.lost.store(earlier, Ordering::Relaxed);
        ring.header.lost_without_slot.fetch_sub(earlier, Ordering::Relaxed);
        // Release: whoever sees the thread sees an otherwise empty slot.
        slot.tid.store(system::thread_id(), Ordering::Release);
        if meter::wanted(ring) != 0 {
            meter::begin(ring, slot);
        }
        local.set_slot(slot);
        local.state.store(state_so_far(ring), Ordering::Relaxed);
    }
    local.claiming.store(0, Ordering::Relaxed);
    slot
}

/// What is known of the state of a thread whose first event this is: if locks are known, that it has owned none.
fn state_so_far(ring: &Ring) -> u64 {
    let [lock, ..] = &ring.header.locks;
    if lock.cond.load(Ordering::Relaxed) == 0 { UNKNOWN } else { 0 }
}

/// The call is lost as an event, and counted like those that are only counted.
#[cold]
#[inline(never)]
fn lose(Place { ring, slot, local }: Place, (kind, cond): (u64, u64)) {
    count_lost(ring, kind, cond);
    local.pending.fetch_add(1, Ordering::Relaxed);
    // Release: whoever sees the loss sees how it was counted.
    slot.lost.fetch_add(1, Ordering::Release);
}

#[cold]
#[inline(never)]
fn lose_without_slot(ring: &'static Ring, local: &Local, (kind, cond): (u64, u64)) {
    count_lost(ring, kind, cond);
    local.pending.fetch_add(1, Ordering::Relaxed);
    ring.header.lost_without_slot.fetch_add(1, Ordering::Release);
}
