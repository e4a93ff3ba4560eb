//! One thread's slot: follows its chain of chunks, gives used chunks back, and notices losses.
//!
//! Invariant: the reader is always inside the thread's last chunk or at the end of an earlier one; a chunk is given
//! back exactly once, after the thread has linked the next.

use std::{
    hint,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    model::{address::LiveAddress, ids::Tid},
    source::preload::{
        clock::RawTime,
        layout::{Chunk, KIND_LOST, KIND_SIGNAL, KIND_TIMED_WAIT, KIND_WAIT, RECORDS, Record, Slot},
        ring::SharedRing,
    },
    target::site::CondFunction,
};

/// Looks at a slot before a thread counts as busy: an emission takes a fraction of that.
const LOOKS: u32 = 200;

/// More losses than that at once are not believed, so that sums of them cannot overflow.
const MOST_LOST: u64 = u32::MAX as u64;

/// Something that a thread's records say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: RawTime,
    /// Which thread.
    pub tid: Tid,
    /// What.
    pub what: Recorded,
}

/// What an [`Entry`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// A call.
    Call(CondFunction, LiveAddress),
    /// So many records are missing from here on.
    Lost(u64),
}

/// What one poll of all slots yields.
#[derive(Debug)]
pub struct Harvest {
    /// What was read.
    pub entries: Vec<Entry>,
    /// Chunks that may still be looked at: a chain that was tampered with may have a cycle.
    pub chunks: usize,
}

type Decode<'poll> = &'poll dyn Fn(&mut SlotReader, &Record) -> Option<Entry>;

/// The reading end of one slot.
#[derive(Debug, Default)]
pub struct SlotReader {
    tid: Option<Tid>,
    chunk: u32,
    position: usize,
    last: Option<RawTime>,
    /// Losses that marks in the records stand for.
    marked: u64,
    /// Losses that have been told.
    told: u64,
    /// Polls without a record.
    pub quiet: u32,
    /// Since when the thread has never been seen at rest.
    pub busy_since: Option<RawTime>,
}

impl SlotReader {
    /// The thread that uses the slot; `None` while nobody does.
    pub fn thread(&mut self, slot: &Slot) -> Option<Tid> {
        if self.tid.is_none() {
            // Acquire: the slot was emptied before it got this number.
            self.tid = Tid::from_raw(slot.tid.load(Ordering::Acquire));
        }
        self.tid
    }

    /// Takes everything the thread has recorded. No entry is put before `floor` for a loss that is told late.
    pub fn read(&mut self, ring: &SharedRing, slot: &Slot, floor: RawTime, into: &mut Harvest) {
        let Some(tid) = self.thread(slot) else { return };
        // Acquire, and before the records: a loss that is counted here and has no mark among them comes after them.
        let lost = slot.lost.load(Ordering::Acquire);
        let before = into.entries.len();
        self.follow(ring, slot, into, &|reader, record| reader.decode(record, tid, floor));
        into.entries.extend(self.tell(lost, tid, floor));
        self.quiet = if into.entries.len() == before { self.quiet.saturating_add(1) } else { 0 };
    }

    /// Gives everything back after the thread has ended.
    pub fn end(&mut self, ring: &SharedRing, index: usize) {
        if self.chunk != 0 {
            ring.free_chunk(self.chunk);
        }
        ring.free_slot(index);
        *self = Self::default();
    }

    fn follow(&mut self, ring: &SharedRing, slot: &Slot, into: &mut Harvest, decode: Decode<'_>) {
        while into.chunks > 0 {
            into.chunks -= 1;
            if self.chunk == 0 {
                self.chunk = link(&slot.first);
            }
            let Some(chunk) = ring.chunk(self.chunk) else { return };
            self.take_committed(chunk, &mut into.entries, decode);
            let next = if self.position < RECORDS { 0 } else { link(&chunk.next) };
            if next == 0 {
                return;
            }
            ring.free_chunk(self.chunk);
            (self.chunk, self.position) = (next, 0);
        }
    }

    fn take_committed(&mut self, chunk: &Chunk, into: &mut Vec<Entry>, decode: Decode<'_>) {
        // Acquire: the records up to here are complete.
        let committed = usize::try_from(chunk.committed.load(Ordering::Acquire)).unwrap_or(RECORDS).min(RECORDS);
        let records = chunk.records.get(self.position..committed).unwrap_or_default();
        into.extend(records.iter().filter_map(|record| decode(self, record)));
        self.position = self.position.max(committed);
    }

    fn decode(&mut self, record: &Record, tid: Tid, floor: RawTime) -> Option<Entry> {
        let word = record.word.load(Ordering::Relaxed);
        let operand = word >> 2;
        let function = match word & 3 {
            KIND_SIGNAL => CondFunction::Signal,
            KIND_TIMED_WAIT => CondFunction::TimedWait,
            KIND_WAIT => CondFunction::Wait,
            KIND_LOST => return self.pass_mark(operand, tid, floor),
            _ => return None,
        };
        let at = RawTime::from_record(record.time.load(Ordering::Relaxed));
        self.last = Some(at);
        Some(Entry { at, tid, what: Recorded::Call(function, LiveAddress::in_target(operand)) })
    }

    fn pass_mark(&mut self, count: u64, tid: Tid, floor: RawTime) -> Option<Entry> {
        self.marked = self.marked.saturating_add(count);
        self.tell(self.marked, tid, floor)
    }

    /// An entry for the losses up to `total` that have not been told yet, at the last moment before they can have
    /// begun: everything before `floor` had been read when there was no loss.
    fn tell(&mut self, total: u64, tid: Tid, floor: RawTime) -> Option<Entry> {
        let news = total.checked_sub(self.told).filter(|news| *news > 0)?.min(MOST_LOST);
        self.told = total;
        let at = self.last.map_or(floor, |last| last.max(floor));
        Some(Entry { at, tid, what: Recorded::Lost(news) })
    }
}

/// Whether the thread was, at one moment at least since the call began, not in the middle of a record.
pub fn is_at_rest(slot: &Slot) -> bool {
    (0..LOOKS).any(|_| {
        // Acquire: what was recorded before is visible.
        let rests = slot.busy.load(Ordering::Acquire) == 0;
        if !rests {
            hint::spin_loop();
        }
        rests
    })
}

fn link(word: &AtomicU32) -> u32 {
    // Acquire: the chunk was emptied before it was linked.
    word.load(Ordering::Acquire)
}
