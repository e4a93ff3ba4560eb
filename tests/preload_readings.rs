//! The probe's own code writes what counters say, and the source reads it: with pages that no kernel has made, since few machines
//! that run tests let programs read counters.

#![expect(unsafe_code, reason = "memory is shared as the structure that both sides agree on")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "so does the walk over frames")]
#![allow(dead_code, reason = "the probe's files are here as a whole")]

#[path = "../probes/preload/emit.rs"]
mod emit;
#[path = "../probes/preload/follow.rs"]
mod follow;
#[path = "../probes/preload/gate.rs"]
mod gate;
#[path = "../probes/preload/layout.rs"]
mod layout;
#[path = "../probes/preload/local.rs"]
mod local;
#[path = "../probes/preload/meter.rs"]
mod meter;
#[path = "../probes/preload/page.rs"]
mod page;
#[path = "../probes/preload/pool.rs"]
mod pool;
#[path = "../probes/preload/system.rs"]
mod system;
#[path = "../probes/preload/walk.rs"]
mod walk;

use std::{os::fd::AsRawFd, ptr::null_mut, sync::atomic::Ordering, thread::sleep, time::Duration};

use gilscope::{
    model::{
        counts::{Counters, Measures},
        event::{Event, LockStep, MeasuredSince, What},
        ids::{LockId, Pid},
        time::MonoNanos,
    },
    perf::events::CountedEvent,
    source::{
        Source,
        calls::{Call, Verdict},
        preload::Prepared,
    },
};

use crate::{
    layout::{CLOCK_MONOTONIC, KIND_INIT, KIND_SIGNAL, KIND_TIMED_WAIT, KIND_WAIT, RING_BYTES, Ring},
    local::Local,
    page::{Page, USER_COUNTER},
};

const NAMES: [&str; 8] = [
    "cycles",
    "instructions",
    "cache-references",
    "cache-misses",
    "branches",
    "branch-misses",
    "bus-cycles",
    "ref-cycles",
];
/// More than fit into a few chunks.
const CALLS: u64 = 1000;

/// A second view of the memory, for as long as this process lives.
fn map(prepared: &Prepared) -> &'static Ring {
    let (access, file) = (libc::PROT_READ | libc::PROT_WRITE, prepared.file().as_raw_fd());
    // SAFETY: a new mapping.
    let start = unsafe { libc::mmap(null_mut(), RING_BYTES, access, libc::MAP_SHARED, file, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    // SAFETY: as large as the structure, whose words are all atomic, and never unmapped.
    unsafe { &*start.cast::<Ring>() }
}

fn told(event: &Event) -> Option<(u64, u64)> {
    match &event.what {
        What::Measured(measures, MeasuredSince::LastStep) => {
            let Measures([first, .., last]) = **measures;
            Some((first, last))
        }
        _ => None,
    }
}

/// Counters 1 to 7 count 10 more between two calls, at every other one of which they have had to share since the first; counter 8
/// is gone.
#[test]
fn what_the_probe_writes_is_what_the_source_tells() {
    let mut prepared = Prepared::new().expect("memory files can be made");
    prepared.measure(&NAMES.map(|name| CountedEvent::named(name).expect("perf's name")));
    let ring = map(&prepared);
    if ring.header.clock.load(Ordering::Relaxed) == CLOCK_MONOTONIC {
        system::use_monotonic_clock(libc::clock_gettime as *mut core::ffi::c_void);
    }
    assert!(gate::prepare() && meter::prepare(ring));
    gate::open(ring);
    ring.header.claimed.store(system::process_id(), Ordering::Relaxed);
    ring.header.ready.store(1, Ordering::Release);
    let pid = prepared.claimed_by().expect("we have claimed it");
    assert_eq!(Pid::from_raw(system::process_id()), Some(pid));
    let on_call = move |call: Call, out: &mut Vec<Event>| {
        let what = What::Lock(LockId::from_index(0), LockStep::Acquired);
        out.push(Event { at: call.at, tid: call.tid, what });
        Verdict::Known
    };
    let mut source = prepared.into_source(pid, Box::new(on_call));
    assert_eq!(source.counters(), Counters::measured(8));

    emit::emit_always(KIND_INIT, 64);
    let slot = Local::of_this_thread().slot().expect("there is room");
    let pages: &'static [Page; 8] = Box::leak(Box::default());
    pages[..7].iter().for_each(|page| page.capabilities.store(USER_COUNTER, Ordering::Relaxed));
    meter::pretend(ring, slot, pages);
    for call in 0..CALLS {
        for page in pages {
            page.offset.fetch_add(10, Ordering::Relaxed);
            page.time_enabled.fetch_add(if call % 2 == 0 { 5 } else { 20 }, Ordering::Relaxed);
            page.time_running.fetch_add(5, Ordering::Relaxed);
        }
        // Neither a yield nor a further slice of a wait is read: what came before joins what comes next.
        emit::emit(KIND_WAIT, 128);
        emit::emit(if call % 2 == 0 { KIND_SIGNAL } else { KIND_TIMED_WAIT }, 128);
    }
    Local::of_this_thread().waits.store(1, Ordering::Relaxed);
    emit::emit(KIND_TIMED_WAIT, 128);
    pages.iter().for_each(|page| _ = page.offset.fetch_add(1, Ordering::Relaxed));
    emit::emit_last();

    let mut events = Vec::new();
    while events.len() < 2 {
        sleep(Duration::from_millis(2));
        source.drain(MonoNanos::from_monotonic(0), &mut events);
    }
    source.finish(&mut events);
    assert!(!events.iter().any(|event| matches!(event.what, What::LostLock(_))));
    let measured: Vec<(usize, (u64, u64))> =
        events.iter().enumerate().filter_map(|(at, event)| told(event).map(|told| (at, told))).collect();
    // What shared a counter has counted in a quarter of the time.
    let expected = (0..CALLS).map(|call| (if call % 2 == 0 { 10 } else { 40 }, 0)).chain([(1, 0)]);
    assert!(measured.iter().map(|(_, counts)| *counts).eq(expected), "{:?}", &measured[..8]);
    for (at, _) in &measured[..measured.len() - 1] {
        let [reading, call] = &events[*at..at + 2] else { panic!("the last call is missing") };
        assert!(matches!(call.what, What::Lock(..)) && (reading.at, reading.tid) == (call.at, call.tid));
    }
    let unmeasured: Vec<&What> =
        events.iter().map(|event| &event.what).filter(|what| matches!(what, What::Unmeasured(_))).collect();
    let [What::Unmeasured(missing)] = unmeasured[..] else { panic!("{unmeasured:?}") };
    assert_eq!(*missing, Counters::measured(8).without(Counters::measured(7)));
}
