//! Decoding the kernel's records from bytes. Pure, and safe against any bytes.
//!
//! The layout depends on how the events were opened: [`crate::perf::open`] gives all of them the stamp `IDENTIFIER`, `TID`,
//! `TIME`, in front of samples and behind all other records. What else is in a sample depends on the event, which the stamp names;
//! samples of events that nobody knows are skipped.

use std::ops::Range;

use perf_event_open_sys::bindings;

use crate::{
    model::{event::OffCpu, time::MonoNanos},
    perf::{
        fields::{pid_at, tid_at, u16_at, u32_at, u64_at},
        machine, reading,
        record::{Body, EventId, Layout, Naming, RawRecord, Taken},
        registers,
    },
};

const HEADER: usize = 8;
/// Thread, time and event id behind every record that is not a sample.
const STAMP: usize = 24;
/// Bytes of the stamp in front of a sample.
const SAMPLE_STAMP: usize = 24;
/// Bytes behind the stamp of a sample of the event that is sampled.
const WEIGHT: usize = 24;

/// A record that is shorter than its kind requires, or whose stated length is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed perf record at byte {offset}")]
pub struct Malformed {
    /// Where it begins in the bytes given.
    pub offset: usize,
}

/// The records in a run of bytes, in order; kinds that are of no use here are skipped.
#[derive(Debug)]
pub struct Records<'a, L> {
    bytes: &'a [u8],
    next: usize,
    layout_of: L,
}

impl<'a, L: Fn(EventId) -> Option<Layout>> Records<'a, L> {
    /// Reads `bytes`, which must begin with a record; `layout_of` knows how the samples of each event look.
    pub fn new(bytes: &'a [u8], layout_of: L) -> Self {
        Self { bytes, next: 0, layout_of }
    }

    /// The next record's range; a length that leads nowhere ends the iteration, since no later record can be found.
    fn advance(&mut self) -> Option<Result<Range<usize>, Malformed>> {
        let offset = self.next;
        if offset >= self.bytes.len() {
            return None;
        }
        let size = u16_at(self.bytes, offset + 6).map_or(0, usize::from);
        if size < HEADER || size > self.bytes.len() - offset {
            self.next = self.bytes.len();
            return Some(Err(Malformed { offset }));
        }
        self.next = offset + size;
        Some(Ok(offset..offset + size))
    }
}

impl<L: Fn(EventId) -> Option<Layout>> Iterator for Records<'_, L> {
    type Item = Result<RawRecord, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let range = match self.advance()? {
                Ok(range) => range,
                Err(malformed) => return Some(Err(malformed)),
            };
            let offset = range.start;
            match decode(&self.bytes[range], &self.layout_of) {
                Some(Kind::Known(record)) => return Some(Ok(record)),
                Some(Kind::Other) => {}
                None => return Some(Err(Malformed { offset })),
            }
        }
    }
}

enum Kind {
    Known(RawRecord),
    Other,
}

/// One whole record, header included; `None` when it is too short.
fn decode(record: &[u8], layout_of: impl Fn(EventId) -> Option<Layout>) -> Option<Kind> {
    let kind = u32_at(record, 0)?;
    let misc = u16_at(record, 4)?;
    if kind == bindings::PERF_RECORD_SAMPLE {
        let event = EventId::from_kernel(u64_at(record, HEADER)?);
        let Some(layout) = layout_of(event) else { return Some(Kind::Other) };
        return decode_sample(&record[HEADER..], (event, layout), misc).map(Kind::Known);
    }
    let stamp_at = record.len().checked_sub(STAMP).filter(|at| *at >= HEADER)?;
    let (body, stamp) = (&record[HEADER..stamp_at], &record[stamp_at..]);
    let body = match kind {
        bindings::PERF_RECORD_SWITCH => switched(misc),
        bindings::PERF_RECORD_COMM => named(body, misc)?,
        bindings::PERF_RECORD_FORK => forked(body)?,
        bindings::PERF_RECORD_EXIT => Body::Exited,
        bindings::PERF_RECORD_LOST => Body::Lost { count: u64_at(body, 8)? },
        _ => return Some(Kind::Other),
    };
    let (pid, tid) = (pid_at(stamp, 0), tid_at(stamp, 4));
    let at = MonoNanos::from_monotonic(u64_at(stamp, 8)?);
    Some(Kind::Known(RawRecord { event: EventId::from_kernel(u64_at(stamp, 16)?), at, pid, tid, body, reading: None }))
}

/// `IDENTIFIER, TID, TIME`, then `READ` and `REGS_USER` and `STACK_USER` as far as the event has them.
fn decode_sample(sample: &[u8], (event, layout): (EventId, Layout), misc: u16) -> Option<RawRecord> {
    let at = MonoNanos::from_monotonic(u64_at(sample, 16)?);
    let rest = sample.get(SAMPLE_STAMP..)?;
    let (reading, rest) = match layout.read {
        Some(format) => reading::decode(rest, format).map(|(reading, rest)| (Some(Box::new(reading)), rest))?,
        None => (None, rest),
    };
    let body = match layout.taken {
        Taken::NothingOrWeight if rest.len() == WEIGHT => Body::Sampling { weight: u64_at(rest, 16)? },
        Taken::NothingOrWeight => Body::Counted,
        Taken::Register => Body::Hit { register: register(rest)? },
        Taken::WriterRegisters => Body::Wrote(Box::new(registers::decode(rest)?)),
        Taken::MachineState => Body::Sampled(machine::decode(rest, misc)?),
    };
    Some(RawRecord { event, at, pid: pid_at(sample, 8), tid: tid_at(sample, 12), body, reading })
}

/// The one register that was asked for, or `None` inside if the kernel had none.
fn register(registers: &[u8]) -> Option<Option<u64>> {
    let has_registers = u64_at(registers, 0)? != u64::from(bindings::PERF_SAMPLE_REGS_ABI_NONE);
    if has_registers { u64_at(registers, 8).map(Some) } else { Some(None) }
}

fn switched(misc: u16) -> Body {
    let has = |bit: u32| u32::from(misc) & bit != 0;
    if !has(bindings::PERF_RECORD_MISC_SWITCH_OUT) {
        Body::SwitchedIn
    } else if has(bindings::PERF_RECORD_MISC_SWITCH_OUT_PREEMPT) {
        Body::SwitchedOut(OffCpu::Preempted)
    } else {
        Body::SwitchedOut(OffCpu::Blocked)
    }
}

/// A thread that the kernel cannot name makes the record useless, which is not worth telling from a malformed one.
fn named(body: &[u8], misc: u16) -> Option<Body> {
    let text = body.get(8..)?;
    let length = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let name = String::from_utf8_lossy(&text[..length]).into_owned().into_boxed_str();
    let exec = u32::from(misc) & bindings::PERF_RECORD_MISC_COMM_EXEC != 0;
    let cause = if exec { Naming::Exec } else { Naming::Rename };
    Some(Body::Named { pid: pid_at(body, 0)?, tid: tid_at(body, 4)?, name, cause })
}

/// `pid, ppid, tid, ptid, time`.
fn forked(body: &[u8]) -> Option<Body> {
    Some(Body::Forked { child_pid: pid_at(body, 0)?, child: tid_at(body, 8)? })
}

#[cfg(test)]
mod tests;
