//! Records of the programs, decoded: calls with the stack and the counters read at them, sleeps, holders' stacks, ticks, samples of
//! an event.

use std::num::NonZeroU64;

use rustc_hash::FxHashMap;

use crate::{
    model::{
        address::LiveAddress,
        event::{LockStep, SampleCause},
        ids::Tid,
        recorded::{Below, Entry, RecordedFrame, RecordedStack, Walk},
        time::MonoNanos,
    },
    source::{
        measuring::{Reading, Readings},
        parking::ParkCall,
    },
    target::site::{CondFunction, SiteMeaning, SleepFunction},
};

/// Bytes of a record without frames.
const RECORD: usize = 24;
const FRAME: usize = 24;
/// The bits of a code object's address; the number of the bytecode's copy lies above them.
const ADDRESS_BITS: u32 = 48;
/// In the word of a frame's name, which no address of a program has: the frame is the outermost of its call of the
/// evaluation loop.
const OUTERMOST: u64 = 1 << 63;

/// Stacks that wait for their calls; those of calls that were lost would wait for ever.
const MOST_WAITING: usize = 4096;

/// In the flags of a stack: the interpreter collects garbage for the thread.
const COLLECTING: u8 = 8;

/// Meanings in the order of their cookies.
const CALLS: [CondFunction; 4] =
    [CondFunction::Signal, CondFunction::TimedWait, CondFunction::Wait, CondFunction::Init];
const STEPS: [LockStep; 4] = [LockStep::Want, LockStep::Acquired, LockStep::Released, LockStep::Yielded];
const FIRST_STEP: usize = 4;
/// Sleeps for an event, without and with a time limit.
const PARK_EVENT: u8 = 26;
const PARK_TIMED_EVENT: u8 = 27;

/// Something that happened at a probe or at a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(super) at: MonoNanos,
    pub(super) tid: Tid,
    pub(super) what: HitKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HitKind {
    Call(CallHit),
    /// The sampling clock found the thread running.
    Tick(RecordedStack),
    /// What the holder of the lock does that this thread waits for.
    Holder(RecordedStack),
    /// The sampling clock found the thread running with a lock that others wait for, at a tick that counts for nothing else.
    Owner(RecordedStack),
    /// The event that is sampled has counted so much of the thread, which has this stack.
    Event(RecordedStack, u64),
    /// The thread goes to sleep or goes on; its stack, if it was worth reading.
    Park(ParkCall, Option<RecordedStack>),
    /// What the thread's counters say before whatever it does next.
    Metered(Box<Readings>),
}

/// A call, or a step that the runtime reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallHit {
    pub(super) meaning: SiteMeaning,
    /// The condition variable or the lock.
    pub(super) argument: LiveAddress,
    /// The caller's stack, if it was worth reading.
    pub(super) stack: Option<CallStack>,
    /// What the caller's counters say, where they are read.
    pub(super) readings: Option<Box<Readings>>,
}

/// A stack read at a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallStack {
    /// That a wait began, or that a hold ends.
    pub(super) cause: SampleCause,
    pub(super) stack: RecordedStack,
}

/// What a record is.
enum Kind {
    Call(SiteMeaning),
    CallStack(SampleCause),
    Tick,
    Holder,
    Owner,
    Event,
    ParkStack,
    Park,
    Metered,
}

/// Puts records together: the stack of a call comes right before it.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    stacks: FxHashMap<Tid, CallStack>,
    parked: FxHashMap<Tid, RecordedStack>,
    malformed: u64,
}

impl Decoder {
    /// The hit that `bytes` complete, if any.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Option<Hit> {
        let hit = self.hit(bytes);
        if hit.is_none() {
            self.malformed += 1;
        }
        hit.flatten()
    }

    /// Records that could not be decoded; zero unless the programs are not those that we think.
    pub(super) fn malformed(&self) -> u64 {
        self.malformed
    }

    fn hit(&mut self, bytes: &[u8]) -> Option<Option<Hit>> {
        let (head, frames) = bytes.split_at_checked(RECORD)?;
        let at = MonoNanos::from_monotonic(word(head, 0)?);
        let (tid, kind) = half(head, 8)?;
        let tid = Tid::from_raw(tid.cast_signed())?;
        let [kind, flags, count, _] = kind.to_ne_bytes();
        let what = match self::kind(kind)? {
            Kind::Tick => HitKind::Tick(stack(frames, flags)?),
            Kind::Holder => HitKind::Holder(stack(frames, flags)?),
            Kind::Owner => HitKind::Owner(stack(frames, flags)?),
            Kind::Event => HitKind::Event(stack(frames, flags)?, word(head, 16)?),
            Kind::CallStack(cause) => {
                if self.stacks.len() >= MOST_WAITING {
                    self.stacks.clear();
                }
                self.stacks.insert(tid, CallStack { cause, stack: stack(frames, flags)? });
                return Some(None);
            }
            Kind::ParkStack => {
                if self.parked.len() >= MOST_WAITING {
                    self.parked.clear();
                }
                self.parked.insert(tid, stack(frames, flags)?);
                return Some(None);
            }
            Kind::Metered => HitKind::Metered(readings(frames, count)?),
            Kind::Park => HitKind::Park(park(kind, word(head, 16)?)?, self.parked.remove(&tid)),
            Kind::Call(meaning) => {
                let argument = LiveAddress::in_target(word(head, 16)?);
                let readings = if count > 0 { Some(readings(frames, count)?) } else { None };
                HitKind::Call(CallHit { meaning, argument, stack: self.stacks.remove(&tid), readings })
            }
        };
        Some(Some(Hit { at, tid, what }))
    }
}

/// What the programs are told at a site.
pub(super) fn cookie(meaning: SiteMeaning) -> u64 {
    let place = match meaning {
        SiteMeaning::Libc(function) => CALLS.iter().position(|known| *known == function),
        SiteMeaning::Step(step) => STEPS.iter().position(|known| *known == step).map(|at| at + FIRST_STEP),
    };
    place.expect("every meaning is in its list") as u64
}

/// The same where threads sleep.
pub(super) fn park_cookie(function: SleepFunction) -> u64 {
    match function {
        SleepFunction::Unlimited => u64::from(PARK_EVENT),
        SleepFunction::Limited => u64::from(PARK_TIMED_EVENT),
    }
}

fn park(kind: u8, address: u64) -> Option<ParkCall> {
    let address = LiveAddress::in_target(address);
    Some(match kind {
        24 => ParkCall::Mutex(address),
        25 => ParkCall::Suspended,
        PARK_EVENT => ParkCall::Event,
        PARK_TIMED_EVENT => ParkCall::TimedEvent(address),
        28 => ParkCall::Woken,
        29 => ParkCall::GaveUp,
        _ => return None,
    })
}

fn kind(number: u8) -> Option<Kind> {
    let number = usize::from(number);
    Some(match number {
        16 => Kind::CallStack(SampleCause::WaitBegan),
        17 => Kind::CallStack(SampleCause::AtRelease),
        18 => Kind::Tick,
        19 => Kind::Holder,
        20 => Kind::Owner,
        21 => Kind::ParkStack,
        22 => Kind::Event,
        24..=29 => Kind::Park,
        40 => Kind::Metered,
        FIRST_STEP.. => Kind::Call(SiteMeaning::Step(*STEPS.get(number - FIRST_STEP)?)),
        _ => Kind::Call(SiteMeaning::Libc(*CALLS.get(number)?)),
    })
}

/// For how long the processor's counters were to count, for how long they did, and `count` values; the largest number for one
/// that could not be read.
fn readings(bytes: &[u8], count: u8) -> Option<Box<Readings>> {
    let (enabled, running) = (word(bytes, 0)?, word(bytes, 8)?);
    let mut readings = Box::<Readings>::default();
    for (slot, at) in readings.iter_mut().zip((16..).step_by(8)).take(usize::from(count)) {
        let value = word(bytes, at)?;
        *slot = (value != u64::MAX).then_some(Reading { value, enabled, running });
    }
    Some(readings)
}

fn stack(bytes: &[u8], flags: u8) -> Option<RecordedStack> {
    let below = if flags & COLLECTING != 0 { Below::GarbageCollection } else { Below::Nothing };
    let walk = match flags & !COLLECTING {
        0 => Walk::Complete,
        1 => Walk::Cut,
        2 => Walk::Broken,
        4 => Walk::UnknownThread,
        _ => return None,
    };
    let frames = bytes.chunks_exact(FRAME).map(frame).collect::<Option<_>>()?;
    Some(RecordedStack { frames, walk, below })
}

fn frame(bytes: &[u8]) -> Option<RecordedFrame> {
    let (code, last) = (word(bytes, 0)?, word(bytes, 16)?);
    let name = NonZeroU64::new(last & !OUTERMOST);
    let entry = match name {
        None => Entry::Unknown,
        Some(_) if last & OUTERMOST != 0 => Entry::Outermost,
        Some(_) => Entry::Inner,
    };
    Some(RecordedFrame {
        code: code & ((1 << ADDRESS_BITS) - 1),
        bytecode_copy: u32::try_from(code >> ADDRESS_BITS).ok()?,
        instruction: word(bytes, 8)?,
        name,
        entry,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

/// Two words of 32 bits.
fn half(bytes: &[u8], at: usize) -> Option<(u32, u32)> {
    let part = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    Some((part(at)?, part(at + 4)?))
}

#[cfg(test)]
mod tests {
    use super::{CallHit, Decoder, HitKind, cookie};
    use crate::{
        model::{
            event::{LockStep, SampleCause},
            recorded::{Entry, Walk},
        },
        target::site::{CondFunction, SiteMeaning},
    };

    fn record(tid: u32, kind: u8, flags: u8, frames: &[[u64; 3]]) -> Vec<u8> {
        let mut bytes = 7_u64.to_ne_bytes().to_vec();
        bytes.extend(tid.to_ne_bytes());
        bytes.extend([kind, flags, 0, 0]);
        bytes.extend(0x1000_u64.to_ne_bytes());
        bytes.extend(frames.iter().flatten().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn a_stack_belongs_to_the_next_call_of_its_thread() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&record(1, 17, 1, &[[3 << 48 | 0x20, 5, 6]])), None);
        let other = decoder.decode(&record(2, 1, 0, &[])).unwrap();
        assert!(matches!(other.what, HitKind::Call(CallHit { stack: None, .. })));
        let own = decoder.decode(&record(1, 0, 0, &[])).unwrap();
        let HitKind::Call(CallHit { meaning, stack: Some(stack), .. }) = own.what else { panic!("{own:?}") };
        assert_eq!((meaning, stack.cause), (SiteMeaning::Libc(CondFunction::Signal), SampleCause::AtRelease));
        assert_eq!((stack.stack.walk, stack.stack.frames[0].bytecode_copy), (Walk::Cut, 3));
        assert_eq!(decoder.malformed(), 0);
    }

    #[test]
    fn the_highest_bit_of_a_name_marks_an_entry() {
        let frames = [[1, 2, 0x30], [1, 2, 1 << 63 | 0x30], [1, 2, 0]];
        let tick = Decoder::default().decode(&record(1, 18, 0, &frames)).unwrap();
        let HitKind::Tick(stack) = tick.what else { panic!("{tick:?}") };
        let read: Vec<_> = stack.frames.iter().map(|frame| (frame.name.map(|name| name.get()), frame.entry)).collect();
        assert_eq!(read, [(Some(0x30), Entry::Inner), (Some(0x30), Entry::Outermost), (None, Entry::Unknown)]);
    }

    #[test]
    fn every_meaning_comes_back_from_its_cookie() {
        for meaning in [SiteMeaning::Libc(CondFunction::Wait), SiteMeaning::Step(LockStep::Yielded)] {
            let bytes = record(1, u8::try_from(cookie(meaning)).unwrap(), 0, &[]);
            let hit = Decoder::default().decode(&bytes).unwrap();
            assert!(matches!(hit.what, HitKind::Call(CallHit { meaning: decoded, .. }) if decoded == meaning));
        }
    }

    #[test]
    fn nonsense_is_counted() {
        let mut decoder = Decoder::default();
        for bytes in [record(0, 0, 0, &[]), record(1, 8, 0, &[]), record(1, 18, 3, &[]), vec![0; 23]] {
            assert_eq!(decoder.decode(&bytes), None);
        }
        assert_eq!(decoder.malformed(), 4);
    }
}
