//! Decoding the kernel's records from bytes. Pure, and safe against any bytes.
//!
//! The layout depends on how the events were opened: [`crate::perf::open`] gives all of them the stamp `IDENTIFIER`, `TID`,
//! `TIME`, in front of samples and behind all other records. What else is in a sample depends on the event, which the stamp names;
//! samples of events that nobody knows are skipped.

use std::ops::Range;

use perf_event_open_sys::bindings;

use crate::{
    model::{
        address::LiveAddress,
        event::OffCpu,
        ids::{Pid, Tid},
        machine::MachineState,
        time::MonoNanos,
    },
    perf::{
        fields::{pid_at, tid_at, u16_at, u32_at, u64_at},
        machine,
        open::FaultKind,
        reading::{self, GroupReading, ReadFormat},
        registers::{self, WriterRegisters},
    },
};

const HEADER: usize = 8;
/// Thread, time and event id behind every record that is not a sample.
const STAMP: usize = 24;
/// Bytes of the stamp in front of a sample.
const SAMPLE_STAMP: usize = 24;
/// Bytes behind the stamp of a sample of the event that is sampled.
const WEIGHT: usize = 24;

/// The kernel's number for an open event; children inherit that of the event they were copied from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId(u64);

/// One record as the kernel wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRecord {
    /// Which event wrote it.
    pub event: EventId,
    /// When.
    pub at: MonoNanos,
    /// In which process; `None` when the kernel cannot name it here.
    pub pid: Option<Pid>,
    /// In which thread; `None` when the kernel cannot name it here.
    pub tid: Option<Tid>,
    /// What.
    pub body: Body,
    /// What the counters said of the thread that are in one group with the event.
    pub reading: Option<Box<GroupReading>>,
}

/// What the samples of an event bring behind their stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    /// First what its group's counters say; `None`: nothing.
    pub read: Option<ReadFormat>,
    /// And then this.
    pub taken: Taken,
}

/// What is taken along at an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taken {
    /// Nothing: it counts; or, at a sample of the event that is sampled, three words of which the last may be what it stands for. The
    /// form tells them apart: of two software events that happen in one stroke the kernel gives both samples the number of one.
    NothingOrWeight,
    /// One register.
    Register,
    /// All registers that an instruction can have written to a watched word.
    WriterRegisters,
    /// Some registers, and the innermost part of the stack.
    MachineState,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The thread got a CPU.
    SwitchedIn,
    /// The thread lost its CPU.
    SwitchedOut(OffCpu),
    /// A thread has a new name.
    Named {
        /// The thread's process.
        pid: Pid,
        /// The thread, not necessarily the one that wrote the record.
        tid: Tid,
        /// Its name.
        name: Box<str>,
        /// Why.
        cause: Naming,
    },
    /// The thread created another one, or a process.
    Forked {
        /// The process it belongs to: that of the thread for a thread, a new one for a process.
        child_pid: Pid,
        /// The new thread.
        child: Tid,
    },
    /// The thread ends.
    Exited,
    /// A probe was hit.
    Hit {
        /// The register asked for; `None` when the kernel had no user registers.
        register: Option<u64>,
    },
    /// What the event counts has happened, as often as it was to be told of.
    Counted,
    /// A sample of the event that is sampled.
    Sampling {
        /// What it stands for, if that is not always the same.
        weight: u64,
    },
    /// The counters in question begin to count a thread, and count from what they say now on. No record of the kernel's says so.
    CountersBegan,
    /// The counters in question have ended, and have counted so much of all threads; whatever they have not told of yet they have
    /// counted of this thread. No record of the kernel's says so.
    CountersEnded,
    /// So many page faults since the record before, the last of them now.
    Faulted(FaultKind, u32),
    /// The thread, which gets a CPU, had another one before. No record of the kernel's says so.
    Migrated,
    /// A watched word was written to.
    Wrote(Box<WriterRegisters>),
    /// The thread ran, and this is what it did.
    Sampled(MachineState),
    /// Records are missing before this one because the ring was full.
    Lost {
        /// How many.
        count: u64,
    },
}

/// Why a thread has a new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Naming {
    /// The process executed a new program.
    Exec,
    /// A thread was named.
    Rename,
}

impl Layout {
    /// All that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let formats = [ReadFormat::Values, ReadFormat::TimesAndValues, ReadFormat::TimesValuesAndLosses];
        let reads = [None].into_iter().chain(formats.map(Some));
        let taken = [Taken::NothingOrWeight, Taken::Register, Taken::WriterRegisters, Taken::MachineState];
        reads.flat_map(move |read| taken.map(|taken| Self { read, taken }))
    }
}

impl Body {
    /// The register of a hit, as an address of the target.
    pub fn argument(&self) -> Option<LiveAddress> {
        match self {
            Self::Hit { register } => register.map(LiveAddress::in_target),
            _ => None,
        }
    }

    /// How many records it says are missing.
    pub fn lost(&self) -> u64 {
        if let Self::Lost { count } = self { *count } else { 0 }
    }
}

impl EventId {
    /// The id that the kernel returned for an open event.
    pub const fn from_kernel(id: u64) -> Self {
        Self(id)
    }
}

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
        let event = EventId(u64_at(record, HEADER)?);
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
    Some(Kind::Known(RawRecord { event: EventId(u64_at(stamp, 16)?), at, pid, tid, body, reading: None }))
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
mod tests {
    use perf_event_open_sys::bindings;
    use proptest::prelude::{Strategy, any, proptest};

    use super::{Body, EventId, Layout, Malformed, Naming, RawRecord, Records, Taken};
    use crate::model::{
        event::OffCpu,
        ids::{Pid, Tid},
        time::MonoNanos,
    };
    use crate::perf::reading::{GroupReading, ReadFormat};

    fn record(kind: u32, misc: u32, body: &[u8]) -> Vec<u8> {
        let size = u16::try_from(8 + body.len()).unwrap();
        let misc = u16::try_from(misc).unwrap();
        [&kind.to_ne_bytes()[..], &misc.to_ne_bytes(), &size.to_ne_bytes(), body].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Process 7, thread 8, time 1000, event 42.
    fn stamp() -> Vec<u8> {
        [words(&[7, 8]), 1000_u64.to_ne_bytes().to_vec(), 42_u64.to_ne_bytes().to_vec()].concat()
    }

    fn stamped(kind: u32, misc: u32, body: &[u8]) -> Vec<u8> {
        record(kind, misc, &[body, &stamp()].concat())
    }

    fn decoded(body: Body) -> RawRecord {
        let (pid, tid) = (Pid::from_raw(7), Tid::from_raw(8));
        RawRecord { event: EventId(42), at: MonoNanos::from_monotonic(1000), pid, tid, body, reading: None }
    }

    /// As if all samples were of one kind.
    fn records(bytes: &[u8], read: Option<ReadFormat>, taken: Taken) -> Vec<Result<RawRecord, Malformed>> {
        Records::new(bytes, |event| (event == EventId(42)).then_some(Layout { read, taken })).collect()
    }

    fn only(bytes: &[u8], taken: Taken) -> RawRecord {
        let [record] = &records(bytes, None, taken)[..] else { panic!("one record") };
        record.clone().unwrap()
    }

    #[test]
    fn switches_tell_preemption_from_sleep() {
        let out = bindings::PERF_RECORD_MISC_SWITCH_OUT;
        let preempted = out | bindings::PERF_RECORD_MISC_SWITCH_OUT_PREEMPT;
        for (misc, body) in [
            (0, Body::SwitchedIn),
            (out, Body::SwitchedOut(OffCpu::Blocked)),
            (preempted, Body::SwitchedOut(OffCpu::Preempted)),
        ] {
            assert_eq!(only(&stamped(bindings::PERF_RECORD_SWITCH, misc, &[]), Taken::NothingOrWeight), decoded(body));
        }
    }

    #[test]
    fn names_end_at_the_first_nul() {
        let bytes = [words(&[7, 9]), b"worker\0\0".to_vec()].concat();
        let name = |cause| Body::Named {
            pid: Pid::from_raw(7).unwrap(),
            tid: Tid::from_raw(9).unwrap(),
            name: "worker".into(),
            cause,
        };
        let kind = bindings::PERF_RECORD_COMM;
        assert_eq!(only(&stamped(kind, 0, &bytes), Taken::NothingOrWeight), decoded(name(Naming::Rename)));
        let exec = bindings::PERF_RECORD_MISC_COMM_EXEC;
        assert_eq!(only(&stamped(kind, exec, &bytes), Taken::NothingOrWeight), decoded(name(Naming::Exec)));
    }

    #[test]
    fn births_deaths_and_losses() {
        let task = [words(&[7, 7, 9, 8]), 999_u64.to_ne_bytes().to_vec()].concat();
        let born = Body::Forked { child_pid: Pid::from_raw(7).unwrap(), child: Tid::from_raw(9).unwrap() };
        assert_eq!(only(&stamped(bindings::PERF_RECORD_FORK, 0, &task), Taken::NothingOrWeight), decoded(born));
        assert_eq!(only(&stamped(bindings::PERF_RECORD_EXIT, 0, &task), Taken::NothingOrWeight), decoded(Body::Exited));
        let lost = [42_u64.to_ne_bytes(), 3_u64.to_ne_bytes()].concat();
        assert_eq!(
            only(&stamped(bindings::PERF_RECORD_LOST, 0, &lost), Taken::NothingOrWeight),
            decoded(Body::Lost { count: 3 })
        );
    }

    #[test]
    fn a_hit_carries_its_register_unless_the_kernel_had_none() {
        let hit = |abi: u64, rest: &[u8]| {
            let front = [42_u64.to_ne_bytes().to_vec(), words(&[7, 8]), 1000_u64.to_ne_bytes().to_vec()].concat();
            record(bindings::PERF_RECORD_SAMPLE, 2, &[&front, &abi.to_ne_bytes()[..], rest].concat())
        };
        let register = 0x7fff_1234_u64;
        let taken = Taken::Register;
        assert_eq!(only(&hit(2, &register.to_ne_bytes()), taken), decoded(Body::Hit { register: Some(register) }));
        assert_eq!(only(&hit(0, &[]), taken), decoded(Body::Hit { register: None }));
        assert_eq!(records(&hit(2, &[]), None, taken), [Err(Malformed { offset: 0 })]);
    }

    #[test]
    fn what_the_counters_say_stands_before_what_is_taken_along() {
        let front = [42_u64.to_ne_bytes().to_vec(), words(&[7, 8]), 1000_u64.to_ne_bytes().to_vec()].concat();
        let numbers = [3_u64, 50, 40, 9, 11, 22, 2, 0x1234];
        let rest = |count: usize| numbers[..count].iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let sample = |count| record(bindings::PERF_RECORD_SAMPLE, 2, &[&front[..], &rest(count)].concat());
        let read = Some(ReadFormat::TimesAndValues);
        let [hit] = &records(&sample(8), read, Taken::Register)[..] else { panic!("one record") };
        let mut reading = GroupReading { enabled: 50, running: 40, count: 2, ..GroupReading::default() };
        reading.values[..2].copy_from_slice(&[11, 22]);
        let expected = decoded(Body::Hit { register: Some(0x1234) });
        assert_eq!(*hit, Ok(RawRecord { reading: Some(Box::new(reading)), ..expected }));
        assert_eq!(records(&sample(5), read, Taken::NothingOrWeight), [Err(Malformed { offset: 0 })]);
        // Of an event that is not ours.
        assert_eq!(Records::new(&sample(8), |_| None).count(), 0);
    }

    #[test]
    fn a_sample_with_nothing_but_its_stamp_counts_one() {
        let stamp = [42_u64.to_ne_bytes().to_vec(), words(&[7, 8]), 1000_u64.to_ne_bytes().to_vec()].concat();
        assert_eq!(
            only(&record(bindings::PERF_RECORD_SAMPLE, 2, &stamp), Taken::NothingOrWeight),
            decoded(Body::Counted)
        );
    }

    #[test]
    fn a_sample_with_three_words_more_tells_its_weight() {
        let stamp = [42_u64.to_ne_bytes().to_vec(), words(&[7, 8]), 1000_u64.to_ne_bytes().to_vec()].concat();
        let body = [stamp, [0, 3, 77_u64].map(u64::to_ne_bytes).concat()].concat();
        let sample = record(bindings::PERF_RECORD_SAMPLE, 2, &body);
        assert_eq!(only(&sample, Taken::NothingOrWeight), decoded(Body::Sampling { weight: 77 }));
    }

    #[test]
    fn kinds_of_no_use_are_skipped_and_short_ones_reported() {
        let throttle = record(bindings::PERF_RECORD_THROTTLE, 0, &[0; 48]);
        let short = record(bindings::PERF_RECORD_SWITCH, 0, &[0; 16]);
        let whole = stamped(bindings::PERF_RECORD_SWITCH, 0, &[]);
        let all = records(&[throttle, short, whole].concat(), None, Taken::NothingOrWeight);
        assert_eq!(all, [Err(Malformed { offset: 56 }), Ok(decoded(Body::SwitchedIn))]);
    }

    #[test]
    fn an_impossible_length_ends_the_reading() {
        let mut bytes = stamped(bindings::PERF_RECORD_SWITCH, 0, &[]);
        bytes.extend([0; 16]);
        let all = records(&bytes, None, Taken::NothingOrWeight);
        assert_eq!(all, [Ok(decoded(Body::SwitchedIn)), Err(Malformed { offset: 32 })]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>().prop_map(|byte| byte % 32), 0..400)) {
            for layout in Layout::all() {
                assert!(Records::new(&bytes, |_| Some(layout)).count() <= bytes.len() / 8 + 1);
            }
        }
    }
}
