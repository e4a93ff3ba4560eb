//! Memory of a target that lies: any address can be read, and what is there is a piece of the bytes given.
//!
//! Pointers lead somewhere, so chains go on for ever unless somebody ends them; some ranges cannot be read. Reads are
//! counted, and an entry panics when they are more than any sound target takes.

use std::{cell::Cell, io};

use crate::{
    model::{
        address::LiveAddress,
        ids::Pid,
        recorded::{Below, Entry, RecordedFrame, RecordedStack, Walk},
    },
    source::bpf::config::Config,
    stack::{DEEPEST, Motion, plain, python::PythonStacks, python::names::PythonNames, toyvm::ToyStacks},
    target::{
        catalog::{NEWEST_MINOR, OLDEST_MINOR, layout_on_file},
        debug_offsets::DebugOffsets,
        layout::PythonLayout,
        memory::{Memory, MemoryError},
        runtime::{cpython::CPython, toyvm::ToyVm},
        version::{Build, PythonVersion},
    },
};

/// Reads of memory that one entry may take: lists are bounded at 65 536 elements of two or three words, and tried again.
const MOST_READS: usize = 8 << 20;
/// Bytes of one read, at the most.
const LONGEST_READ: usize = 4 << 20;
/// Bytes that one entry may read.
const MOST_BYTES: usize = 1 << 30;

/// Bytes that stand at every address.
#[derive(Debug)]
pub struct Liar<'a> {
    bytes: &'a [u8],
    reads: Cell<usize>,
    read: Cell<usize>,
}

impl<'a> Liar<'a> {
    /// A liar with these bytes; they must not be empty.
    pub fn with(bytes: &'a [u8]) -> Self {
        Self { bytes, reads: Cell::new(0), read: Cell::new(0) }
    }
}

impl Memory for Liar<'_> {
    fn read(&self, at: LiveAddress, into: &mut [u8]) -> Result<(), MemoryError> {
        self.reads.set(self.reads.get() + 1);
        self.read.set(self.read.get() + into.len());
        assert!(self.reads.get() <= MOST_READS, "reads without bound");
        assert!(into.len() <= LONGEST_READ && self.read.get() <= MOST_BYTES, "bytes without bound");
        let page = at.raw() >> 12;
        if (page ^ page >> 7) & 15 == 15 {
            return Err(MemoryError::Read { at, length: into.len(), source: io::Error::from_raw_os_error(libc::EIO) });
        }
        let start = usize::try_from(at.raw() % self.bytes.len() as u64).expect("a remainder fits");
        let endless = self.bytes[start..].iter().chain(self.bytes.iter().cycle());
        into.iter_mut().zip(endless).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

/// A CPython that lies; the first two bytes choose version and build.
pub fn python_memory(bytes: &[u8]) {
    let Some(([version, build], bytes)) = bytes.split_first_chunk().filter(|(_, bytes)| !bytes.is_empty()) else {
        return;
    };
    let minor = OLDEST_MINOR + version % (NEWEST_MINOR + 1 - OLDEST_MINOR);
    let build = if build & 1 == 0 { Build::Default } else { Build::FreeThreaded };
    let memory = Liar::with(bytes);
    let version = PythonVersion::release(3, minor, 0);
    let Some(on_file) = layout_on_file(version, build) else { return };
    let published =
        DebugOffsets::read(&memory, LiveAddress::in_target(0)).and_then(|table| table.over(on_file.clone()));
    walk_python(&memory, &on_file);
    if let Ok(layout) = published {
        walk_python(&memory, &layout);
    }
}

/// A file of `probes/`, and then a target of that layout.
pub fn layout_file(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, memory) = bytes.split_at(end);
    let Ok(layout) = serde_json::from_slice::<PythonLayout>(text) else { return };
    walk_python(&Liar::with(if memory.is_empty() { &[0] } else { memory }), &layout);
}

fn walk_python(memory: &Liar<'_>, layout: &PythonLayout) {
    let version = PythonVersion::release(3, 12, 1);
    let runtime = LiveAddress::in_target(0);
    let python = CPython { version, build: Build::Default, layout: layout.clone(), runtime, pthread_tid: Some(720) };
    let pid = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw).expect("pids are positive");
    let _ = python.has_sound_locks(memory);
    let locks = python.locks(memory).unwrap_or_default();
    let threads = python.threads(pid, memory).unwrap_or_default();
    let _ = python.searched_pthread_tid(pid, memory);
    let _ = Config::python(&python);
    for seat in locks.iter().take(4) {
        let _ = (seat.read(memory), seat.switch_interval(memory));
    }
    let (Some(mut stacks), Some(mut names)) = (PythonStacks::new(layout), PythonNames::new(layout)) else { return };
    let states = threads.iter().map(|thread| thread.state).take(4);
    for state in states.chain([8, 0x1238].map(LiveAddress::in_target)) {
        let _ = (python.collects(memory, state), stacks.owner(memory, state));
        for motion in [Motion::Still, Motion::Moving] {
            let stack = stacks.read(memory, state, motion).map(plain).unwrap_or_default();
            assert!(stack.len() <= DEEPEST + 2);
        }
    }
    names.begin_reading();
    for frame in recorded(memory).frames {
        let _ = names.name(memory, &frame);
    }
}

/// A recorded stack of whatever stands at the start.
fn recorded(memory: &Liar<'_>) -> RecordedStack {
    let word = |at: u64| memory.read_u64(LiveAddress::in_target(at)).unwrap_or(at);
    let frame = |at: u64| RecordedFrame {
        code: word(at),
        instruction: word(at + 8),
        bytecode_copy: (word(at + 16) & 3) as u32,
        name: std::num::NonZeroU64::new(word(at + 24)),
        entry: Entry::Unknown,
    };
    RecordedStack { frames: (0..16).map(|at| frame(at * 32)).collect(), walk: Walk::Complete, below: Below::Nothing }
}

/// A toy VM that lies: its description is what the bytes begin with.
pub fn toy_memory(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let memory = Liar::with(bytes);
    let Ok(Some(vm)) = ToyVm::described(&memory, LiveAddress::in_target(0)) else { return };
    let pid = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw).expect("pids are positive");
    let threads = vm.threads(pid, &memory).unwrap_or_default();
    let mut stacks = ToyStacks::new(&vm.layout);
    for state in threads.iter().map(|thread| thread.state).take(4).chain([LiveAddress::in_target(8)]) {
        let _ = stacks.owner(&memory, state);
        for motion in [Motion::Still, Motion::Moving] {
            let stack = stacks.read(&memory, state, motion).unwrap_or_default();
            assert!(stack.len() <= DEEPEST + 2);
        }
    }
}
