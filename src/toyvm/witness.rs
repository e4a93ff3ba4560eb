//! What one thread notes about itself for the ground truth: each step with the lock, and its clocks around it.
//!
//! The time of a step is taken immediately before the libc call that an observer sees. The thread's processor time and
//! run-queue delay are read before and after, outside of the lock's critical section. Nobody else touches the notes
//! until the thread has ended.

use std::io;

use crate::toyvm::clock::{self, RunDelay};

/// Steps that fit into one take or release without growing the list inside the critical section.
const ROOM: usize = 8;

/// How the lock is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// By itself: sleep, input and output, native code.
    Voluntary,
    /// At the eval breaker, because of a drop request.
    Forced,
    /// For the last time: the thread ends.
    Final,
}

/// A step of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It began.
    Start,
    /// It is about to sleep for the lock.
    Want,
    /// It has the lock.
    Acquired,
    /// It no longer has the lock.
    Released(Release),
    /// It sleeps until another thread has the lock.
    Yielded,
    /// It ended.
    Exit,
}

/// A thread's own clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// The moment, on the monotonic clock.
    pub at: u64,
    /// Processor time used so far.
    pub cpu: u64,
    /// Time spent runnable without a CPU so far.
    pub delay: u64,
}

/// A step, its time and the readings that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// What happened.
    pub step: Step,
    /// When, on the monotonic clock.
    pub at: u64,
    /// The clocks at the end of the stretch before it.
    pub ends: Reading,
    /// The clocks at the beginning of the stretch after it.
    pub begins: Reading,
}

/// The notes of one thread.
#[derive(Debug)]
pub struct Witness {
    tid: u32,
    name: Box<str>,
    notes: Vec<Note>,
    delay: RunDelay,
    approach: Reading,
    /// Whether the thread waits already, so that further slices are the same wait.
    waiting: bool,
}

/// The notes of a thread that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Testimony {
    /// The thread.
    pub tid: u32,
    /// Its name.
    pub name: Box<str>,
    /// Its steps in order, from [`Step::Start`] to [`Step::Exit`].
    pub notes: Vec<Note>,
}

impl Witness {
    /// The calling thread begins now.
    pub fn start(name: &str) -> io::Result<Self> {
        Self::started_at(clock::monotonic(), name)
    }

    /// The calling thread began at `at`, a moment ago.
    pub fn started_at(at: u64, name: &str) -> io::Result<Self> {
        let delay = RunDelay::of_this_thread()?;
        let reading = Reading { at: clock::monotonic(), cpu: clock::thread_cpu(), delay: delay.read()? };
        let first = Note { step: Step::Start, at, ends: reading, begins: reading };
        let notes = vec![first];
        Ok(Self { tid: clock::tid(), name: name.into(), notes, delay, approach: reading, waiting: false })
    }

    /// The thread goes towards the lock; called before it touches the mutex.
    pub fn approach(&mut self) {
        self.notes.reserve(ROOM);
        self.approach = self.reading();
    }

    /// The thread takes a step; called immediately before the libc call.
    pub fn note(&mut self, step: Step) {
        if step == Step::Want && self.waiting {
            return;
        }
        let at = clock::monotonic();
        self.waiting = match step {
            Step::Want | Step::Released(Release::Forced) => true,
            Step::Yielded => self.waiting,
            Step::Start | Step::Acquired | Step::Released(_) | Step::Exit => false,
        };
        self.notes.push(Note { step, at, ends: self.approach, begins: self.approach });
    }

    /// The thread has left the lock alone after its last step. A yield belongs to the release before it.
    pub fn settle(&mut self) {
        let reading = self.reading();
        for note in self.notes.iter_mut().rev() {
            note.begins = reading;
            if note.step != Step::Yielded {
                break;
            }
        }
        self.approach = reading;
    }

    /// The thread ends now.
    pub fn finish(mut self) -> Testimony {
        self.approach();
        self.note(Step::Exit);
        Testimony { tid: self.tid, name: self.name, notes: self.notes }
    }

    fn reading(&self) -> Reading {
        let cpu = clock::thread_cpu();
        let at = clock::monotonic();
        // A counter that could be opened and read once can be read again; if not, no delay is added.
        let delay = self.delay.read().unwrap_or(self.approach.delay);
        Reading { at, cpu, delay }
    }
}
