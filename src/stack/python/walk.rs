//! From a thread's innermost frame to its outermost: the chain of frames as addresses, nothing resolved yet.
//!
//! The chain is read while the thread may run, so anything may be garbage: a walk visits a bounded number of frames, and
//! a chain that bites its own tail is an error. Whether a walk can be believed is the caller's affair.

use crate::{
    model::{
        address::LiveAddress,
        recorded::{Entry, RecordedFrame},
    },
    stack::{DEEPEST, python::pages::Pages},
    target::{
        layout::{FrameLayout, Instruction},
        memory::{Memory, MemoryError},
    },
};

/// The most frames that are visited, shims of the interpreter included.
const MOST_VISITS: usize = 4 * DEEPEST;

/// The largest part of a frame that is read.
const LARGEST_HEAD: usize = 256;

/// Pointers to code objects may carry tags in these bits.
const TAG_BITS: u64 = 0b11;

/// One frame as it stands in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrame {
    /// Its own address.
    pub address: LiveAddress,
    /// What it says; the name of its code object is not looked at.
    pub frame: RecordedFrame,
}

/// A chain of frames, innermost first.
#[derive(Debug, Default)]
pub struct Chain {
    /// The frames that run code of the program.
    pub frames: Vec<RawFrame>,
    /// Whether outermost frames are missing because the stack is too deep.
    pub cut: bool,
}

/// Why a chain could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A frame cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A frame is its own caller's caller.
    #[error("the chain of frames leads back to {0}")]
    Cycle(LiveAddress),
    /// A frame of the chain has ended.
    #[error("the frame at {0} does not execute")]
    Ended(LiveAddress),
}

/// Reads frames of one layout.
#[derive(Debug)]
pub struct Walker {
    layout: FrameLayout,
    start: u64,
    length: usize,
}

/// The bytes of one frame that matter.
struct Head<'a> {
    bytes: &'a [u8],
    start: u64,
}

impl Walker {
    /// A walker; `None` when the layout's fields lie too far apart to be those of a frame.
    pub fn new(layout: &FrameLayout) -> Option<Self> {
        let instruction = match layout.instruction {
            Instruction::Index { offset, .. } => (offset, 4),
            Instruction::Pointer { offset } => (offset, 8),
        };
        let mut fields = vec![(layout.previous, 8), (layout.code, 8), instruction];
        fields.extend(layout.owner.map(|offset| (offset, 1)));
        fields.extend(layout.local_bytecode_index.map(|offset| (offset, 4)));
        fields.extend([layout.executing, layout.entry].iter().flatten().map(|byte| (byte.offset, 1)));
        let start = fields.iter().map(|(offset, _)| *offset).min()?;
        let ends = fields.iter().map(|(offset, size)| offset.checked_add(*size));
        let end = ends.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        let length = usize::try_from(end.checked_sub(start)?).ok().filter(|length| *length <= LARGEST_HEAD)?;
        Some(Self { layout: layout.clone(), start, length })
    }

    /// Follows the chain from the innermost frame `top` into `chain`, reading through `pages`.
    pub fn walk(
        &self,
        memory: &dyn Memory,
        top: LiveAddress,
        pages: &mut Pages,
        chain: &mut Chain,
    ) -> Result<(), WalkError> {
        pages.clear();
        chain.frames.clear();
        chain.cut = false;
        let mut buffer = [0; LARGEST_HEAD];
        let bytes = &mut buffer[..self.length];
        let mut at = top;
        let mut mark = LiveAddress::in_target(0);
        for visit in 1..=MOST_VISITS {
            if at.is_null() {
                return Ok(());
            }
            if at == mark {
                return Err(WalkError::Cycle(at));
            }
            // Brent's way of finding a cycle: remember the frame at each power of two.
            if visit.is_power_of_two() {
                mark = at;
            }
            if chain.frames.len() == DEEPEST {
                break;
            }
            pages.read(memory, at.plus(self.start), bytes)?;
            let head = Head { bytes, start: self.start };
            if self.is_script(&head) {
                if self.executes(&head) {
                    chain.frames.push(self.raw_frame(&head, at));
                } else if at != top {
                    return Err(WalkError::Ended(at));
                }
                // The innermost frame may be about to begin or to end, and does not count then.
            } else if let Some(called) = chain.frames.last_mut() {
                called.frame.entry = Entry::Outermost;
            }
            at = LiveAddress::in_target(head.word(self.layout.previous));
        }
        chain.cut = true;
        Ok(())
    }

    fn is_script(&self, head: &Head<'_>) -> bool {
        self.layout.owner.is_none_or(|owner| !self.layout.shim_owners.contains(&head.byte(owner)))
    }

    fn executes(&self, head: &Head<'_>) -> bool {
        self.layout.executing.is_none_or(|byte| head.byte(byte.offset) == byte.value)
    }

    fn raw_frame(&self, head: &Head<'_>, address: LiveAddress) -> RawFrame {
        let instruction = match self.layout.instruction {
            Instruction::Index { offset, .. } => u64::from(head.half(offset)),
            Instruction::Pointer { offset } => head.word(offset),
        };
        let frame = RecordedFrame {
            code: head.word(self.layout.code) & !TAG_BITS,
            instruction,
            bytecode_copy: self.layout.local_bytecode_index.map_or(0, |offset| head.half(offset)),
            name: None,
            entry: self.entry(head),
        };
        RawFrame { address, frame }
    }

    /// What the frame itself tells; if a shim has called it, that is found at the shim.
    fn entry(&self, head: &Head<'_>) -> Entry {
        let outermost = match self.layout.entry {
            Some(byte) => head.byte(byte.offset) == byte.value,
            None => self.layout.shim_owners.is_empty(),
        };
        if outermost { Entry::Outermost } else { Entry::Inner }
    }
}

impl Head<'_> {
    fn word(&self, offset: u64) -> u64 {
        u64::from_le_bytes(self.field(offset))
    }

    fn half(&self, offset: u64) -> u32 {
        u32::from_le_bytes(self.field(offset))
    }

    fn byte(&self, offset: u64) -> u8 {
        u8::from_le_bytes(self.field(offset))
    }

    fn field<const N: usize>(&self, offset: u64) -> [u8; N] {
        let from = usize::try_from(offset - self.start).expect("the head begins at its first field");
        self.bytes[from..from + N].try_into().expect("the head ends after its last field")
    }
}
