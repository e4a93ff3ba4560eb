//! The source itself: polls all slots, puts calls in order of time, and tells how far it is complete.
//!
//! A thread may sleep between reading its clock and completing the record. It says so in its slot, and the watermark
//! waits for it. Times stay raw until the watermark has passed them, so that each is converted between two anchors.

use std::{fmt, io, mem, sync::atomic::Ordering, thread, time::Duration};

use crate::{
    model::{
        counts::{Counters, Measured},
        event::{CountedSteps, Event, LostEvents, ParkStep, StackSample, What},
        ids::{LockId, Pid, Tid},
        time::{MonoNanos, Nanos},
    },
    source::{
        OnStack, Pausing, Source, Tally,
        calls::{Call, SharedTranslator, Verdict},
        parking::ParkReader,
        preload::{
            clock::{RawTime, Timeline},
            layout::{COST_EMISSIONS, LOCKS},
            reader::{Emptied, Entry, Harvest, MOST_LOST, Recorded, SlotReader, is_at_rest},
            readings::Metering,
            ring::{SharedRing, halves},
            stacks::{KnownLocks, Naming, Subject, describe},
            tasks::Tasks,
        },
    },
    target::runtime::Runtime,
};

/// Makes events of a call, appends them, and says whether the call belongs to a lock.
pub type CallSink = Box<dyn FnMut(Call, &mut Vec<Event>) -> Verdict>;

/// How far the watermark stays behind: a busy mark is visible to us by then, wherever the thread runs.
const MARGIN: Nanos = Nanos::from_nanos(10_000);
/// A thread that seems busy for so long has left the probe by a long jump, or the target is stopped.
const LONGEST_BUSY: Nanos = Nanos::from_millis(2_000);
/// Entries that may wait for a busy thread: at 32 bytes each, 32 MiB; those with readings take 256 more. A full memory adds twice as many.
const MOST_PENDING: usize = 1 << 20;
/// Events are several times as large as entries: a long backlog is delivered in slices of so many.
const SLICE: usize = 1 << 18;
/// Foreign condition variables are looked at again that often, since their memory may have become a lock's.
const FILTER_LIFE: Nanos = Nanos::from_millis(1_000);
/// Threads whose existence is checked in one poll, at most; each check costs two to three microseconds.
const CHECKS: usize = 1024;
/// An owner whose stack is being read cannot release: reading takes some microseconds and must stay a small part.
const READ_SPACING: Nanos = Nanos::from_nanos(100_000);
/// Holds of this length get a stack even if nobody waited.
const LONG_HOLD: Nanos = Nanos::from_millis(1);
/// After that long every thread sees that calls are recorded again.
const SWITCHED: Duration = Duration::from_micros(50);
/// More clock ticks than any sum of the probe's reaches, so that sums of them cannot overflow: some weeks.
const MOST_TICKS: u64 = 1 << 52;
/// At the end, times to read on when a poll has not read everything.
const LAST_POLLS: u32 = 3;
/// At the end, how long to wait for threads that are in the middle of a record.
const LAST_WAIT: Duration = Duration::from_millis(100);
/// Between two looks while waiting; longer than anchors must be apart.
const LAST_PAUSE: Duration = Duration::from_micros(200);

/// Lock events from the probe inside the target.
pub struct PreloadSource {
    ring: SharedRing,
    timeline: Timeline,
    pid: Pid,
    tasks: Tasks,
    calls: CallSink,
    naming: Naming,
    locks: KnownLocks,
    /// There when the target is a free-threaded build.
    parks: Option<ParkReader>,
    /// There when threads' counters are read.
    metering: Option<Metering>,
    readers: Vec<SlotReader>,
    /// Read and not yet passed by the watermark.
    pending: Vec<Entry>,
    watermark: RawTime,
    filter_cleared: RawTime,
    lock_events: u64,
    /// Those that were lost, in the probe or here.
    lost: u64,
    /// Calls whose loss is told without their having been counted.
    uncounted: u64,
    /// What the probe had counted of each lock when it was last asked.
    counts: Vec<CountedSteps>,
}

impl PreloadSource {
    pub(super) fn new(
        (ring, timeline): (SharedRing, Timeline),
        pid: Pid,
        measured: &[Measured],
        calls: CallSink,
    ) -> Self {
        let start = RawTime::from_record(0);
        Self {
            ring,
            timeline,
            pid,
            tasks: Tasks::of(pid),
            calls,
            naming: Naming::default(),
            locks: KnownLocks::default(),
            parks: None,
            metering: Metering::of(measured),
            readers: Vec::new(),
            pending: Vec::new(),
            watermark: start,
            filter_cleared: start,
            lock_events: 0,
            lost: 0,
            uncounted: 0,
            counts: Vec::new(),
        }
    }

    /// Has the probe note stacks from now on, of a target with this runtime whose locks `locks` finds; `on_stack` makes
    /// out what they mean.
    pub fn note_stacks(&mut self, runtime: &Runtime, locks: SharedTranslator, on_stack: OnStack) {
        let now = self.timeline.advance();
        let ticks = |time| now.since(self.timeline.earlier(now, time));
        let walk = &self.ring.header().walk;
        walk.spacing.store(ticks(READ_SPACING), Ordering::Relaxed);
        walk.long_hold.store(ticks(LONG_HOLD), Ordering::Relaxed);
        describe(walk, runtime);
        self.name_with(on_stack);
        self.locks.found = Some(locks);
        self.locks.tell(&self.ring.header().locks);
    }

    /// Tells of sleeps that have to do with no global lock, as `parks` reads them.
    pub fn tell_parks(&mut self, parks: ParkReader) {
        self.parks = Some(parks);
    }

    /// Has `on_stack` make out what stacks mean.
    pub(super) fn name_with(&mut self, on_stack: OnStack) {
        self.naming = Naming::by(on_stack);
    }

    /// Entries that wait for the watermark.
    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Reads every slot, and puts in order of time what waits; `true` when all records before `now`, less the margin, have been read.
    fn poll(&mut self, now: RawTime) -> bool {
        let slots = self.ring.used_slots();
        self.readers.resize_with(slots.len().max(self.readers.len()), SlotReader::default);
        let longest_busy = self.timeline.earlier(now, LONGEST_BUSY);
        let (entries, naming) = (mem::take(&mut self.pending), mem::take(&mut self.naming));
        let mut harvest = Harvest { entries, naming, emptied: Emptied::default() };
        let mut complete = true;
        let mut checks = CHECKS;
        for (index, (slot, reader)) in slots.iter().zip(&mut self.readers).enumerate() {
            let Some(tid) = reader.thread(slot) else { continue };
            // Before reading: what a thread at rest has recorded so far is visible.
            reader.busy_since = if is_at_rest(slot) { None } else { reader.busy_since.or(Some(now)) };
            reader.read(&self.ring, slot, self.watermark, &mut harvest);
            let check = checks > 0 && reader.is_due();
            checks -= usize::from(check);
            if check && self.tasks.has_ended(tid) {
                // Once more: the thread may have recorded between the reading and its end.
                reader.read(&self.ring, slot, self.watermark, &mut harvest);
                if self.metering.is_some() {
                    harvest.entries.push(reader.farewell(tid, self.watermark));
                }
                reader.end(&self.ring, index);
            }
            complete &= reader.busy_since.is_none_or(|since| since < longest_busy);
        }
        complete &= harvest.emptied.is_all();
        (self.pending, self.naming) = (harvest.entries, harvest.naming);
        self.pending.sort_by_key(|entry| entry.at);
        complete || self.pending.len() > MOST_PENDING
    }

    /// The time up to which to deliver at once what lies before `watermark`.
    fn slice(&self, watermark: RawTime) -> RawTime {
        let (first, end) = (self.pending.first(), self.pending.get(SLICE));
        let end = end.filter(|end| first.is_some_and(|first| first.at < end.at));
        end.map_or(watermark, |end| end.at.clamp(self.watermark, watermark))
    }

    /// Delivers what lies before `watermark`, in order of time.
    fn deliver(&mut self, watermark: RawTime, out: &mut Vec<Event>) {
        self.drop_impossible();
        let ready = self.pending.partition_point(|entry| entry.at < watermark);
        let mut pending = mem::take(&mut self.pending);
        for entry in pending.drain(..ready) {
            self.deliver_one(entry, out);
        }
        self.pending = pending;
        self.watermark = watermark;
        self.timeline.forget_before(watermark);
    }

    /// Turns entries from the future, which only a damaged memory holds, into losses at the watermark.
    fn drop_impossible(&mut self) {
        let now = self.timeline.clock().now();
        let possible = self.pending.partition_point(|entry| entry.at <= now);
        let mut impossible = self.pending.split_off(possible);
        for entry in &mut impossible {
            let what = mem::replace(&mut entry.what, Recorded::Lost(0));
            *entry = Entry { at: self.watermark, tid: entry.tid, what: self.late(what) };
        }
        self.pending.splice(..0, impossible);
    }

    /// What an entry stands for that cannot be told any more; the probe has not counted its call.
    fn late(&mut self, what: Recorded) -> Recorded {
        match what {
            Recorded::Call(..) => {
                self.uncounted += 1;
                Recorded::Lost(1)
            }
            Recorded::Park(_) => Recorded::Lost(1),
            Recorded::Lost(count) => Recorded::Lost(count),
            // No event is missing for want of a stack, and the next reading tells what this one did.
            Recorded::Stack(..) | Recorded::Readings(_) => Recorded::Lost(0),
            Recorded::Ended => Recorded::Ended,
        }
    }

    fn deliver_one(&mut self, entry: Entry, out: &mut Vec<Event>) {
        let Entry { at, tid, what } = entry;
        // A record that comes after the watermark has passed its time is as good as lost.
        let (raw, what) = if at < self.watermark { (self.watermark, self.late(what)) } else { (at, what) };
        let at = self.timeline.convert(raw);
        match what {
            Recorded::Lost(0) => {}
            Recorded::Lost(count) => {
                self.lost = self.lost.saturating_add(count);
                out.push(Event { at, tid, what: What::LostLock(LostEvents { count }) });
            }
            Recorded::Readings(readings) => {
                self.metering.iter_mut().for_each(|metering| metering.tell(raw, (at, tid), &readings, out));
            }
            Recorded::Ended => self.metering.iter_mut().for_each(|metering| metering.forget(tid)),
            Recorded::Stack(Subject::Parked, stack) => {
                out.push(Event { at, tid, what: What::Park(ParkStep::Stack(stack)) });
            }
            Recorded::Park(park) => {
                self.lock_events += 1;
                let step = self.parks.as_mut().map(|parks| parks.read(park));
                out.extend(step.map(|step| Event { at, tid, what: What::Park(step) }));
            }
            Recorded::Stack(Subject::Lock(cause), stack) => {
                out.push(Event { at, tid, what: What::Stack(StackSample { until: at, stack, cause }) });
            }
            Recorded::Call(function, cond) => {
                self.lock_events += 1;
                let verdict = (self.calls)(Call { at, tid, function, cond }, out);
                if verdict == Verdict::Foreign {
                    self.ring.filter_out(cond.raw());
                }
            }
        }
    }

    /// What the probe has counted since it was last asked.
    fn deliver_counts(&mut self, at: RawTime, out: &mut Vec<Event>) {
        let at = self.timeline.convert(at);
        let tid = self.pid.main_thread();
        let uncounted = self.ring.header().uncounted.swap(0, Ordering::Relaxed);
        if uncounted > 0 || mem::take(&mut self.uncounted) > 0 {
            out.push(Event { at, tid, what: What::Uncounted });
        }
        let locks = self.ring.header().locks.iter().take(self.locks.told());
        self.counts.resize(self.locks.told().min(LOCKS).max(self.counts.len()), CountedSteps::default());
        for (index, (lock, before)) in (0..).zip(locks.zip(&mut self.counts)) {
            let now = lock.acquisitions.load(Ordering::Relaxed);
            let holds = now.saturating_sub(before.holds);
            // Of waits only the low half is counted there.
            let [low, _] = halves(before.waits);
            let waits = u64::from(lock.waits.load(Ordering::Relaxed).wrapping_sub(low));
            if holds > 0 || waits > 0 {
                *before = CountedSteps { holds: now, waits: before.waits.wrapping_add(waits) };
                let steps = CountedSteps { holds, waits };
                // Of a lock that came later the first steps may have been neither told nor counted.
                if index == 0 {
                    out.push(Event { at, tid, what: What::Counted(LockId::from_index(index), steps) });
                }
            }
        }
    }

    /// Clock ticks that counting has taken; a nanosecond is too coarse for one of them.
    fn counting_ticks(&self) -> u64 {
        let each = self.ring.header().counting_cost.load(Ordering::Relaxed).min(MOST_TICKS);
        // An acquisition, and the release that follows it; or a wait.
        let counted = self.counts.iter().fold(0, |sum: u64, counts| {
            sum.saturating_add(counts.holds.saturating_mul(2)).saturating_add(counts.waits)
        });
        let ticks = u128::from(each) * u128::from(counted) / u128::from(COST_EMISSIONS);
        u64::try_from(ticks).unwrap_or(MOST_TICKS).min(MOST_TICKS)
    }

    fn refresh_filter(&mut self, now: RawTime) {
        if self.filter_cleared < self.timeline.earlier(now, FILTER_LIFE) {
            self.filter_cleared = now;
            self.ring.clear_filter();
        }
    }

    fn wait_for_rest(&self) {
        let slots = self.ring.used_slots();
        let looks = LAST_WAIT.as_micros() / LAST_PAUSE.as_micros();
        for _ in 0..looks {
            thread::sleep(LAST_PAUSE);
            if slots.iter().all(is_at_rest) {
                return;
            }
        }
    }
}

impl Source for PreloadSource {
    fn drain(&mut self, _now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos {
        let now = self.timeline.advance();
        self.refresh_filter(now);
        let complete = self.poll(now);
        let reached = if complete { self.timeline.earlier(now, MARGIN).max(self.watermark) } else { self.watermark };
        let reached = self.slice(reached);
        self.deliver(reached, out);
        self.deliver_counts(reached, out);
        self.locks.tell(&self.ring.header().locks);
        self.timeline.convert(reached)
    }

    fn pause(&mut self) -> Pausing {
        self.ring.count();
        Pausing::Paused
    }

    fn resume(&mut self, _waited: &[Tid]) -> io::Result<()> {
        let now = self.timeline.clock().now();
        self.metering.iter_mut().for_each(|metering| metering.on_resumed(now));
        self.ring.record();
        // A thread that has asked just before is on its way by then.
        thread::sleep(SWITCHED);
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        self.ring.disable();
        self.wait_for_rest();
        let now = self.timeline.advance();
        let _all_read = (0..LAST_POLLS).any(|_| self.poll(now));
        let reached = self.watermark;
        self.deliver(now, out);
        // The target may have ended long ago.
        self.deliver_counts(reached, out);
        let count = self.ring.header().lost_without_slot.swap(0, Ordering::Relaxed).min(MOST_LOST);
        if count > 0 {
            self.lost = self.lost.saturating_add(count);
            let what = What::LostLock(LostEvents { count });
            out.push(Event { at: self.timeline.convert(now), tid: self.pid.main_thread(), what });
        }
    }

    fn tells_of_parks(&self) -> bool {
        self.parks.is_some()
    }

    fn counters(&self) -> Counters {
        self.metering.as_ref().map(Metering::counters).unwrap_or_default()
    }

    fn remarks(&self) -> Vec<String> {
        self.metering.iter().filter_map(Metering::remark).collect()
    }

    fn tally(&self) -> Tally {
        let ticks = self.ring.header().cost.load(Ordering::Relaxed).min(MOST_TICKS);
        let each = |cost: Nanos| Nanos::from_nanos(cost.as_nanos().div_ceil(u64::from(COST_EMISSIONS)));
        let spent = self.ring.header().spent.load(Ordering::Relaxed).min(MOST_TICKS);
        Tally {
            lock_events: self.lock_events,
            lost: self.lost.saturating_add(self.ring.header().lost_without_slot.load(Ordering::Relaxed).min(MOST_LOST)),
            cost_of_counts: self.timeline.duration(self.counting_ticks()).unwrap_or_default(),
            cost_per_event: (ticks > 0).then(|| self.timeline.duration(ticks).map(each)).flatten(),
            cost_of_stacks: self.timeline.duration(spent),
            ..Tally::default()
        }
    }
}

impl fmt::Debug for PreloadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreloadSource")
            .field("pid", &self.pid)
            .field("watermark", &self.watermark)
            .field("pending", &self.pending.len())
            .field("lock_events", &self.lock_events)
            .finish_non_exhaustive()
    }
}
