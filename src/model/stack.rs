//! Call stacks, stored once each: a stack is a list of frames, outermost first, and events carry only its id.

use std::{collections::HashMap, fmt};

/// Whether a file is CPython itself, or the library that it consists of, by its name: `libpython3.11.so.1.0`, `python3.11-dbg`.
pub fn is_interpreter(path: &str) -> bool {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let name = path.rsplit('/').next().unwrap_or(path);
    let version = name.strip_prefix("libpython").or_else(|| name.strip_prefix("python"));
    version.is_some_and(|version| version.is_empty() || version.starts_with(|first: char| first.is_ascii_digit()))
}

/// What kind of thing a frame stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameKind {
    /// A function of the interpreted program.
    Script,
    /// Machine code of a shared object.
    Native,
    /// What the kernel does for the thread: a system call by its name, or a `page fault`. Always innermost.
    Kernel,
    /// A place holder of gilscope's own, shown in square brackets.
    Marker,
}

/// The [`Frame::kernel`] of a thread for which the kernel brings in memory.
pub const PAGE_FAULT: &str = "page fault";

/// The marker behind script frames where native ones are wanted and were not read.
pub const NATIVE_UNREAD: &str = "native frames not read";

/// The marker between script frames and the native ones that they called, where some between are missing.
pub const NATIVE_CUT: &str = "native frames missing";

/// The marker behind the script frame in which the interpreter began to collect garbage.
pub const GARBAGE_COLLECTION: &str = "garbage collection";

/// One level of a call stack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame {
    /// What the frame stands for.
    pub kind: FrameKind,
    /// The function's (qualified, where known) name.
    pub function: String,
    /// The source file or shared object as the target names it; empty when unknown.
    pub file: String,
    /// The line being executed, from 1; `None` when unknown.
    pub line: Option<u32>,
}

impl Frame {
    /// A place holder such as `[no stack]`; `text` comes without the brackets.
    pub fn marker(text: &str) -> Self {
        Self { kind: FrameKind::Marker, function: format!("[{text}]"), file: String::new(), line: None }
    }

    /// The function `function`, demangled, of the shared object at `object`, a path as the target sees it.
    pub fn native(function: &str, object: &str) -> Self {
        Self { kind: FrameKind::Native, function: function.to_owned(), file: object.to_owned(), line: None }
    }

    /// The kernel at work for the thread: `what` is the name of a system call, or [`PAGE_FAULT`].
    pub fn kernel(what: &str) -> Self {
        Self { kind: FrameKind::Kernel, function: what.to_owned(), file: String::new(), line: None }
    }
}

/// `function (file.py:12)`, `function (libx.so)`, with the file's last component only; `kernel: read`.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == FrameKind::Kernel {
            f.write_str("kernel: ")?;
        }
        f.write_str(&self.function)?;
        if self.file.is_empty() {
            return Ok(());
        }
        let file = self.file.rsplit('/').next().unwrap_or(&self.file);
        match self.line {
            Some(line) => write!(f, " ({file}:{line})"),
            None => write!(f, " ({file})"),
        }
    }
}

/// A stack of a [`StackTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(u32);

/// All distinct frames and stacks of one recording.
#[derive(Debug, Clone, Default)]
pub struct StackTable {
    frames: Vec<Frame>,
    frame_ids: HashMap<Frame, u32>,
    stacks: Vec<Box<[u32]>>,
    stack_ids: HashMap<Box<[u32]>, StackId>,
    /// Frames of all stacks together.
    length: usize,
    /// Bytes of the texts of all distinct frames.
    text: usize,
}

impl StackTable {
    /// The id of the stack `frames`, outermost frame first; the same frames always give the same id.
    pub fn intern(&mut self, frames: &[Frame]) -> StackId {
        let ids: Box<[u32]> = frames.iter().map(|frame| self.intern_frame(frame)).collect();
        if let Some(id) = self.stack_ids.get(&ids) {
            return *id;
        }
        let id = StackId(index_of(self.stacks.len()));
        self.length += ids.len();
        self.stacks.push(ids.clone());
        self.stack_ids.insert(ids, id);
        id
    }

    /// The same where all stacks take no more room than `most` frames between them, and distinct frames not a sixteenth of
    /// it, with texts of sixteen bytes for each of the `most`; `None` for a new stack past that.
    pub fn intern_within(&mut self, frames: &[Frame], most: usize) -> Option<StackId> {
        if self.length <= most && self.frames.len() <= most / 16 && self.text <= most * 16 {
            return Some(self.intern(frames));
        }
        let ids = frames.iter().map(|frame| self.frame_ids.get(frame).copied()).collect::<Option<Box<[u32]>>>()?;
        self.stack_ids.get(&ids).copied()
    }

    /// The frames of `stack`, outermost first.
    pub fn frames(&self, stack: StackId) -> impl DoubleEndedIterator<Item = &Frame> + ExactSizeIterator {
        let ids = usize::try_from(stack.0).ok().and_then(|index| self.stacks.get(index));
        ids.map(|ids| &**ids)
            .unwrap_or_default()
            .iter()
            .map(|id| &self.frames[usize::try_from(*id).expect("a frame index fits the address space")])
    }

    /// The stack that `change` makes of the frames of `stack`.
    pub fn changed(&mut self, stack: StackId, change: impl FnOnce(Vec<Frame>) -> Vec<Frame>) -> StackId {
        let frames = self.frames(stack).cloned().collect();
        self.intern(&change(frames))
    }

    /// How many distinct stacks there are.
    pub fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whether no stack has been interned.
    pub fn is_empty(&self) -> bool {
        self.stacks.is_empty()
    }

    fn intern_frame(&mut self, frame: &Frame) -> u32 {
        if let Some(id) = self.frame_ids.get(frame) {
            return *id;
        }
        let id = index_of(self.frames.len());
        self.text += frame.function.len() + frame.file.len();
        self.frames.push(frame.clone());
        self.frame_ids.insert(frame.clone(), id);
        id
    }
}

fn index_of(length: usize) -> u32 {
    u32::try_from(length).expect("fewer than four thousand million distinct stacks")
}

#[cfg(test)]
mod tests {
    use super::{Frame, StackTable};

    #[test]
    fn equal_stacks_share_an_id_and_keep_their_frames() {
        let mut table = StackTable::default();
        let (main, work) = (Frame::marker("main"), Frame::marker("work"));
        let first = table.intern(&[main.clone(), work.clone()]);
        let other = table.intern(std::slice::from_ref(&main));
        assert_eq!(table.intern(&[main.clone(), work.clone()]), first);
        assert_ne!(first, other);
        assert_eq!(table.frames(first).collect::<Vec<_>>(), [&main, &work]);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_full_table_still_knows_the_stacks_it_has() {
        let mut table = StackTable::default();
        let frames: Vec<Frame> = (0..100).map(|index| Frame::marker(&index.to_string())).collect();
        let ids: Vec<_> = frames.chunks(2).map(|stack| table.intern_within(stack, 64)).collect();
        assert_eq!(ids.iter().flatten().count(), 3, "5 distinct frames are more than a sixteenth");
        assert_eq!(table.intern_within(&frames[..2], 64), ids[0]);
        assert_eq!(table.intern_within(&frames[1..2], 64), None);
    }
}
