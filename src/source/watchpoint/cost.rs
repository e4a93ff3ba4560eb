//! What one write to a watched word costs the thread that makes it, measured on this machine and this very process.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use crate::{
    model::{address::LiveAddress, ids::Pid, time::Nanos},
    perf::{
        decoding::Records,
        error::{PerfError, watchpoint_refusal},
        events::CountedEvent,
        limits::RingSize,
        open::{Manner, Subject, watch_self_counting},
        record::Body,
        ring::Ring,
    },
    source::watchpoint::error::WatchpointError,
};

/// Writes a batch; the fastest batch counts, since nothing makes one too fast.
const WRITES: u32 = 50;
const BATCHES: u32 = 4;

/// The time that being told of a write adds to it, and of what `events` have counted until then: some writes to a word of our own,
/// without and with a watchpoint.
pub fn measure_cost(events: &'static [CountedEvent]) -> Result<Nanos, WatchpointError> {
    let word = Box::new(AtomicU32::new(0));
    let without = fastest_batch(&word);
    let us = Pid::from_raw(std::process::id().cast_signed()).expect("a process has a positive pid").main_thread();
    let address = LiveAddress::in_target(word.as_ptr().addr() as u64);
    let subject = Subject::Watchpoint { address, length: 4 };
    // Where they cannot be counted, writes are told of without them.
    let opened = watch_self_counting(subject, events).or_else(|_| watch_self_counting(subject, &[]));
    let opened = opened.map_err(|source| watchpoint_refusal(source, us, 0))?;
    let event = opened.last().ok_or(WatchpointError::Silent)?;
    let ring = Ring::map(event, RingSize::Ordinary.pages(1));
    let mut ring = ring.map_err(|source| PerfError::Ring { cpu: 0, source })?;
    let with = fastest_batch(&word);
    let layout = if opened.len() > 1 { subject.layout_in_group(Manner::counting(events)) } else { subject.layout() };
    drop(opened);
    let mut bytes = Vec::new();
    ring.take(&mut bytes);
    let told = Records::new(&bytes, |_| Some(layout))
        .filter(|record| matches!(record, Ok(raw) if matches!(raw.body, Body::Wrote(_))));
    if told.count() < 1 {
        return Err(WatchpointError::Silent);
    }
    Ok(Nanos::from_nanos(with.saturating_sub(without).as_nanos() / u64::from(WRITES)))
}

fn fastest_batch(word: &AtomicU32) -> Nanos {
    let batch = |_| {
        let start = Instant::now();
        (0..WRITES).for_each(|value| black_box(word).store(value, Ordering::Relaxed));
        Nanos::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    };
    (0..BATCHES).map(batch).min().unwrap_or_default()
}
