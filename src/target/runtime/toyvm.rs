//! The bundled toy VM: the description of itself that it exports, and its lock and threads read through it.
//!
//! Every gilscope process exports the description; only one that runs a toy program has a lock in it.

use crate::{
    model::{
        address::LiveAddress,
        ids::{Pid, Tid},
    },
    target::{
        lock::{InterpreterThread, LockLayout, LockSeat},
        memory::{Memory, MemoryError},
        runtime::{
            RuntimeError,
            list::{List, insist},
            threads::Translation,
        },
    },
};

/// The exported symbol.
pub const SYMBOL: &str = "gilscope_toyvm";

const MAGIC: &[u8; 8] = b"gstoyvm1";
/// The magic, the version and the size, then eighteen words.
const DESCRIPTION: usize = 16 + 18 * 8;
const MOST_THREADS: usize = 1 << 16;
/// No record of the VM is this large.
const LARGEST_OFFSET: u64 = 4096;

/// What the toy VM says about itself: addresses of its structures, then offsets inside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToyLayout {
    /// The version of the description.
    pub version: u32,
    /// The lock, laid out as [`LockLayout::DEFAULT`]; its last holder is a thread record.
    pub lock: LiveAddress,
    /// A pointer variable that holds the first thread record.
    pub threads_head: LiveAddress,
    /// The path of the program, UTF-8.
    pub program_path: LiveAddress,
    /// Its length in bytes.
    pub program_path_len: u64,
    /// The array of function records.
    pub functions: LiveAddress,
    /// How many there are.
    pub functions_len: u64,
    /// In a thread record: pointer to the next record.
    pub thread_next: u64,
    /// In a thread record: the kernel's thread id, 64 bits.
    pub thread_tid: u64,
    /// In a thread record: pointer to its name, UTF-8.
    pub thread_name_ptr: u64,
    /// In a thread record: the name's length in bytes, 64 bits.
    pub thread_name_len: u64,
    /// In a thread record: how many frames are in use, 64 bits.
    pub thread_depth: u64,
    /// In a thread record: pointer to the frames, outermost first.
    pub thread_frames: u64,
    /// Bytes from one frame to the next.
    pub frame_size: u64,
    /// In a frame: the index of its function, 32 bits.
    pub frame_function: u64,
    /// In a frame: the current line, 32 bits.
    pub frame_line: u64,
    /// Bytes from one function record to the next.
    pub function_size: u64,
    /// In a function record: pointer to its name, UTF-8.
    pub function_name_ptr: u64,
    /// In a function record: the name's length in bytes, 64 bits.
    pub function_name_len: u64,
}

/// A running toy VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToyVm {
    /// Where it keeps things.
    pub layout: ToyLayout,
}

impl ToyVm {
    /// Reads the description at `at`, the address of [`SYMBOL`]; `None` when the process runs no toy program, or the
    /// description is not one that this version understands.
    pub fn described(memory: &dyn Memory, at: LiveAddress) -> Result<Option<Self>, MemoryError> {
        let mut bytes = [0; DESCRIPTION];
        memory.read(at, &mut bytes)?;
        Ok(ToyLayout::parse(&bytes).map(|layout| Self { layout }))
    }

    /// Its one lock.
    pub fn locks(&self) -> Vec<LockSeat> {
        vec![LockSeat {
            address: self.layout.lock,
            layout: LockLayout::DEFAULT,
            interpreter: None,
            name: "GIL".to_owned(),
        }]
    }

    /// Its threads now.
    pub fn threads(&self, pid: Pid, memory: &dyn Memory) -> Result<Vec<InterpreterThread>, RuntimeError> {
        let head = self.layout.threads_head;
        let list = List { what: "threads", head, next: self.layout.thread_next, bound: MOST_THREADS };
        let translation = Translation::of(pid);
        let mut threads = Vec::new();
        for state in insist(|| list.walk(memory))? {
            let inner = memory.read_u32(state.plus(self.layout.thread_tid))?.cast_signed();
            let tid = Tid::from_raw(inner).and_then(|inner| translation.outer(inner));
            threads.extend(tid.map(|tid| InterpreterThread { state, tid }));
        }
        Ok(threads)
    }
}

impl ToyLayout {
    fn parse(bytes: &[u8; DESCRIPTION]) -> Option<Self> {
        let (head, words) = bytes.split_first_chunk::<16>()?;
        let half = |at: usize| head.get(at..at + 4)?.first_chunk().copied().map(u32::from_le_bytes);
        let version = half(8)?;
        if head[..8] != MAGIC[..] || usize::try_from(half(12)?).ok()? < DESCRIPTION {
            return None;
        }
        let mut words = words.chunks_exact(8).filter_map(|word| word.first_chunk().copied().map(u64::from_le_bytes));
        let mut word = || words.next();
        let layout = Self {
            version,
            lock: LiveAddress::in_target(word()?),
            threads_head: LiveAddress::in_target(word()?),
            program_path: LiveAddress::in_target(word()?),
            program_path_len: word()?,
            functions: LiveAddress::in_target(word()?),
            functions_len: word()?,
            thread_next: word()?,
            thread_tid: word()?,
            thread_name_ptr: word()?,
            thread_name_len: word()?,
            thread_depth: word()?,
            thread_frames: word()?,
            frame_size: word()?,
            frame_function: word()?,
            frame_line: word()?,
            function_size: word()?,
            function_name_ptr: word()?,
            function_name_len: word()?,
        };
        (!layout.lock.is_null() && layout.offsets().iter().all(|offset| *offset <= LARGEST_OFFSET)).then_some(layout)
    }

    fn offsets(&self) -> [u64; 12] {
        [
            self.thread_next,
            self.thread_tid,
            self.thread_name_ptr,
            self.thread_name_len,
            self.thread_depth,
            self.thread_frames,
            self.frame_size,
            self.frame_function,
            self.frame_line,
            self.function_size,
            self.function_name_ptr,
            self.function_name_len,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::{DESCRIPTION, ToyLayout};

    fn description(lock: u64) -> [u8; DESCRIPTION] {
        let mut bytes = b"gstoyvm1".to_vec();
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(DESCRIPTION).unwrap().to_le_bytes());
        bytes.extend((0..18_u64).flat_map(|word| if word == 0 { lock } else { word * 8 }.to_le_bytes()));
        bytes.try_into().unwrap()
    }

    #[test]
    fn a_running_vm_is_read_in_order() {
        let layout = ToyLayout::parse(&description(0x7000)).unwrap();
        assert_eq!((layout.lock.raw(), layout.threads_head.raw(), layout.functions_len), (0x7000, 8, 40));
        assert_eq!((layout.thread_next, layout.frame_line, layout.function_name_len), (48, 112, 136));
    }

    #[test]
    fn a_process_without_a_toy_program_is_none() {
        assert_eq!(ToyLayout::parse(&description(0)), None);
    }

    #[test]
    fn lies_are_refused() {
        let mut other = description(0x7000);
        other[7] = b'2';
        assert_eq!(ToyLayout::parse(&other), None);
        let mut short = description(0x7000);
        short[12..16].copy_from_slice(&8_u32.to_le_bytes());
        assert_eq!(ToyLayout::parse(&short), None);
        let mut absurd = description(0x7000);
        absurd[16 + 17 * 8 + 5] = 1;
        assert_eq!(ToyLayout::parse(&absurd), None);
    }
}
