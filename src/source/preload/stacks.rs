//! Stacks that the probe notes: how it is told to find frames and locks, and what its records mean.

use std::{fmt, rc::Rc, sync::atomic::Ordering};

use crate::{
    model::{
        address::LiveAddress,
        event::SampleCause,
        recorded::{self, Entry, RecordedFrame, RecordedStack},
        stack::StackId,
    },
    source::{
        OnStack,
        calls::SharedTranslator,
        preload::layout::{
            ABSENT, CODE_BITS, FRAMES, LOCKS, Lock, REMEMBERED, RUNTIME_ARRAY, RUNTIME_LINKED, Record, STACK_CHANGING,
            STACK_CUT, STACK_FAILED, STACK_KNOWN, STACK_OF_HOLDER, STACK_OF_PARKED, STACK_OF_RELEASER, STACK_OF_WAITER,
            Walk, memory_index,
        },
    },
    target::{
        layout::{Instruction, PythonLayout, TopFrame},
        lock::LockSeat,
        runtime::{Runtime, toyvm::ToyLayout},
    },
};

/// The bits of a stack's operand that count its frames.
const COUNT: u64 = STACK_OF_RELEASER - 1;
/// The bits that tell whose stack it is.
const SUBJECT: u64 = STACK_OF_RELEASER | STACK_OF_HOLDER;

/// Whoever gives names, and nobody when no stacks are to be read.
#[derive(Default)]
pub struct Naming(Option<OnStack>);

/// The locks that the probe is told of, and how many it has been told.
#[derive(Debug, Default)]
pub struct KnownLocks {
    /// Whoever finds them; nobody while no stacks are to be read.
    pub found: Option<SharedTranslator>,
    told: usize,
    /// Where those are, each place once.
    places: Vec<LiveAddress>,
}

/// The stacks that one thread has noted and may refer to.
#[derive(Debug, Default)]
pub struct Memory {
    entries: [Option<(u64, Rc<RecordedStack>)>; REMEMBERED],
}

impl KnownLocks {
    /// How many the probe knows.
    pub fn told(&self) -> usize {
        self.told
    }

    /// Tells the probe of those it does not know yet.
    pub fn tell(&mut self, locks: &[Lock; LOCKS]) {
        let Some(translator) = &self.found else { return };
        for seat in translator.borrow().seats().iter().skip(self.told) {
            self.told += 1;
            // One that has taken a former one's place is described there already.
            if self.places.contains(&seat.address) {
                continue;
            }
            if let Some(entry) = locks.get(self.places.len()) {
                describe_lock(entry, seat);
            }
            self.places.push(seat.address);
        }
    }
}

impl Naming {
    /// Names come from `on_stack`.
    pub fn by(on_stack: OnStack) -> Self {
        Self(Some(on_stack))
    }

    /// Why a stack was noted and which one it is: `print` and `operand` are its record, and `frames` all that follows it
    /// in the chunk.
    pub fn read(&mut self, memory: &mut Memory, (print, operand): (u64, u64), frames: &[Record]) -> Noted {
        let count = usize::try_from(operand & COUNT).unwrap_or(FRAMES);
        let subject = match operand & SUBJECT {
            STACK_OF_WAITER => Some(Subject::Lock(SampleCause::WaitBegan)),
            STACK_OF_RELEASER => Some(Subject::Lock(SampleCause::AtRelease)),
            STACK_OF_HOLDER => Some(Subject::Lock(SampleCause::Contended)),
            STACK_OF_PARKED => Some(Subject::Parked),
            _ => None,
        };
        let recorded = match frames.get(..count) {
            Some(_) if operand & STACK_FAILED != 0 => None,
            Some(_) if operand & STACK_KNOWN != 0 => memory.recall(print),
            Some(frames) => Some(memory.keep(print, stack(frames, operand))),
            None => None,
        };
        let stack = recorded.and_then(|recorded| self.0.as_mut()?(&recorded));
        Noted { subject, stack, records: count }
    }
}

/// Whose stack was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// That of a thread that has to do with a global lock.
    Lock(SampleCause),
    /// That of a thread which goes to sleep for something else.
    Parked,
}

/// What a stack's record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// Whose; `None` when the record makes no sense.
    pub subject: Option<Subject>,
    /// The stack; `None` when it could not be read or named.
    pub stack: Option<StackId>,
    /// How many records after it belong to it.
    pub records: usize,
}

impl Memory {
    fn keep(&mut self, print: u64, stack: RecordedStack) -> Rc<RecordedStack> {
        let stack = Rc::new(stack);
        self.entries[memory_index(print) % REMEMBERED] = Some((print, Rc::clone(&stack)));
        stack
    }

    fn recall(&self, print: u64) -> Option<Rc<RecordedStack>> {
        let entry = self.entries[memory_index(print) % REMEMBERED].as_ref();
        entry.filter(|(known, _)| *known == print).map(|(_, stack)| Rc::clone(stack))
    }
}

fn stack(frames: &[Record], operand: u64) -> RecordedStack {
    let walk = match operand {
        _ if operand & STACK_CHANGING != 0 => recorded::Walk::Changing,
        _ if operand & STACK_CUT != 0 => recorded::Walk::Cut,
        _ => recorded::Walk::Complete,
    };
    RecordedStack { frames: frames.iter().map(frame).collect(), walk, below: recorded::Below::Nothing }
}

fn frame(record: &Record) -> RecordedFrame {
    let code = record.time.load(Ordering::Relaxed);
    RecordedFrame {
        code: code & ((1 << CODE_BITS) - 1),
        bytecode_copy: u32::try_from(code >> CODE_BITS).unwrap_or(0),
        instruction: record.word.load(Ordering::Relaxed),
        name: None,
        entry: Entry::Unknown,
    }
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
        // The probe has nothing to do in it.
        Runtime::PyPy(_) => {}
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
        f.debug_struct("Naming").finish_non_exhaustive()
    }
}
