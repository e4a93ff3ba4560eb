//! Records as the kernel, its programs and the probe in the target write them.

use std::{cell::RefCell, os::unix::fs::FileExt, rc::Rc};

use crate::{
    ledger::{GivingWayLimits, Ledger, LedgerOptions},
    model::{
        address::LiveAddress,
        ids::Pid,
        stack::{Frame, StackTable},
        time::{MonoNanos, Nanos},
    },
    perf::{decoding::Records, events::CountedEvent, record::Layout},
    source::{
        Source,
        bpf::record::Decoder,
        calls::{FindLocks, Translator},
        order::Merger,
        parking::ParkReader,
        preload::Prepared,
    },
    target::{
        catalog::layout_on_file,
        lock::{LockLayout, LockSeat},
        runtime::{Runtime, cpython::CPython},
        version::{Build, PythonVersion},
    },
};

/// Records of perf events.
pub fn perf_records(bytes: &[u8]) {
    for layout in Layout::all() {
        assert!(Records::new(bytes, |_| Some(layout)).count() <= bytes.len() / 8 + 1);
    }
}

/// Records of the programs in the kernel: each begins with its length, two bytes.
pub fn bpf_records(bytes: &[u8]) {
    let (mut decoder, mut rest) = (Decoder::default(), bytes);
    while let Some((length, after)) =
        rest.split_first_chunk().map(|(length, after)| (u16::from_le_bytes(*length), after))
    {
        let (record, after) = after.split_at(usize::from(length).min(after.len()));
        let _ = decoder.decode(record);
        rest = after;
    }
}

/// The two locks that every target has.
#[derive(Debug)]
struct TwoLocks;

impl FindLocks for TwoLocks {
    fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
        let seat = |at| LockSeat {
            address: LiveAddress::in_target(at),
            layout: LockLayout::DEFAULT,
            interpreter: None,
            name: "GIL".to_owned(),
        };
        Some(vec![seat(0x1000), seat(0x2000)])
    }
}

/// The memory that the probe shares, scribbled over: places and words of eight bytes each, in portions between which it is
/// read. What comes out is booked.
pub fn probe_ring(bytes: &[u8]) {
    let Ok(mut prepared) = Prepared::new() else { return };
    let events = ["cycles", "instructions:u"].map(CountedEvent::named);
    prepared.measure(&events.map(|event| event.expect("every perf knows it")));
    let Ok(shared) = prepared.shared.try_clone() else { return };
    let _ = prepared.claimed_by();
    let pid = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw).expect("pids are positive");
    let translator = Rc::new(RefCell::new(Translator::new(Some(Box::new(TwoLocks)))));
    let calls = Rc::clone(&translator);
    let mut source = prepared.into_source(pid, Box::new(move |call, out| calls.borrow_mut().translate(call, out)));
    let mut stacks = StackTable::default();
    let no_stack = stacks.intern(&[Frame::marker("no stack")]);
    source.tell_parks(ParkReader::new(Box::new(Vec::new)));
    source.note_stacks(&python(), translator, Box::new(move |_| Some(no_stack)));
    let start = crate::perf::clock::now();
    let short = Nanos::from_nanos(50_000);
    let giving_way = GivingWayLimits { computing: short, step: short, mutex_sleep: short };
    let mut ledger = Ledger::new(LedgerOptions { start, long_hold: Nanos::from_millis(1), giving_way, no_stack });
    let mut merger = Merger::default();
    for portion in bytes.chunks(16 * 64) {
        for (at, word) in portion.chunks_exact(16).map(|pair| pair.split_at(8)) {
            let at = at.first_chunk().copied().map_or(0, u64::from_le_bytes);
            // A place beyond the end is refused: the file's size is sealed.
            let _ = shared.write_at(word, at % (32 << 20));
        }
        let watermark = source.drain(crate::perf::clock::now(), merger.inbox());
        merger.release(watermark, |event| ledger.apply(event));
    }
    source.finish(merger.inbox());
    merger.release_all(|event| ledger.apply(event));
    let _ = source.tally();
    let end: MonoNanos = crate::perf::clock::now();
    let attribution = ledger.finish(end);
    assert_eq!(attribution.invariants_broken, Vec::<String>::new());
}

fn python() -> Runtime {
    let version = PythonVersion::release(3, 12, 1);
    let layout = layout_on_file(version, Build::Default).expect("the file is embedded");
    let runtime = LiveAddress::in_target(0x1000);
    Runtime::CPython(Box::new(CPython { version, build: Build::Default, layout, runtime, pthread_tid: None }))
}
