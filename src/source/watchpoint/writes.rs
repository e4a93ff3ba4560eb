//! From writes to a lock's words to steps with the lock. Knows nothing of the kernel.
//!
//! A lock has three words that tell everything. `locked` becomes 1 at an acquisition and 0 at a release, and which of the two
//! is read off the instruction. The wait sequences of glibc's condition variables grow by an addition, with which every wait
//! begins: one on `cond` wants the lock, one on `switch_cond` gives way. Signals change them, too, but never add to them.
//! Where an instruction cannot be read, the owner decides: only it may release, and nobody else may acquire before. Invariant:
//! after a loss nobody is taken to be the owner until an instruction, or a second thread, says who is.

use std::fmt;

use rustc_hash::FxHashMap;

use crate::{
    model::{
        address::LiveAddress,
        event::{Event, LockStep, What},
        ids::{LockId, Tid},
        time::MonoNanos,
    },
    perf::registers::WriterRegisters,
    source::watchpoint::instruction::{Effect, REACH, effect},
    target::memory::Memory,
};

/// Places in the code remembered; locks are written to in a dozen. Past that they are read again each time.
const PLACES: usize = 1 << 10;

/// What a watched word is of its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// 1 while somebody owns the lock, 0 while nobody does.
    Locked,
    /// The wait sequence of the condition that waiters sleep on.
    Waits,
    /// That of the condition on which one sleeps that has given way.
    Yields,
}

/// A word of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockWord {
    /// Which lock.
    pub lock: LockId,
    /// What it is of it.
    pub role: Role,
    /// Where it begins.
    pub address: LiveAddress,
}

/// A write to a watched word, as the processor tells of it.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// When.
    pub at: MonoNanos,
    /// By which thread.
    pub tid: Tid,
    /// To which word.
    pub word: LockWord,
    /// The thread's registers right after it; `None` where the kernel had none.
    pub registers: Option<&'a WriterRegisters>,
}

/// Turns writes into steps.
pub struct Writes {
    memory: Box<dyn Memory>,
    code: FxHashMap<u64, [u8; REACH]>,
    owners: FxHashMap<LockId, Owner>,
    /// Seen in memory, and to be believed of writes after that moment if nothing better is known.
    seeds: Vec<(LockId, Tid, MonoNanos)>,
    unmatched: u64,
}

/// Who owns a lock, as far as the writes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Thread(Tid),
    /// This thread wrote last, and its instruction did not tell what.
    Writer(Tid),
    Unknown,
}

impl Writes {
    /// Reads instructions through `memory`.
    pub fn new(memory: Box<dyn Memory>) -> Self {
        Self { memory, code: FxHashMap::default(), owners: FxHashMap::default(), seeds: Vec::new(), unmatched: 0 }
    }

    /// Writes that tell nothing about the lock and should.
    pub fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// Some writes are missing from now on.
    pub fn on_lost(&mut self) {
        self.owners.clear();
        self.seeds.clear();
    }

    /// The lock was seen to have this owner at `at`.
    pub fn seed(&mut self, lock: LockId, owner: Tid, at: MonoNanos) {
        self.seeds.push((lock, owner, at));
    }

    /// Appends the step that `write` is, if any.
    pub fn translate(&mut self, write: Write<'_>, out: &mut Vec<Event>) {
        let Write { at, tid, word, registers } = write;
        self.sow(at);
        let effect = registers.and_then(|registers| self.effect(registers, word.address));
        let step = match (word.role, effect) {
            (Role::Locked, effect) => self.taken_or_given((word.lock, tid), effect),
            (Role::Waits, Some(Effect::Added)) => Some(LockStep::Want),
            (Role::Yields, Some(Effect::Added)) => Some(LockStep::Yielded),
            (Role::Waits | Role::Yields, Some(Effect::Set(_) | Effect::Replaced)) => None,
            (Role::Waits | Role::Yields, None) => {
                self.unmatched += 1;
                None
            }
        };
        out.extend(step.map(|step| Event { at, tid, what: What::Lock(word.lock, step) }));
    }

    /// Believes what was seen before `at`.
    fn sow(&mut self, at: MonoNanos) {
        let Self { owners, seeds, .. } = self;
        seeds.retain(|(lock, seen, since)| {
            let owner = owners.entry(*lock).or_insert(Owner::Unknown);
            if *since < at && *owner == Owner::Unknown {
                *owner = Owner::Thread(*seen);
            }
            *since >= at
        });
    }

    fn taken_or_given(&mut self, (lock, tid): (LockId, Tid), effect: Option<Effect>) -> Option<LockStep> {
        let owner = self.owners.entry(lock).or_insert(Owner::Unknown);
        let step = match effect {
            Some(Effect::Set(1)) => Some(LockStep::Acquired),
            Some(Effect::Set(0)) => Some(LockStep::Released),
            // The lock is created or destroyed: nobody's step.
            Some(Effect::Set(u32::MAX)) => {
                *owner = Owner::Unknown;
                return None;
            }
            _ => owner.step_of(tid),
        };
        *owner = match step {
            Some(LockStep::Acquired) => Owner::Thread(tid),
            Some(_) => Owner::Nobody,
            None => Owner::Writer(tid),
        };
        self.unmatched += u64::from(step.is_none());
        step
    }

    fn effect(&mut self, registers: &WriterRegisters, word: LiveAddress) -> Option<Effect> {
        let place = registers.instruction;
        if let Some(code) = self.code.get(&place) {
            return effect(code, registers, word);
        }
        let mut code = [0; REACH];
        let start = LiveAddress::in_target(place).minus(u64::try_from(REACH).expect("it is twelve"));
        self.memory.read(start, &mut code).ok()?;
        if self.code.len() < PLACES {
            self.code.insert(place, code);
        }
        effect(&code, registers, word)
    }
}

impl Owner {
    /// What a write by `tid` must have been. A thread that is not the owner can only acquire, and only after a release.
    fn step_of(self, tid: Tid) -> Option<LockStep> {
        match self {
            Self::Nobody => Some(LockStep::Acquired),
            Self::Thread(owner) if owner == tid => Some(LockStep::Released),
            Self::Writer(other) if other != tid => Some(LockStep::Acquired),
            // Two owners at a time: something is missing or wrong.
            Self::Thread(_) | Self::Writer(_) | Self::Unknown => None,
        }
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes")
            .field("owners", &self.owners)
            .field("unmatched", &self.unmatched)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{LockWord, REACH, Role, Write, Writes};
    use crate::{
        model::{
            address::LiveAddress,
            event::{Event, LockStep, What},
            ids::{LockId, Tid},
            time::MonoNanos,
        },
        perf::registers::WriterRegisters,
        target::memory::{Memory, MemoryError},
    };

    const WORD: u64 = 0x1000;
    /// Ends of instructions, all of which write to where `rdi` points.
    const ONE: u64 = 0x100;
    const ZERO: u64 = 0x200;
    const MINUS_ONE: u64 = 0x300;
    const ADD: u64 = 0x400;
    const REPLACE: u64 = 0x500;
    const RIDDLE: u64 = 0x600;

    struct Code;

    impl Memory for Code {
        fn read(&self, at: LiveAddress, into: &mut [u8]) -> Result<(), MemoryError> {
            let end: &[u8] = match at.raw() + REACH as u64 {
                ONE => &[0xc7, 0x07, 1, 0, 0, 0],
                ZERO => &[0xc7, 0x07, 0, 0, 0, 0],
                MINUS_ONE => &[0xc7, 0x07, 0xff, 0xff, 0xff, 0xff],
                ADD => &[0xf0, 0x48, 0x0f, 0xc1, 0x07],
                REPLACE => &[0xf0, 0x48, 0x0f, 0xb1, 0x0f],
                _ => &[],
            };
            let start = into.len() - end.len();
            into[start..].copy_from_slice(end);
            Ok(())
        }
    }

    fn steps(writes: &[(i32, Role, u64)]) -> (Vec<(i32, LockStep)>, Writes) {
        let mut book = Writes::new(Box::new(Code));
        (play(&mut book, writes), book)
    }

    fn play(book: &mut Writes, writes: &[(i32, Role, u64)]) -> Vec<(i32, LockStep)> {
        let mut out = Vec::new();
        for (tid, role, instruction) in writes {
            let mut general = [0; 16];
            general[7] = WORD;
            let registers = WriterRegisters { instruction: *instruction, general };
            let word = LockWord { lock: LockId::from_index(0), role: *role, address: LiveAddress::in_target(WORD) };
            let (at, tid) = (MonoNanos::from_monotonic(1), Tid::from_raw(*tid).unwrap());
            book.translate(Write { at, tid, word, registers: Some(&registers) }, &mut out);
        }
        let step = |event: Event| match event.what {
            What::Lock(_, step) => (event.tid.raw(), step),
            other => panic!("not a lock step: {other:?}"),
        };
        out.into_iter().map(step).collect()
    }

    #[test]
    fn a_contended_hand_over_reads_as_want_release_yield_acquire() {
        let (steps, book) = steps(&[
            (1, Role::Locked, ONE),
            (1, Role::Yields, REPLACE),
            (2, Role::Waits, ADD),
            (1, Role::Locked, ZERO),
            (1, Role::Waits, REPLACE),
            (1, Role::Yields, ADD),
            (2, Role::Locked, ONE),
            (2, Role::Locked, MINUS_ONE),
        ]);
        let expected = [
            (1, LockStep::Acquired),
            (2, LockStep::Want),
            (1, LockStep::Released),
            (1, LockStep::Yielded),
            (2, LockStep::Acquired),
        ];
        assert_eq!((steps.as_slice(), book.unmatched()), (&expected[..], 0));
    }

    /// ```text
    /// legible      1 has ──▶ 1 had ──▶
    /// illegible                       2 has ──▶ 2 had ──▶ 1 has
    /// ```
    #[test]
    fn where_the_code_is_a_riddle_owners_alternate() {
        let riddle = |tid| (tid, Role::Locked, RIDDLE);
        let legible = [(1, Role::Locked, ONE), (1, Role::Locked, ZERO)];
        let (steps, book) = steps(&[&legible[..], &[riddle(2), riddle(2), riddle(1)]].concat());
        let illegible = [(2, LockStep::Acquired), (2, LockStep::Released), (1, LockStep::Acquired)];
        assert_eq!((&steps[2..], book.unmatched()), (&illegible[..], 0));
    }

    #[test]
    fn after_a_loss_nothing_is_inverted() {
        let riddle = |tid| (tid, Role::Locked, RIDDLE);
        let (first, mut book) = steps(&[(1, Role::Locked, ONE)]);
        assert_eq!(first, [(1, LockStep::Acquired)]);
        book.on_lost();
        // Whether 1 has released or acquired is not known; that 2 acquires afterwards is certain.
        let later = play(&mut book, &[riddle(1), riddle(1), riddle(2), riddle(2)]);
        assert_eq!((later.as_slice(), book.unmatched()), (&[(2, LockStep::Acquired), (2, LockStep::Released)][..], 2));
        book.on_lost();
        let legible = play(&mut book, &[(1, Role::Locked, ZERO), riddle(1), riddle(1)]);
        assert_eq!(legible, [(1, LockStep::Released), (1, LockStep::Acquired), (1, LockStep::Released)]);
    }

    #[test]
    fn what_was_seen_is_believed_of_later_writes() {
        let riddle = |tid| (tid, Role::Locked, RIDDLE);
        let (lock, seen_by) = (LockId::from_index(0), Tid::from_raw(1).unwrap());
        let mut book = Writes::new(Box::new(Code));
        book.seed(lock, seen_by, MonoNanos::from_monotonic(0));
        assert_eq!(play(&mut book, &[riddle(1)]), [(1, LockStep::Released)]);
        let mut book = Writes::new(Box::new(Code));
        book.seed(lock, seen_by, MonoNanos::from_monotonic(2));
        assert_eq!((play(&mut book, &[riddle(1)]), book.unmatched()), (Vec::new(), 1));
    }

    #[test]
    fn two_owners_at_a_time_are_not_believed() {
        let (steps, book) = steps(&[(1, Role::Locked, ONE), (2, Role::Locked, RIDDLE), (2, Role::Waits, RIDDLE)]);
        assert_eq!((steps.as_slice(), book.unmatched()), (&[(1, LockStep::Acquired)][..], 2));
    }
}
