//! What one hit costs the thread that makes it, measured on this machine and this very process.
#![expect(unsafe_code, reason = "the probed libc function is called")]

use std::{fs, path::PathBuf, time::Instant};

use crate::{
    model::{address::FileOffset, ids::Pid, time::Nanos},
    perf::{
        decoding::Records,
        error::{PerfError, refusal},
        events::CountedEvent,
        limits::RingSize,
        open::{Manner, Subject, watch_self_counting},
        record::Body,
        ring::Ring,
    },
    source::uprobe::{error::UprobeError, group::ProbeGroup, sweep::Sweeper, tracefs::Tracefs},
    target::site::{CondFunction, Register, Site, SiteMeaning},
};

/// Calls a batch; the fastest batch counts, since nothing makes one too fast.
pub(in crate::source) const CALLS: u32 = 500;
pub(in crate::source) const BATCHES: u32 = 4;

/// The time that a hit adds to the call it is on, if it tells what `events` have counted: a few thousand calls of our own libc,
/// without and with a probe.
pub fn measure_cost(sweeper: &Sweeper, events: &'static [CountedEvent]) -> Result<Nanos, UprobeError> {
    let site = own_signal_site().ok_or(UprobeError::Unmeasured)?;
    let mut group = ProbeGroup::create(Tracefs::find()?, sweeper)?;
    let tracepoint = group.define(std::slice::from_ref(&site))?[0];
    let without = fastest_batch();
    let register = site.argument.perf_number();
    let us = Pid::from_raw(std::process::id().cast_signed()).expect("a process has a positive pid").main_thread();
    let subject = Subject::Probe { tracepoint, register };
    // Where they cannot be counted, hits are told of without them.
    let opened = watch_self_counting(subject, events).or_else(|_| watch_self_counting(subject, &[]));
    let opened = opened.map_err(|source| refusal(source, us, 0, Some(tracepoint)))?;
    let event = opened.last().ok_or(UprobeError::Unmeasured)?;
    let ring = Ring::map(event, RingSize::Ordinary.pages(1));
    let mut ring = ring.map_err(|source| PerfError::Ring { cpu: 0, source })?;
    let with = fastest_batch();
    let layout = if opened.len() > 1 { subject.layout_in_group(Manner::counting(events)) } else { subject.layout() };
    drop(opened);
    let mut bytes = Vec::new();
    ring.take(&mut bytes);
    let hits = Records::new(&bytes, |_| Some(layout))
        .filter(|record| matches!(record, Ok(raw) if matches!(raw.body, Body::Hit { .. })));
    if hits.count() < 1 {
        return Err(UprobeError::Unmeasured);
    }
    Ok(Nanos::from_nanos(with.saturating_sub(without).as_nanos() / u64::from(CALLS)))
}

/// The fastest batch of calls on a condition variable that nobody knows.
pub(in crate::source) fn fastest_batch() -> Nanos {
    let mut cond = libc::PTHREAD_COND_INITIALIZER;
    fastest_batch_on(&mut cond)
}

/// The same on this one, on which nobody waits.
pub(in crate::source) fn fastest_batch_on(cond: &mut libc::pthread_cond_t) -> Nanos {
    let batch = |_| {
        let start = Instant::now();
        signal_nobody(cond);
        Nanos::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    };
    (0..BATCHES).map(batch).min().unwrap_or_default()
}

/// Signals a condition variable of our own on which nobody waits.
fn signal_nobody(cond: &mut libc::pthread_cond_t) {
    for _ in 0..CALLS {
        // SAFETY: the variable is initialised, does not move during the call, and nobody waits on it.
        let outcome = unsafe { libc::pthread_cond_signal(cond) };
        debug_assert_eq!(outcome, 0, "signalling cannot fail");
    }
}

/// Where our own `pthread_cond_signal` lies in its file.
pub(in crate::source) fn own_signal_site() -> Option<Site> {
    let function: unsafe extern "C" fn(*mut libc::pthread_cond_t) -> libc::c_int = libc::pthread_cond_signal;
    let address = function as usize as u64;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let (file, offset) = maps.lines().find_map(|line| position(line, address))?;
    let meaning = SiteMeaning::Libc(CondFunction::Signal);
    Some(Site { file, offset, meaning, argument: Register::FIRST_ARGUMENT })
}

/// The file and position behind `address` if it lies in this line of `maps`.
fn position(line: &str, address: u64) -> Option<(PathBuf, FileOffset)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
    if !(start..end).contains(&address) {
        return None;
    }
    let path = &line[line.find('/')?..];
    Some((path.into(), FileOffset::from_start(address - start + offset)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::position;
    use crate::model::address::FileOffset;

    #[test]
    fn an_address_is_found_in_its_file() {
        let line = "7f00-8f00 r-xp 00000100 fe:00 12   /usr/lib/a b.so";
        assert_eq!(position(line, 0x7f10), Some((PathBuf::from("/usr/lib/a b.so"), FileOffset::from_start(0x110))));
        assert_eq!(position(line, 0x8f00), None);
        assert_eq!(position("7f00-8f00 rw-p 00000000 00:00 0", 0x7f10), None);
    }
}
