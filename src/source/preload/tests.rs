//! The reading side against memory that is written here, word by word, in place of a probe.

use std::{
    fs::File,
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::Duration,
};

use crate::{
    model::{
        address::LiveAddress,
        counts::Measured,
        event::{Event, LostEvents, ParkPlace, ParkStep, SampleCause, What},
        ids::{Pid, Tid},
        recorded::{RecordedStack, Walk},
        stack::{Frame, StackId, StackTable},
        time::{MonoNanos, Nanos},
    },
    source::{
        OnStack, Source, Tally,
        calls::{Call, Verdict},
        parking::ParkReader,
        preload::{
            PreloadSource,
            clock::{ProbeClock, RawTime, Timeline},
            file,
            layout::{
                CHUNKS, KIND_BITS, KIND_FILLER, KIND_LOST, KIND_PARK, KIND_SIGNAL, KIND_STACK, KIND_TIMED_WAIT,
                PARK_GAVE_UP, PARK_MUTEX, PARK_SUSPENDED, PARK_TIMED_EVENT, PARK_WOKEN, RECORDS, RING_BYTES,
                STACK_CHANGING, STACK_FAILED, STACK_KNOWN, STACK_OF_HOLDER, STACK_OF_RELEASER, STACK_OF_WAITER, Slot,
            },
            ring::SharedRing,
        },
    },
};

mod readings;

/// A source and a second view of its memory, through which the test plays the probe.
struct Stage {
    source: PreloadSource,
    probe: SharedRing,
    /// The operands of the calls that were delivered.
    conds: Arc<Mutex<Vec<u64>>>,
}

fn stage() -> Stage {
    stage_telling(&[], |_, _| {})
}

/// Measures these events, and `tell`s of calls.
fn stage_telling(measured: &[Measured], tell: fn(&Call, &mut Vec<Event>)) -> Stage {
    let shared = file::create(c"test").unwrap();
    shared.set_len(u64::try_from(RING_BYTES).unwrap()).unwrap();
    let clock = ProbeClock::choose();
    let map = |file: &File| SharedRing::create(file, clock.code(), u32::MAX).unwrap();
    let (ring, probe) = (map(&shared), map(&shared));
    let conds = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&conds);
    let calls = Box::new(move |call: Call, out: &mut Vec<Event>| {
        tell(&call, out);
        sink.lock().unwrap().push(call.cond.raw());
        Verdict::Foreign
    });
    Stage { source: PreloadSource::new((ring, Timeline::begin(clock)), own_pid(), measured, calls), probe, conds }
}

impl Stage {
    /// The first slot, as the thread `tid` claims it.
    fn claim(&self, tid: i32) -> &Slot {
        self.probe.header().free_slots.fresh.store(1, Ordering::Relaxed);
        let slot = &self.probe.used_slots()[0];
        slot.tid.store(tid, Ordering::Relaxed);
        slot
    }

    /// Writes records of the form (time, kind, operand) into the chunk that `link` names.
    fn write(&self, link: u32, records: &[(u64, u64, u64)]) {
        let chunk = self.probe.chunk(link).unwrap();
        for (record, (time, kind, operand)) in chunk.records.iter().zip(records) {
            record.time.store(*time, Ordering::Relaxed);
            record.word.store((operand << KIND_BITS) | kind, Ordering::Relaxed);
        }
        chunk.committed.store(u32::try_from(records.len()).unwrap(), Ordering::Relaxed);
    }

    /// Polls a little later than before.
    fn poll(&mut self, out: &mut Vec<Event>) -> MonoNanos {
        thread::sleep(Duration::from_millis(1));
        self.source.drain(MonoNanos::from_monotonic(0), out)
    }
}

fn own_pid() -> Pid {
    Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap()
}

fn losses(events: &[Event]) -> Vec<(Tid, u64)> {
    let count = |event: &Event| match event.what {
        What::LostLock(LostEvents { count }) => Some((event.tid, count)),
        _ => None,
    };
    events.iter().filter_map(count).collect()
}

#[test]
fn a_full_chunk_leads_to_the_next_and_is_given_back() {
    let mut stage = stage();
    let slot = stage.claim(own_pid().raw());
    slot.first.store(5, Ordering::Relaxed);
    stage.write(5, &(1..=255).map(|n| (n, KIND_SIGNAL, n)).collect::<Vec<_>>());
    stage.write(9, &[(256, KIND_SIGNAL, 256)]);
    let mut out = Vec::new();
    stage.poll(&mut out);
    assert_eq!(stage.conds.lock().unwrap().len(), 255);
    assert_eq!(stage.probe.header().free_chunks.head.load(Ordering::Relaxed), 0);
    stage.probe.chunk(5).unwrap().next.store(9, Ordering::Relaxed);
    stage.poll(&mut out);
    assert_eq!(*stage.conds.lock().unwrap(), (1..=255).collect::<Vec<_>>());
    assert_eq!(stage.probe.header().free_chunks.head.load(Ordering::Relaxed) & 0xffff_ffff, 5);
    assert!(losses(&out).iter().all(|(_, count)| *count == 1), "only the late record may be lost");
}

/// ```text
/// ├ mutex 0x1001, woken ┤ ├ own state, signal ┤ ├ event, time limit ┤
/// ```
#[test]
fn parks_tell_what_for_and_how_they_ended() {
    let mut stage = stage();
    stage.source.tell_parks(ParkReader::new(Box::new(Vec::new)));
    stage.claim(own_pid().raw()).first.store(1, Ordering::Relaxed);
    let parks = [0x1001 << 3 | PARK_MUTEX, PARK_WOKEN, 0x2000 << 3 | PARK_SUSPENDED, PARK_GAVE_UP];
    let parks = parks.into_iter().chain([0x3000 << 3 | PARK_TIMED_EVENT, PARK_GAVE_UP, 7]);
    stage.write(1, &(1..).zip(parks).map(|(at, park)| (at, KIND_PARK, park)).collect::<Vec<_>>());
    let mut out = Vec::new();
    stage.poll(&mut out);
    let steps: Vec<_> = out.iter().map(|event| event.what.clone()).collect();
    let mutex = ParkPlace::Mutex(LiveAddress::in_target(0x1001));
    let expected = [
        ParkStep::Began(mutex),
        ParkStep::Woken,
        ParkStep::Began(ParkPlace::Suspended),
        ParkStep::GaveUp,
        ParkStep::Began(ParkPlace::Elsewhere),
        ParkStep::GaveUp,
    ];
    assert_eq!(steps, expected.map(What::Park));
}

#[test]
fn losses_are_told_once_and_between_the_right_records() {
    let mut stage = stage();
    let tid = own_pid().main_thread();
    let slot = stage.claim(tid.raw());
    slot.first.store(1, Ordering::Relaxed);
    slot.lost.store(7, Ordering::Relaxed);
    stage.write(1, &[(1, KIND_SIGNAL, 10), (5, KIND_LOST, 4), (5, KIND_SIGNAL, 20)]);
    let mut out = Vec::new();
    stage.poll(&mut out);
    assert_eq!(*stage.conds.lock().unwrap(), [10, 20]);
    // Four before the second record, three after it, for which no mark exists yet.
    assert_eq!(losses(&out), [(tid, 4), (tid, 3)]);
    stage.poll(&mut out);
    assert_eq!(losses(&out).len(), 2);
}

#[test]
fn a_busy_thread_holds_the_watermark_until_it_rests() {
    let mut stage = stage();
    let mut out = Vec::new();
    let before = stage.poll(&mut out);
    stage.claim(own_pid().raw()).busy.store(1, Ordering::Relaxed);
    assert_eq!(stage.poll(&mut out), before);
    stage.claim(own_pid().raw()).busy.store(0, Ordering::Relaxed);
    assert!(stage.poll(&mut out) > before);
}

#[test]
fn a_thread_that_ended_in_the_middle_of_a_record_holds_nothing() {
    let mut stage = stage();
    let mut out = Vec::new();
    let before = stage.poll(&mut out);
    let slot = stage.claim(i32::MAX);
    slot.first.store(3, Ordering::Relaxed);
    slot.busy.store(1, Ordering::Relaxed);
    stage.poll(&mut out);
    assert!(stage.poll(&mut out) > before);
    let header = stage.probe.header();
    assert_eq!(stage.probe.used_slots()[0].tid.load(Ordering::Relaxed), 0);
    assert_eq!(header.free_slots.head.load(Ordering::Relaxed) & 0xffff_ffff, 1);
    assert_eq!(header.free_chunks.head.load(Ordering::Relaxed) & 0xffff_ffff, 3);
}

#[test]
fn losses_that_nobody_counted_are_told_and_all_losses_cost() {
    let mut stage = stage();
    let mut out = Vec::new();
    let is_told = |out: &[Event]| out.iter().any(|event| event.what == What::Uncounted);
    stage.claim(own_pid().raw()).lost.store(7, Ordering::Relaxed);
    stage.poll(&mut out);
    assert_eq!((is_told(&out), stage.source.tally().lost), (false, 7));
    stage.probe.header().uncounted.store(2, Ordering::Relaxed);
    stage.poll(&mut out);
    assert!(is_told(&out));
    out.clear();
    // Behind the watermark: it is lost here, where the probe cannot count it.
    stage.claim(own_pid().raw()).first.store(1, Ordering::Relaxed);
    stage.write(1, &[(1, KIND_SIGNAL, 10)]);
    stage.poll(&mut out);
    assert_eq!((is_told(&out), stage.source.tally().lost), (true, 8));
    let tally = Tally { cost_per_event: Some(Nanos::from_nanos(10)), ..stage.source.tally() };
    assert_eq!(tally.cost(), Some(Nanos::from_nanos(80) + tally.cost_of_stacks.unwrap()));
}

#[test]
fn the_end_delivers_everything_and_silences_the_probe() {
    let mut stage = stage();
    stage.claim(own_pid().raw()).first.store(1, Ordering::Relaxed);
    stage.write(1, &[(1, KIND_SIGNAL, 10)]);
    stage.probe.header().lost_without_slot.store(3, Ordering::Relaxed);
    let mut out = Vec::new();
    stage.source.finish(&mut out);
    assert_eq!(*stage.conds.lock().unwrap(), [10]);
    assert_eq!(losses(&out), [(own_pid().main_thread(), 3)]);
    assert_eq!(stage.probe.header().mode.load(Ordering::Relaxed), 0);
    assert_eq!(stage.source.tally().lock_events, 1);
}

/// Names a stack by how many frames it has, and whether those are all.
fn counting() -> OnStack {
    let mut table = StackTable::default();
    Box::new(move |stack: &RecordedStack| Some(table.intern(&counted(stack.frames.len(), stack.walk))))
}

fn counted(count: usize, walk: Walk) -> Vec<Frame> {
    vec![Frame::marker(&format!("{walk:?}")); count]
}

/// What was delivered: calls by their order, stacks by their cause and the id of one with so many frames.
fn stacks(events: &[Event]) -> Vec<(SampleCause, Option<StackId>)> {
    let stack = |event: &Event| match event.what {
        What::Stack(sample) => Some((sample.cause, sample.stack)),
        _ => None,
    };
    events.iter().filter_map(stack).collect()
}

#[test]
fn stacks_follow_their_call_and_are_remembered_by_their_print() {
    let mut stage = stage();
    stage.source.name_with(counting());
    stage.claim(own_pid().raw()).first.store(1, Ordering::Relaxed);
    let (print, other) = (5, u64::MAX);
    let records = [
        (1, KIND_TIMED_WAIT, 10),
        (print, KIND_STACK, STACK_OF_WAITER | 2),
        (0, KIND_SIGNAL, 77),
        (0, KIND_SIGNAL, 77),
        (other, KIND_STACK, STACK_OF_HOLDER),
        (print, KIND_STACK, STACK_OF_HOLDER | STACK_KNOWN),
        (6, KIND_STACK, STACK_OF_HOLDER | STACK_KNOWN),
        (0, KIND_STACK, STACK_OF_HOLDER | STACK_FAILED),
        (7, KIND_STACK, STACK_OF_HOLDER | STACK_CHANGING | 2),
        (0, KIND_SIGNAL, 77),
        (0, KIND_SIGNAL, 77),
        (0, KIND_FILLER, 0),
        (other, KIND_STACK, STACK_OF_RELEASER | STACK_OF_HOLDER),
        // More frames than there are: not a frame of it is believed.
        (print, KIND_STACK, STACK_OF_WAITER | 200),
    ];
    stage.write(1, &records);
    let mut out = Vec::new();
    stage.poll(&mut out);
    assert_eq!(*stage.conds.lock().unwrap(), [10]);
    let mut table = StackTable::default();
    // In the order in which the source meets them.
    let kinds = [(2, Walk::Complete), (0, Walk::Complete), (2, Walk::Changing)];
    let [two, none, outer] = kinds.map(|(count, walk)| Some(table.intern(&counted(count, walk))));
    let holder = SampleCause::Contended;
    let expected = [
        (SampleCause::WaitBegan, two),
        (holder, none),
        (holder, two),
        (holder, None),
        (holder, None),
        (holder, outer),
        (SampleCause::WaitBegan, None),
    ];
    assert_eq!(stacks(&out), expected);
}

/// A number that looks random, from a seed that makes the test repeatable.
fn scrambled(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 11) ^ (*seed << 31)
}

fn below(seed: &mut u64, limit: usize) -> u32 {
    u32::try_from(scrambled(seed) % u64::try_from(limit).unwrap()).unwrap()
}

#[test]
fn a_ring_full_of_rubbish_neither_panics_nor_blocks() {
    let mut stage = stage_telling(&readings::two_events(), |_, _| {});
    stage.source.name_with(counting());
    let seed = &mut 1;
    for _ in 0..20 {
        let header = stage.probe.header();
        header.free_slots.fresh.store(below(seed, 9000), Ordering::Relaxed);
        header.free_chunks.head.store(scrambled(seed), Ordering::Relaxed);
        header.cost.store(scrambled(seed), Ordering::Relaxed);
        for slot in stage.probe.used_slots().iter().take(64) {
            slot.tid.store(i32::from_ne_bytes(below(seed, 1 << 32).to_ne_bytes()), Ordering::Relaxed);
            slot.busy.store(below(seed, 2), Ordering::Relaxed);
            slot.first.store(below(seed, CHUNKS + 9), Ordering::Relaxed);
            slot.lost.store(scrambled(seed), Ordering::Relaxed);
        }
        for link in 1..200 {
            let chunk = stage.probe.chunk(link).unwrap();
            chunk.next.store(below(seed, 200), Ordering::Relaxed);
            chunk.committed.store(below(seed, 600), Ordering::Relaxed);
            let record = &chunk.records[usize::try_from(below(seed, RECORDS)).unwrap()];
            record.time.store(scrambled(seed), Ordering::Relaxed);
            record.word.store(scrambled(seed), Ordering::Relaxed);
        }
        stage.poll(&mut Vec::new());
        stage.source.tally();
    }
    stage.source.finish(&mut Vec::new());
}

#[test]
fn a_chain_with_a_cycle_is_read_a_few_times() {
    let mut stage = stage();
    stage.claim(own_pid().raw()).first.store(1, Ordering::Relaxed);
    for (link, next) in [(1, 2), (2, 1)] {
        stage.write(link, &[(1, KIND_SIGNAL, 1); RECORDS]);
        stage.probe.chunk(link).unwrap().next.store(next, Ordering::Relaxed);
    }
    // Giving a chunk back links it to the last one that was.
    stage.probe.header().free_chunks.head.store(2, Ordering::Relaxed);
    let mut out = Vec::new();
    let before = stage.poll(&mut out);
    assert!((2..=20).contains(&(stage.source.pending() / RECORDS)), "{:?}", stage.source);
    // Nobody knows what else the chain would have said.
    assert_eq!((stage.poll(&mut out), out.len()), (before, 0));
}

#[test]
fn a_long_backlog_is_delivered_in_slices_and_in_order() {
    const CHAIN: u32 = 1100;
    let mut stage = stage();
    let mut out = Vec::new();
    stage.poll(&mut out);
    let clock = ProbeClock::choose();
    let start = clock.now().since(RawTime::from_record(0));
    thread::sleep(Duration::from_millis(1));
    stage.claim(own_pid().raw()).first.store(1, Ordering::Relaxed);
    for link in 1..=CHAIN {
        let first = u64::from(link) * RECORDS as u64;
        let record = |at| (start + at, KIND_SIGNAL, at);
        stage.write(link, &(first..).take(RECORDS).map(record).collect::<Vec<_>>());
        stage.probe.chunk(link).unwrap().next.store((link + 1) % (CHAIN + 1), Ordering::Relaxed);
    }
    let first = stage.poll(&mut out);
    let delivered = stage.conds.lock().unwrap().len();
    assert!(delivered > 0 && stage.source.pending() > 0, "{delivered}");
    assert!(stage.poll(&mut out) > first);
    let all = u64::from(CHAIN) * RECORDS as u64;
    assert_eq!(*stage.conds.lock().unwrap(), (RECORDS as u64..).take(all as usize).collect::<Vec<_>>());
    assert_eq!(losses(&out), []);
}
