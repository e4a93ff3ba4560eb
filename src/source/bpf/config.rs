//! What the programs have to know about the target, as the words of their `config`.

use crate::{
    bpf::kernel::Home,
    model::ids::Pid,
    target::{
        discover::Target,
        layout::{Instruction, TopFrame},
        lock::LockLayout,
        runtime::{Runtime, cpython::CPython, toyvm::ToyLayout},
        version::Build,
    },
};

/// The largest part of a frame that the programs read.
const LARGEST_HEAD: u64 = 128;
/// An offset that does not exist.
const NONE: u64 = u64::MAX;
/// Owners of frames from this number on cannot be told to the programs.
const OWNERS: u8 = 64;

/// The words of `struct config`, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Config {
    runtime: u64,
    process: u64,
    home_device: u64,
    home_inode: u64,
    inner_device: u64,
    inner_inode: u64,
    last_holder: u64,
    locked: u64,
    switchable: u64,
    pub(super) owner_word: u64,
    top: u64,
    top_inner: u64,
    head_start: u64,
    head_length: u64,
    previous: u64,
    code: u64,
    instruction: u64,
    instruction_wide: u64,
    bytecode_copy: u64,
    owner: u64,
    shim_owners: u64,
    executing: u64,
    executing_value: u64,
    entry: u64,
    entry_value: u64,
    name: u64,
    interpreter: u64,
    collecting: u64,
    lock_pointer: u64,
    lock: u64,
    depth: u64,
    frames: u64,
    frame_size: u64,
    suspended: u64,
    metered: u64,
    leader: u64,
    task_pid: u64,
    task_tgid: u64,
}

/// What programs have to know to read counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Metered {
    /// How many there are.
    pub(super) count: usize,
    /// Which of them is the first of the processor's.
    pub(super) leader: Option<usize>,
    /// Where in the kernel's description of a thread its number lies.
    pub(super) task_pid: u64,
    /// And that of its process.
    pub(super) task_tgid: u64,
}

/// The part of a frame that has all fields that matter, begun at a multiple of eight.
#[derive(Debug, Clone, Copy)]
struct Head {
    start: u64,
    length: u64,
}

impl Config {
    /// The words for `target`; `None` when its frames are nothing that the programs can walk, or when it has ended.
    pub(super) fn of(target: &Target) -> Option<Self> {
        let process = u64::try_from(target.pid.raw()).ok()?;
        let config = match &target.runtime {
            Runtime::CPython(python) => Self::python(python)?,
            Runtime::ToyVm(vm) => Self::toy(&vm.layout)?,
            Runtime::PyPy(_) => return None,
        };
        let inner = Home::of_process(target.pid).ok()?;
        Some(Self { process, inner_device: inner.device, inner_inode: inner.inode, ..config })
    }

    /// The same for programs that are to read no stacks.
    pub(super) fn without_stacks(self) -> Self {
        Self { runtime: 0, ..self }
    }

    /// The same for programs that read counters of the process.
    pub(super) fn metering(self, pid: Pid, metered: Metered) -> Self {
        let Metered { count, leader, task_pid, task_tgid } = metered;
        let process = u64::try_from(pid.raw()).unwrap_or(0);
        let leader = leader.map_or(NONE, |leader| leader as u64);
        Self { process, metered: count as u64, leader, task_pid, task_tgid, ..self }
    }

    /// The same for an observer who numbers threads as `home` does.
    pub(super) fn numbered_by(self, home: Home) -> Self {
        Self { home_device: home.device, home_inode: home.inode, ..self }
    }

    pub(crate) fn python(python: &CPython) -> Option<Self> {
        let layout = &python.layout;
        let frame = &layout.frame;
        let (instruction, size) = match frame.instruction {
            Instruction::Index { offset, .. } => (offset, 4),
            Instruction::Pointer { offset } => (offset, 8),
        };
        let mut fields = vec![(frame.previous, 8), (frame.code, 8), (instruction, size)];
        fields.extend(frame.owner.map(|offset| (offset, 1)));
        fields.extend(frame.local_bytecode_index.map(|offset| (offset, 4)));
        fields.extend([frame.executing, frame.entry].iter().flatten().map(|byte| (byte.offset, 1)));
        let head = Head::around(&fields)?;
        let (top, top_inner) = match layout.thread.frame {
            TopFrame::Direct(offset) => (offset, NONE),
            TopFrame::ThroughCframe { cframe, frame } => (cframe, frame),
        };
        let within = |offset: Option<u64>| offset.map_or(NONE, |offset| offset - head.start);
        Some(Self {
            runtime: 1,
            last_holder: layout.lock.last_holder,
            locked: layout.lock.locked,
            switchable: u64::from(python.build == Build::FreeThreaded),
            owner_word: layout.thread.native_thread_id.unwrap_or(layout.thread.pthread),
            top,
            top_inner,
            head_start: head.start,
            head_length: head.length,
            previous: frame.previous - head.start,
            code: frame.code - head.start,
            instruction: instruction - head.start,
            instruction_wide: u64::from(size == 8),
            bytecode_copy: within(frame.local_bytecode_index),
            owner: within(frame.owner),
            shim_owners: owners(&frame.shim_owners)?,
            executing: within(frame.executing.map(|byte| byte.offset)),
            executing_value: frame.executing.map_or(0, |byte| u64::from(byte.value)),
            entry: within(frame.entry.map(|byte| byte.offset)),
            entry_value: frame.entry.map_or(0, |byte| u64::from(byte.value)),
            name: layout.code.name,
            suspended: layout.thread.suspended.unwrap_or(NONE),
            ..Collector::of(python).words()
        })
    }

    fn toy(layout: &ToyLayout) -> Option<Self> {
        let head = Head::around(&[(layout.frame_function, 4), (layout.frame_line, 4)])?;
        Some(Self {
            runtime: 2,
            last_holder: LockLayout::DEFAULT.last_holder,
            locked: LockLayout::DEFAULT.locked,
            owner_word: layout.thread_tid,
            head_start: head.start,
            head_length: head.length,
            code: layout.frame_function - head.start,
            instruction: layout.frame_line - head.start,
            depth: layout.thread_depth,
            frames: layout.thread_frames,
            frame_size: layout.frame_size,
            collecting: NONE,
            suspended: NONE,
            ..Self::default()
        })
    }

    /// As the programs read it.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let words = [
            self.runtime,
            self.process,
            self.home_device,
            self.home_inode,
            self.inner_device,
            self.inner_inode,
            self.last_holder,
            self.locked,
            self.switchable,
            self.owner_word,
            self.top,
            self.top_inner,
            self.head_start,
            self.head_length,
            self.previous,
            self.code,
            self.instruction,
            self.instruction_wide,
            self.bytecode_copy,
            self.owner,
            self.shim_owners,
            self.executing,
            self.executing_value,
            self.entry,
            self.entry_value,
            self.name,
            self.interpreter,
            self.collecting,
            self.lock_pointer,
            self.lock,
            self.depth,
            self.frames,
            self.frame_size,
            self.suspended,
            self.metered,
            self.leader,
            self.task_pid,
            self.task_tgid,
        ];
        words.into_iter().flat_map(u64::to_ne_bytes).collect()
    }
}

/// Where it says that garbage is collected, and which lock the collecting thread holds.
#[derive(Debug, Clone, Copy)]
struct Collector {
    /// In the interpreter or, if that is all the same, at this address.
    collecting: u64,
    interpreter: u64,
    lock_pointer: u64,
    lock: u64,
}

impl Collector {
    fn of(python: &CPython) -> Self {
        let CPython { layout, runtime, .. } = python;
        let fixed = |offset: u64| runtime.plus(offset).raw();
        let in_interpreter = layout.interpreter.collecting;
        let in_runtime = layout.runtime.collecting.filter(|_| in_interpreter.is_none());
        Self {
            collecting: in_interpreter.or(in_runtime.map(fixed)).unwrap_or(NONE),
            interpreter: if in_runtime.is_some() { NONE } else { layout.thread.interpreter },
            lock_pointer: layout.interpreter.lock.unwrap_or(NONE),
            lock: layout.runtime.lock.map_or(0, fixed),
        }
    }

    fn words(self) -> Config {
        let Self { collecting, interpreter, lock_pointer, lock } = self;
        Config { collecting, interpreter, lock_pointer, lock, ..Config::default() }
    }
}

impl Head {
    /// `None` if a field, given by offset and size, is not aligned or too far from another.
    fn around(fields: &[(u64, u64)]) -> Option<Self> {
        let start = fields.iter().map(|(offset, _)| *offset).min()? / 8 * 8;
        let ends = fields.iter().map(|(offset, size)| offset.checked_add(*size));
        let end = ends.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        let aligned = fields.iter().all(|(offset, size)| offset % size == 0);
        let length = end.checked_sub(start)?;
        (aligned && length <= LARGEST_HEAD).then_some(Self { start, length })
    }
}

fn owners(values: &[u8]) -> Option<u64> {
    values.iter().all(|value| *value < OWNERS).then(|| values.iter().fold(0, |bits, value| bits | 1 << value))
}

#[cfg(test)]
mod tests {
    use super::{Head, owners};

    #[test]
    fn a_head_begins_at_a_word_and_is_bounded() {
        let head = Head::around(&[(24, 8), (104, 4), (116, 1)]).unwrap();
        assert_eq!((head.start, head.length), (24, 93));
        assert!(Head::around(&[(12, 8)]).is_none());
        assert!(Head::around(&[(0, 8), (128, 1)]).is_none());
        assert!(Head::around(&[(0, 8), (u64::MAX, 1)]).is_none());
    }

    #[test]
    fn owners_are_bits() {
        assert_eq!(owners(&[3, 4]), Some(0b11000));
        assert_eq!(owners(&[64]), None);
    }
}
