//! Stacks of the toy VM's threads, read through the description that the VM exports of itself.
//!
//! A thread's frames are an array, outermost first, with a count of those in use; the VM never frees or moves them, nor
//! the names they refer to.

use std::collections::HashMap;

use crate::{
    model::{
        address::LiveAddress,
        recorded::Entry,
        stack::{Frame, FrameKind},
    },
    stack::{ATTEMPTS, DEEPER, DEEPEST, Motion, ScriptFrame, StackFailure},
    target::{
        memory::{Memory, MemoryError},
        runtime::toyvm::ToyLayout,
    },
};

/// The longest name or path that is read, in bytes.
const LONGEST_TEXT: u64 = 4096;

/// Names that are remembered; programs have some dozen.
const MOST_NAMES: usize = 4096;

/// A reader of the toy VM's stacks with the names it has read.
#[derive(Debug)]
pub struct ToyStacks {
    layout: ToyLayout,
    path: Option<String>,
    names: HashMap<u32, String>,
}

/// One frame as it stands in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RawFrame {
    function: u32,
    line: u32,
}

/// The innermost frames of a thread, outermost first.
#[derive(Debug, PartialEq, Eq)]
struct Chain {
    depth: u64,
    frames: Vec<RawFrame>,
}

impl ToyStacks {
    /// A reader for a VM with this description.
    pub fn new(layout: &ToyLayout) -> Self {
        Self { layout: *layout, path: None, names: HashMap::new() }
    }

    /// The word in a thread record that tells whose it is.
    pub fn owner(&self, memory: &dyn Memory, thread: LiveAddress) -> Option<u64> {
        memory.read_u32(thread.plus(self.layout.thread_tid)).ok().map(u64::from)
    }

    /// The stack of the thread with this record, outermost frame first.
    pub fn read(
        &mut self,
        memory: &dyn Memory,
        thread: LiveAddress,
        motion: Motion,
    ) -> Result<Vec<ScriptFrame>, StackFailure> {
        let mut chain = self.chain(memory, thread)?;
        if motion == Motion::Moving {
            chain = self.confirmed(memory, thread, chain)?;
        }
        self.resolve(memory, &chain).map_err(|_| StackFailure::Unreadable)
    }

    /// Two readings in a row that agree on everything but the innermost frame's line.
    fn confirmed(&self, memory: &dyn Memory, thread: LiveAddress, first: Chain) -> Result<Chain, StackFailure> {
        let mut before = first;
        for _ in 0..ATTEMPTS {
            let after = self.chain(memory, thread)?;
            if before.agrees(&after) {
                return Ok(after);
            }
            before = after;
        }
        Err(StackFailure::Torn)
    }

    fn chain(&self, memory: &dyn Memory, thread: LiveAddress) -> Result<Chain, StackFailure> {
        self.read_chain(memory, thread).map_err(|_| StackFailure::Unreadable)?.ok_or(StackFailure::NoFrames)
    }

    fn read_chain(&self, memory: &dyn Memory, thread: LiveAddress) -> Result<Option<Chain>, MemoryError> {
        let layout = &self.layout;
        let depth = memory.read_u64(thread.plus(layout.thread_depth))?;
        let size = usize::try_from(layout.frame_size).unwrap_or(0);
        if depth == 0 || size == 0 {
            return Ok(None);
        }
        let kept = DEEPEST.min(usize::try_from(depth).unwrap_or(DEEPEST));
        let skipped = depth - u64::try_from(kept).unwrap_or(depth);
        let frames = memory.read_pointer(thread.plus(layout.thread_frames))?;
        let mut bytes = vec![0; kept * size];
        memory.read(frames.plus(skipped.wrapping_mul(layout.frame_size)), &mut bytes)?;
        let frames = bytes.chunks_exact(size).filter_map(|frame| self.raw_frame(frame)).collect();
        Ok(Some(Chain { depth, frames }))
    }

    fn raw_frame(&self, bytes: &[u8]) -> Option<RawFrame> {
        let half = |offset: u64| {
            let tail = bytes.get(usize::try_from(offset).ok()?..)?;
            tail.first_chunk().copied().map(u32::from_le_bytes)
        };
        Some(RawFrame { function: half(self.layout.frame_function)?, line: half(self.layout.frame_line)? })
    }

    fn resolve(&mut self, memory: &dyn Memory, chain: &Chain) -> Result<Vec<ScriptFrame>, MemoryError> {
        let mut frames = Vec::with_capacity(chain.frames.len() + 1);
        if chain.depth > u64::try_from(DEEPEST).unwrap_or(u64::MAX) {
            frames.push(ScriptFrame::marker(DEEPER));
        }
        for raw in &chain.frames {
            let frame = self.frame(memory, raw.function, raw.line)?;
            frames.push(ScriptFrame { frame, entry: Entry::Unknown });
        }
        Ok(frames)
    }

    /// The frame of the function with this number, at this line.
    pub fn frame(&mut self, memory: &dyn Memory, function: u32, line: u32) -> Result<Frame, MemoryError> {
        Ok(Frame {
            kind: FrameKind::Script,
            function: self.function_name(memory, function)?,
            file: self.path(memory)?,
            line: (line > 0).then_some(line),
        })
    }

    fn path(&mut self, memory: &dyn Memory) -> Result<String, MemoryError> {
        if let Some(path) = &self.path {
            return Ok(path.clone());
        }
        let path = read_text(memory, self.layout.program_path, self.layout.program_path_len)?;
        Ok(self.path.insert(path).clone())
    }

    fn function_name(&mut self, memory: &dyn Memory, function: u32) -> Result<String, MemoryError> {
        if let Some(name) = self.names.get(&function) {
            return Ok(name.clone());
        }
        let layout = &self.layout;
        if u64::from(function) >= layout.functions_len {
            return Ok(format!("function {function}"));
        }
        let record = layout.functions.plus(u64::from(function) * layout.function_size);
        let length = memory.read_u64(record.plus(layout.function_name_len))?;
        let name = read_text(memory, memory.read_pointer(record.plus(layout.function_name_ptr))?, length)?;
        if self.names.len() >= MOST_NAMES {
            self.names.clear();
        }
        Ok(self.names.entry(function).or_insert(name).clone())
    }
}

impl Chain {
    fn agrees(&self, other: &Self) -> bool {
        let (Some((inner, outer)), Some((other_inner, other_outer))) =
            (self.frames.split_last(), other.frames.split_last())
        else {
            return false;
        };
        self.depth == other.depth && outer == other_outer && inner.function == other_inner.function
    }
}

/// UTF-8 of the target, cut where it is too long and with replacement characters where it is none.
fn read_text(memory: &dyn Memory, at: LiveAddress, length: u64) -> Result<String, MemoryError> {
    let mut bytes = vec![0; usize::try_from(length.min(LONGEST_TEXT)).unwrap_or(0)];
    memory.read(at, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::ToyStacks;
    use crate::{
        model::address::LiveAddress,
        stack::{
            Motion, StackFailure,
            scene::{Changing, Scene},
        },
        target::runtime::toyvm::ToyLayout,
    };

    const THREAD: u64 = 0x1000;

    fn layout() -> ToyLayout {
        ToyLayout {
            version: 1,
            lock: LiveAddress::in_target(0x7000),
            threads_head: LiveAddress::in_target(0x7100),
            program_path: LiveAddress::in_target(0x4000),
            program_path_len: 5,
            functions: LiveAddress::in_target(0x3000),
            functions_len: 4,
            thread_next: 0,
            thread_tid: 8,
            thread_name_ptr: 16,
            thread_name_len: 24,
            thread_depth: 32,
            thread_frames: 40,
            frame_size: 8,
            frame_function: 0,
            frame_line: 4,
            function_size: 16,
            function_name_ptr: 0,
            function_name_len: 8,
        }
    }

    fn thread(functions: &[u32]) -> Scene {
        let mut scene = Scene::default();
        scene
            .word(THREAD + 32, u64::try_from(functions.len()).unwrap())
            .word(THREAD + 40, 0x2000)
            .text(0x4000, b"a.toy");
        for (at, function) in (0x2000..).step_by(8).zip(functions) {
            scene.half(at, *function).half(at + 4, 10 + function);
        }
        for function in 0..4 {
            let name = 0x5000 + function * 8;
            scene.word(0x3000 + function * 16, name).word(0x3000 + function * 16 + 8, 2);
            scene.text(name, format!("f{function}").as_bytes());
        }
        scene
    }

    fn read(memory: &Changing) -> Result<Vec<String>, StackFailure> {
        let stack = ToyStacks::new(&layout()).read(memory, LiveAddress::in_target(THREAD), Motion::Moving)?;
        Ok(stack.iter().map(|script| script.frame.to_string()).collect())
    }

    #[test]
    fn a_change_at_any_moment_never_gives_a_mixture() {
        let (before, after) = (thread(&[0, 1, 2]), thread(&[0, 2, 3]));
        for left in 0..20 {
            let stack =
                read(&Changing { before: before.clone(), after: after.clone(), left: Cell::new(left) }).unwrap();
            let first = ["f0 (a.toy:10)", "f1 (a.toy:11)", "f2 (a.toy:12)"];
            let second = ["f0 (a.toy:10)", "f2 (a.toy:12)", "f3 (a.toy:13)"];
            assert!(stack == first || stack == second, "{left}: {stack:?}");
        }
    }

    #[test]
    fn a_thread_without_frames_has_no_stack() {
        let idle = thread(&[]);
        let stack = read(&Changing { before: idle.clone(), after: idle, left: Cell::new(0) });
        assert_eq!(stack, Err(StackFailure::NoFrames));
    }
}
