//! The record of a thread: who it is and where it is, readable from outside at any moment.
//!
//! Records are never freed, so that an outside reader who follows a pointer finds a record, if only that of a thread
//! which has ended. The frame above `depth` is written before `depth` is.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

use crate::toyvm::clock;

/// How many nested calls a thread may have.
pub const MAX_DEPTH: usize = 512;

/// Head of the list of live threads, for outside readers. Written under the lock of [`ThreadList`] only.
pub static HEAD: AtomicPtr<ThreadRecord> = AtomicPtr::new(std::ptr::null_mut());

/// One call in progress.
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    /// Index of the function.
    pub function: AtomicU32,
    /// Line of the statement in progress.
    pub line: AtomicU32,
}

/// A thread of the interpreter. Its address is what the lock's `last_holder` holds.
#[repr(C)]
#[derive(Debug)]
pub struct ThreadRecord {
    /// The next live thread.
    pub next: AtomicPtr<Self>,
    /// The kernel's thread id.
    pub tid: u64,
    /// The name's bytes, UTF-8.
    pub name_ptr: AtomicPtr<u8>,
    /// The length of the name in bytes.
    pub name_len: u64,
    /// How many of the frames are in use.
    pub depth: AtomicU64,
    /// The frames, outermost first.
    pub frames: &'static [Frame; MAX_DEPTH],
}

impl ThreadRecord {
    /// Makes the record of the calling thread.
    pub fn of_this_thread(name: &str) -> &'static Self {
        let name: &'static mut str = Box::leak(Box::from(name));
        let frames = std::array::from_fn(|_| Frame { function: AtomicU32::new(0), line: AtomicU32::new(0) });
        Box::leak(Box::new(Self {
            next: AtomicPtr::default(),
            tid: u64::from(clock::tid()),
            name_len: name.len() as u64,
            name_ptr: AtomicPtr::new(name.as_mut_ptr()),
            depth: AtomicU64::new(0),
            frames: Box::leak(Box::new(frames)),
        }))
    }

    /// Enters a function; `None` when there is no frame left.
    pub fn push_frame(&self, function: usize, line: u32) -> Option<()> {
        let depth = self.depth();
        let frame = self.frames.get(depth)?;
        frame.function.store(u32::try_from(function).ok()?, Ordering::Relaxed);
        frame.line.store(line, Ordering::Relaxed);
        // ATOMICS: release, so that whoever sees the new depth sees the frame.
        self.depth.store(depth as u64 + 1, Ordering::Release);
        Some(())
    }

    /// Leaves a function.
    pub fn pop_frame(&self) {
        self.depth.fetch_sub(1, Ordering::Release);
    }

    /// Begins the statement of this line.
    pub fn set_line(&self, line: u32) {
        self.frames[self.depth() - 1].line.store(line, Ordering::Relaxed);
    }

    /// The innermost function and its line; `None` outside of every function.
    pub fn place(&self) -> Option<(usize, u32)> {
        let frame = self.frames.get(self.depth().checked_sub(1)?)?;
        Some((frame.function.load(Ordering::Relaxed) as usize, frame.line.load(Ordering::Relaxed)))
    }

    fn depth(&self) -> usize {
        usize::try_from(self.depth.load(Ordering::Relaxed)).expect("the depth is at most MAX_DEPTH")
    }
}

/// The live threads in the order of their start, and the owner of the list that outside readers follow.
#[derive(Debug, Default)]
pub struct ThreadList(Mutex<Vec<&'static ThreadRecord>>);

impl ThreadList {
    /// Makes the thread visible.
    pub fn link(&self, record: &'static ThreadRecord) {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = std::ptr::from_ref(record).cast_mut();
        match live.last() {
            Some(last) => last.next.store(own, Ordering::Release),
            None => HEAD.store(own, Ordering::Release),
        }
        live.push(record);
    }

    /// Takes the thread out of the list. Its own `next` stays, for readers who are just there.
    pub fn unlink(&self, record: &'static ThreadRecord) {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(position) = live.iter().position(|other| std::ptr::eq(*other, record)) else { return };
        let next = record.next.load(Ordering::Relaxed);
        match position.checked_sub(1) {
            Some(before) => live[before].next.store(next, Ordering::Release),
            None => HEAD.store(next, Ordering::Release),
        }
        live.remove(position);
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEPTH, ThreadRecord};

    #[test]
    fn a_thread_has_so_many_frames_and_not_one_more() {
        let record = ThreadRecord::of_this_thread("test");
        assert_eq!(record.place(), None);
        for line in 1..=MAX_DEPTH {
            assert_eq!(record.push_frame(7, u32::try_from(line).unwrap()), Some(()));
        }
        assert_eq!(record.push_frame(7, 1), None);
        record.pop_frame();
        record.set_line(99);
        assert_eq!(record.place(), Some((7, 99)));
    }
}
