//! One thread's slot: follows its chain of chunks, gives used chunks back, and notices losses.
//!
//! Invariant: the reader is always inside the thread's last chunk or at the end of an earlier one; a chunk is given
//! back exactly once, after the thread has linked the next.

use std::{
    hint,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    model::{address::LiveAddress, event::SampleCause, ids::Tid, stack::StackId},
    source::measuring::Readings,
    source::parking::ParkCall,
    source::preload::{
        clock::RawTime,
        layout::{
            CHUNKS, Chunk, KIND_BITS, KIND_FILLER, KIND_INIT, KIND_LOST, KIND_PARK, KIND_READINGS, KIND_SIGNAL,
            KIND_STACK, KIND_TIMED_WAIT, KIND_WAIT, PARK_BITS, PARK_EVENT, PARK_GAVE_UP, PARK_MUTEX, PARK_SUSPENDED,
            PARK_TIMED_EVENT, PARK_WOKEN, RECORDS, Record, SLOTS, Slot,
        },
        readings,
        ring::SharedRing,
        stacks::{Memory, Naming, Subject},
    },
    target::site::CondFunction,
};

/// Looks at a slot before a thread counts as busy: an emission takes a fraction of that.
const LOOKS: u32 = 200;

/// A quiet thread is checked after 1, 2, 4, ... polls without a record, and then every so many polls.
const RAREST_CHECK: u32 = 64;

/// Times that one poll reads the same chunk: it reads faster than any thread writes.
const MOST_TIMES: u8 = 8;

/// More losses than that at once are not believed, so that sums of them cannot overflow.
pub const MOST_LOST: u64 = u32::MAX as u64;

/// Something that a thread's records say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: RawTime,
    /// Which thread.
    pub tid: Tid,
    /// What.
    pub what: Recorded,
}

/// What an [`Entry`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// A call.
    Call(CondFunction, LiveAddress),
    /// So many records are missing from here on.
    Lost(u64),
    /// A stack that belongs to the call before it; `None` when it could not be read.
    Stack(Subject, Option<StackId>),
    /// A sleep that has to do with no global lock.
    Park(ParkCall),
    /// What the thread's counters say at the call after it.
    Readings(Box<Readings>),
    /// The thread has ended.
    Ended,
}

/// What one poll of all slots yields.
#[derive(Debug)]
pub struct Harvest {
    /// What was read.
    pub entries: Vec<Entry>,
    /// Gives names to stacks, at once: code may be gone soon.
    pub naming: Naming,
    /// The chunks that have been read to their end.
    pub emptied: Emptied,
}

/// How often one poll has read each chunk to its end. Once is usual, and twice or so when the thread has had it back meanwhile;
/// a chain that was tampered with may have a cycle.
#[derive(Debug)]
pub struct Emptied {
    times: Vec<u8>,
    left: usize,
    is_all: bool,
}

impl Default for Emptied {
    fn default() -> Self {
        Self { times: vec![0; CHUNKS + 1], left: CHUNKS + SLOTS, is_all: true }
    }
}

impl Emptied {
    /// Whether all chains were followed to their ends.
    pub fn is_all(&self) -> bool {
        self.is_all
    }

    /// Notes the chunk that `link` names; `false` when this poll is to read no more of its chain.
    fn note(&mut self, link: u32) -> bool {
        let times = usize::try_from(link).ok().and_then(|link| self.times.get_mut(link));
        let goes_on = self.left > 0 && times.as_ref().is_some_and(|times| **times < MOST_TIMES);
        self.left = self.left.saturating_sub(1);
        times.into_iter().for_each(|times| *times = times.saturating_add(1));
        self.is_all &= goes_on;
        goes_on
    }
}

/// Whose records are read, and the earliest moment of a loss that is told late.
#[derive(Debug, Clone, Copy)]
struct Reading {
    tid: Tid,
    floor: RawTime,
}

/// The reading end of one slot.
#[derive(Debug, Default)]
pub struct SlotReader {
    tid: Option<Tid>,
    chunk: u32,
    position: usize,
    last: Option<RawTime>,
    stacks: Memory,
    /// Losses that marks in the records stand for.
    marked: u64,
    /// Losses that have been told.
    told: u64,
    /// Polls without a record.
    quiet: u32,
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
        self.follow(ring, slot, into, Reading { tid, floor });
        into.entries.extend(self.tell(lost, Reading { tid, floor }));
        self.quiet = if into.entries.len() == before { self.quiet.saturating_add(1) } else { 0 };
    }

    /// Whether to check that the thread still exists.
    pub fn is_due(&self) -> bool {
        self.quiet > 0 && (self.quiet.is_power_of_two() || self.quiet.is_multiple_of(RAREST_CHECK))
    }

    /// Tells that the thread has ended, after everything else about it.
    pub fn farewell(&self, tid: Tid, floor: RawTime) -> Entry {
        Entry { at: self.last.map_or(floor, |last| last.max(floor)), tid, what: Recorded::Ended }
    }

    /// Gives everything back after the thread has ended.
    pub fn end(&mut self, ring: &SharedRing, index: usize) {
        if self.chunk != 0 {
            ring.free_chunk(self.chunk);
        }
        ring.free_slot(index);
        *self = Self::default();
    }

    fn follow(&mut self, ring: &SharedRing, slot: &Slot, into: &mut Harvest, reading: Reading) {
        loop {
            if self.chunk == 0 {
                self.chunk = link(&slot.first);
            }
            let Some(chunk) = ring.chunk(self.chunk) else { return };
            self.take_committed(chunk, into, reading);
            let next = if self.position < RECORDS { 0 } else { link(&chunk.next) };
            if next == 0 || !into.emptied.note(self.chunk) {
                return;
            }
            ring.free_chunk(self.chunk);
            (self.chunk, self.position) = (next, 0);
        }
    }

    fn take_committed(&mut self, chunk: &Chunk, into: &mut Harvest, reading: Reading) {
        // Acquire: the records up to here are complete.
        let committed = usize::try_from(chunk.committed.load(Ordering::Acquire)).unwrap_or(RECORDS).min(RECORDS);
        let mut records = chunk.records.get(self.position..committed).unwrap_or_default();
        while let Some((record, rest)) = records.split_first() {
            let word = record.word.load(Ordering::Relaxed);
            let after = match word & ((1 << KIND_BITS) - 1) {
                KIND_STACK => self.take_stack(record, rest, into, reading),
                KIND_READINGS => self.take_readings(record, rest, into, reading),
                _ => {
                    into.entries.extend(self.decode(record, reading));
                    0
                }
            };
            records = rest.get(after..).unwrap_or_default();
        }
        self.position = self.position.max(committed);
    }

    /// Takes the stack that begins with `record`, and says how many of the records after it belong to it.
    fn take_stack(&mut self, record: &Record, after: &[Record], into: &mut Harvest, reading: Reading) -> usize {
        let head = (record.time.load(Ordering::Relaxed), record.word.load(Ordering::Relaxed) >> KIND_BITS);
        let noted = into.naming.read(&mut self.stacks, head, after);
        if let (Some(subject), Some(at)) = (noted.subject, self.last) {
            let entry = Entry { at, tid: reading.tid, what: Recorded::Stack(subject, noted.stack) };
            // The thread that releases owns the lock until then: its stack comes before the call.
            let behind = usize::from(
                subject == Subject::Lock(SampleCause::AtRelease) && into.entries.last().is_some_and(|it| it.at == at),
            );
            into.entries.insert(into.entries.len() - behind, entry);
        }
        noted.records
    }

    /// The same with readings.
    fn take_readings(&mut self, record: &Record, after: &[Record], into: &mut Harvest, reading: Reading) -> usize {
        let (readings, records) = readings::taken(record.word.load(Ordering::Relaxed) >> KIND_BITS, after);
        let at = RawTime::from_record(record.time.load(Ordering::Relaxed));
        let entry = |readings| Entry { at, tid: reading.tid, what: Recorded::Readings(readings) };
        into.entries.extend(readings.map(entry));
        records
    }

    fn decode(&mut self, record: &Record, reading: Reading) -> Option<Entry> {
        let word = record.word.load(Ordering::Relaxed);
        let operand = word >> KIND_BITS;
        let call = |function| Recorded::Call(function, LiveAddress::in_target(operand));
        let what = match word & ((1 << KIND_BITS) - 1) {
            KIND_SIGNAL => call(CondFunction::Signal),
            KIND_TIMED_WAIT => call(CondFunction::TimedWait),
            KIND_WAIT => call(CondFunction::Wait),
            KIND_INIT => call(CondFunction::Init),
            KIND_PARK => Recorded::Park(park(operand)?),
            KIND_LOST => return self.pass_mark(operand, reading),
            // No call: what has more than one record is taken elsewhere, the rest has no meaning.
            KIND_STACK | KIND_FILLER | KIND_READINGS.. => return None,
        };
        let at = RawTime::from_record(record.time.load(Ordering::Relaxed));
        self.last = Some(at);
        Some(Entry { at, tid: reading.tid, what })
    }

    fn pass_mark(&mut self, count: u64, reading: Reading) -> Option<Entry> {
        self.marked = self.marked.saturating_add(count);
        self.tell(self.marked, reading)
    }

    /// An entry for the losses up to `total` that have not been told yet, at the last moment before they can have
    /// begun: everything before `floor` had been read when there was no loss.
    fn tell(&mut self, total: u64, Reading { tid, floor }: Reading) -> Option<Entry> {
        let news = total.checked_sub(self.told).filter(|news| *news > 0)?.min(MOST_LOST);
        self.told = total;
        let at = self.last.map_or(floor, |last| last.max(floor));
        Some(Entry { at, tid, what: Recorded::Lost(news) })
    }
}

/// What the operand of a park says; `None` when it makes no sense.
fn park(operand: u64) -> Option<ParkCall> {
    let address = LiveAddress::in_target(operand >> PARK_BITS);
    match operand & ((1 << PARK_BITS) - 1) {
        PARK_MUTEX => Some(ParkCall::Mutex(address)),
        PARK_SUSPENDED => Some(ParkCall::Suspended),
        PARK_EVENT => Some(ParkCall::Event),
        PARK_TIMED_EVENT => Some(ParkCall::TimedEvent(address)),
        PARK_WOKEN => Some(ParkCall::Woken),
        PARK_GAVE_UP => Some(ParkCall::GaveUp),
        _ => None,
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
