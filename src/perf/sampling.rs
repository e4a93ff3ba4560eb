//! A clock on one CPU whose ticks find out what the processor is doing: registers and the innermost part of the stack of
//! whatever thread it interrupts, or nothing where a program in the kernel sees to the rest.
//!
//! The copy of the stack is made by the kernel while the thread is interrupted, so it cannot be torn.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

use perf_event::{Builder, Clock, Counter, SampleFlag, events::Software};
use perf_event_open_sys::bindings;

use crate::{
    model::{
        machine::MachineSample,
        time::{MonoNanos, Nanos},
    },
    perf::{
        fields::{tid_at, u16_at, u32_at, u64_at},
        limits::RingSize,
        machine::{self, REGISTERS},
        ring::Ring,
    },
};

/// Bytes of stack that are copied. An evaluation loop of CPython takes 300 to 500 of them with all that leads to the next.
const STACK_COPIED: u32 = 24 << 10;
/// What a tick takes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taken {
    /// Nothing: a program at the tick does all that is wanted.
    Nothing,
    /// Registers and stack, whenever a program at the tick says so.
    MachineState,
}

/// The clock of one CPU; it stops when this is dropped.
#[derive(Debug)]
pub struct SamplingClock {
    event: Counter,
    ring: Option<Ring>,
    bytes: Vec<u8>,
}

impl SamplingClock {
    /// Ticks on `cpu`, one of `cpus`, once every `period`, whatever runs there. Needs CAP_PERFMON.
    pub fn start((cpu, cpus): (u32, usize), period: Nanos, taken: Taken) -> io::Result<Self> {
        let index = usize::try_from(cpu).expect("a CPU number fits a word");
        let mut builder = Builder::new(Software::CPU_CLOCK);
        builder.any_pid().one_cpu(index).sample_period(period.as_nanos().max(1)).enabled(true);
        builder.exclude_kernel(false).exclude_hv(false);
        if taken == Taken::MachineState {
            builder
                .sample(SampleFlag::TID | SampleFlag::TIME | SampleFlag::REGS_USER | SampleFlag::STACK_USER)
                .sample_regs_user(REGISTERS)
                .sample_stack_user(STACK_COPIED)
                .clockid(Clock::MONOTONIC);
        }
        let event = builder.build()?;
        let ring = match taken {
            Taken::Nothing => None,
            Taken::MachineState => Some(Ring::map(&event, RingSize::Large.pages(cpus))?),
        };
        Ok(Self { event, ring, bytes: Vec::new() })
    }

    /// Appends what the ticks have found since the last call, in order of time.
    pub fn take(&mut self, out: &mut Vec<MachineSample>) {
        let Some(ring) = &mut self.ring else { return };
        self.bytes.clear();
        ring.take(&mut self.bytes);
        let mut rest = &self.bytes[..];
        while let Some((record, later)) = split_record(rest) {
            out.extend(decode(record));
            rest = later;
        }
    }
}

impl AsRawFd for SamplingClock {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

/// The first record and the bytes behind it; a length that leads nowhere ends the reading.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let size = usize::from(u16_at(bytes, 6)?);
    if size < 8 { None } else { bytes.split_at_checked(size) }
}

/// `TID, TIME, REGS_USER, STACK_USER`; `None` for a record of another kind, and for a thread without a program's code.
fn decode(record: &[u8]) -> Option<MachineSample> {
    if u32_at(record, 0)? != bindings::PERF_RECORD_SAMPLE {
        return None;
    }
    let (tid, at) = (tid_at(record, 12)?, MonoNanos::from_monotonic(u64_at(record, 16)?));
    let state = machine::decode(record.get(24..)?, u16_at(record, 4)?)?;
    Some(MachineSample { at, tid, state })
}

#[cfg(test)]
mod tests {
    use perf_event_open_sys::bindings;
    use proptest::prelude::{Strategy, any, proptest};

    use super::{decode, split_record};
    use crate::model::machine::{KernelWork, Registers};

    fn sample(misc: u16, rest: &[u64], stack: &[u8], copied: u64) -> Vec<u8> {
        let mut body: Vec<u8> = [7_u32, 8].iter().flat_map(|word| word.to_ne_bytes()).collect();
        body.extend(rest.iter().flat_map(|word| word.to_ne_bytes()));
        body.extend((stack.len() as u64).to_ne_bytes());
        body.extend(stack);
        body.extend(copied.to_ne_bytes());
        let size = u16::try_from(body.len() + 8).unwrap();
        let head = [&bindings::PERF_RECORD_SAMPLE.to_ne_bytes()[..], &misc.to_ne_bytes(), &size.to_ne_bytes()];
        [&head.concat()[..], &body].concat()
    }

    #[test]
    fn a_sample_has_its_registers_and_no_more_stack_than_was_copied() {
        let bytes = sample(1, &[1000, 2, 11, 22, 33], &[5; 32], 16);
        let (record, rest) = split_record(&bytes).unwrap();
        let sample = decode(record).unwrap();
        assert!(rest.is_empty());
        assert_eq!((sample.at.as_nanos(), sample.tid.raw()), (1000, 8));
        assert_eq!(sample.state.registers, Registers { frame: 11, stack: 22, instruction: 33 });
        assert_eq!((sample.state.stack.len(), sample.state.kernel), (16, Some(KernelWork::Unknown)));
        assert_eq!(sample.state.word(30), Some(0x0505_0505_0505_0505));
        assert_eq!((sample.state.word(31), sample.state.word(21)), (None, None));
    }

    #[test]
    fn a_copy_longer_than_its_room_is_cut() {
        let bytes = sample(2, &[1000, 2, 11, 22, 33], &[5; 32], 1 << 40);
        assert_eq!(decode(&bytes).unwrap().state.stack.len(), 32);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>().prop_map(|byte| byte % 80), 0..400)) {
            let mut rest = &bytes[..];
            while let Some((record, later)) = split_record(rest) {
                decode(record);
                rest = later;
            }
            decode(&bytes);
        }
    }
}
