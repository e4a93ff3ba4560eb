//! Stacks that the probe notes: how it is told to find frames and locks, and what its records mean.

use std::{fmt, rc::Rc, sync::atomic::Ordering};

use crate::{
    model::event::SampleCause,
    model::{address::LiveAddress, stack::StackId},
    source::preload::layout::{
        ABSENT, CODE_BITS, FRAMES, LOCKS, Lock, REMEMBERED, RUNTIME_ARRAY, RUNTIME_LINKED, Record, STACK_CUT,
        STACK_FAILED, STACK_KNOWN, STACK_OF_HOLDER, STACK_OF_RELEASER, STACK_OF_WAITER, Walk, memory_index,
    },
    target::{
        layout::{Instruction, PythonLayout, TopFrame},
        lock::LockSeat,
        runtime::{Runtime, toyvm::ToyLayout},
        trail::{Step, Trail},
    },
};

/// The bits of a stack's operand that count its frames.
const COUNT: u64 = STACK_OF_RELEASER - 1;
/// The bits that tell whose stack it is.
const SUBJECT: u64 = STACK_OF_RELEASER | STACK_OF_HOLDER;

/// Gives names to what the probe notes.
pub trait NameStacks {
    /// The stack that `trail` stands for now; `None` when it cannot be made out.
    fn name(&mut self, trail: &Trail) -> Option<StackId>;

    /// The locks found so far, but for the first `known` ones.
    fn locks_after(&self, known: usize) -> Vec<LockSeat>;
}

/// Whoever gives names, and nobody when no stacks are to be read.
#[derive(Default)]
pub struct Naming {
    namer: Option<Box<dyn NameStacks>>,
    told: usize,
}

/// The stacks that one thread has noted and may refer to.
#[derive(Debug, Default)]
pub struct Memory {
    entries: [Option<(u64, Rc<Trail>)>; REMEMBERED],
}

impl Naming {
    /// Names come from `namer`.
    pub fn by(namer: Box<dyn NameStacks>) -> Self {
        Self { namer: Some(namer), told: 0 }
    }

    /// Tells the probe of locks it does not know yet.
    pub fn tell_locks(&mut self, locks: &[Lock; LOCKS]) {
        let Some(namer) = &self.namer else { return };
        for seat in namer.locks_after(self.told) {
            if let Some(entry) = locks.get(self.told) {
                describe_lock(entry, &seat);
            }
            self.told += 1;
        }
    }

    /// Why a stack was noted and which one it is: `print` and `operand` are its record, and `frames` all that follows it
    /// in the chunk.
    pub fn read(&mut self, memory: &mut Memory, (print, operand): (u64, u64), frames: &[Record]) -> Noted {
        let count = usize::try_from(operand & COUNT).unwrap_or(FRAMES);
        let cause = match operand & SUBJECT {
            STACK_OF_WAITER => Some(SampleCause::WaitBegan),
            STACK_OF_RELEASER => Some(SampleCause::AtRelease),
            STACK_OF_HOLDER => Some(SampleCause::Contended),
            _ => None,
        };
        let trail = match frames.get(..count) {
            Some(_) if operand & STACK_FAILED != 0 => None,
            Some(_) if operand & STACK_KNOWN != 0 => memory.recall(print),
            Some(frames) => Some(memory.keep(print, Trail { frames: steps(frames), cut: operand & STACK_CUT != 0 })),
            None => None,
        };
        let stack = trail.and_then(|trail| self.namer.as_mut()?.name(&trail));
        Noted { cause, stack, records: count }
    }
}

/// What a stack's record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// Why; `None` when the record makes no sense.
    pub cause: Option<SampleCause>,
    /// The stack; `None` when it could not be read or named.
    pub stack: Option<StackId>,
    /// How many records after it belong to it.
    pub records: usize,
}

impl Memory {
    fn keep(&mut self, print: u64, trail: Trail) -> Rc<Trail> {
        let trail = Rc::new(trail);
        self.entries[memory_index(print) % REMEMBERED] = Some((print, Rc::clone(&trail)));
        trail
    }

    fn recall(&self, print: u64) -> Option<Rc<Trail>> {
        let entry = self.entries[memory_index(print) % REMEMBERED].as_ref();
        entry.filter(|(known, _)| *known == print).map(|(_, trail)| Rc::clone(trail))
    }
}

fn steps(frames: &[Record]) -> Vec<Step> {
    let step = |record: &Record| {
        let code = record.time.load(Ordering::Relaxed);
        Step {
            code: LiveAddress::in_target(code & ((1 << CODE_BITS) - 1)),
            instruction: record.word.load(Ordering::Relaxed),
            bytecode_copy: u32::try_from(code >> CODE_BITS).unwrap_or(0),
        }
    };
    frames.iter().map(step).collect()
}

fn describe_lock(entry: &Lock, seat: &LockSeat) {
    let within = |offset| seat.address.plus(offset).raw();
    entry.last_holder.store(within(seat.layout.last_holder), Ordering::Relaxed);
    entry.locked.store(within(seat.layout.locked), Ordering::Relaxed);
    entry.switch_cond.store(within(seat.layout.switch_cond), Ordering::Relaxed);
    // Release: whoever knows the lock knows the rest, and how to read stacks.
    entry.cond.store(within(seat.layout.cond), Ordering::Release);
}

/// Describes the target's frames to the probe; must come before the first lock.
pub fn describe(walk: &Walk, runtime: &Runtime) {
    let absent = [
        &walk.owner,
        &walk.indirect,
        &walk.top,
        &walk.depth,
        &walk.previous,
        &walk.code,
        &walk.instruction,
        &walk.kind,
        &walk.bytecode_copy,
        &walk.executing,
    ];
    absent.iter().for_each(|word| word.store(ABSENT, Ordering::Relaxed));
    match runtime {
        Runtime::CPython(python) => describe_python(walk, &python.layout),
        Runtime::ToyVm(toy) => describe_toy(walk, &toy.layout),
    }
}

fn describe_python(walk: &Walk, layout: &PythonLayout) {
    let (thread, frame) = (&layout.thread, &layout.frame);
    set(&walk.owner, thread.pthread);
    match thread.frame {
        TopFrame::Direct(offset) => set(&walk.top, offset),
        TopFrame::ThroughCframe { cframe, frame } => {
            set(&walk.indirect, cframe);
            set(&walk.top, frame);
        }
    }
    let (instruction, size) = match frame.instruction {
        Instruction::Index { offset, .. } => (offset, 4),
        Instruction::Pointer { offset } => (offset, 8),
    };
    set(&walk.instruction, instruction);
    set(&walk.instruction_size, size);
    set(&walk.previous, frame.previous);
    set(&walk.code, frame.code);
    set(&walk.code_size, 8);
    frame.owner.into_iter().for_each(|offset| set(&walk.kind, offset));
    let passed_over = frame.shim_owners.iter().filter_map(|kind| 1_u64.checked_shl(u32::from(*kind)));
    walk.passed_over.store(passed_over.fold(0, |bits, bit| bits | bit), Ordering::Relaxed);
    frame.local_bytecode_index.into_iter().for_each(|offset| set(&walk.bytecode_copy, offset));
    if let Some(byte) = frame.executing {
        set(&walk.executing, byte.offset);
        set(&walk.executing_value, u64::from(byte.value));
    }
    let words = [Some(frame.previous), Some(frame.code), Some(instruction), frame.local_bytecode_index];
    let bytes = [frame.owner, frame.executing.map(|byte| byte.offset)];
    let ends = words.into_iter().flatten().map(|offset| offset + 8).chain(bytes.into_iter().flatten().map(|at| at + 1));
    set(&walk.frame_size, ends.max().unwrap_or(0));
    walk.runtime.store(RUNTIME_LINKED, Ordering::Relaxed);
}

fn describe_toy(walk: &Walk, layout: &ToyLayout) {
    set(&walk.owner, layout.thread_tid);
    set(&walk.top, layout.thread_frames);
    set(&walk.depth, layout.thread_depth);
    set(&walk.frame_size, layout.frame_size);
    set(&walk.code, layout.frame_function);
    set(&walk.code_size, 4);
    set(&walk.instruction, layout.frame_line);
    set(&walk.instruction_size, 4);
    walk.runtime.store(RUNTIME_ARRAY, Ordering::Relaxed);
}

fn set(word: &std::sync::atomic::AtomicU32, value: u64) {
    word.store(u32::try_from(value).unwrap_or(ABSENT), Ordering::Relaxed);
}

impl fmt::Debug for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Naming").field("told", &self.told).finish_non_exhaustive()
    }
}
