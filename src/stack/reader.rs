//! From a kernel thread id to its script stack: which thread state belongs to it, and the counts of what became of
//! each reading.

use std::{collections::HashMap, fmt};

use crate::{
    model::{
        address::LiveAddress,
        ids::Tid,
        stack::{Frame, GARBAGE_COLLECTION},
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    stack::{CHANGING, Motion, ScriptFrame, StackFailure, plain, python::PythonStacks, toyvm::ToyStacks},
    target::{
        discover::Target,
        memory::Memory,
        runtime::{Runtime, RuntimeError},
    },
};

/// Unknown threads make the list of threads be read again, but no more often than this,
const REFRESH_PAUSE: Nanos = Nanos::from_millis(20);
/// and for no more than this part of the time: the list may be long.
const REFRESH_SHARE: u64 = 20;

/// What became of the readings so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StackTally {
    /// Stacks asked for.
    pub reads: u64,
    /// Given without their innermost frames, which changed too fast; a marker stands for those.
    pub changing: u64,
    /// Refused because the stack changed while it was read.
    pub torn: u64,
    /// Refused because the memory or what it holds made no sense.
    pub unreadable: u64,
}

/// Reads the script stacks of one target.
pub struct StackReader {
    target: Target,
    memory: Box<dyn Memory>,
    stacks: Stacks,
    threads: HashMap<Tid, Vec<Seat>>,
    refreshed: Option<MonoNanos>,
    /// How much CPU time that took: being kept waiting for a CPU is no reason to wait for longer.
    refreshing: Nanos,
    tally: StackTally,
}

/// The readers, one a runtime.
#[derive(Debug)]
enum Stacks {
    Python(Box<PythonStacks>),
    ToyVm(Box<ToyStacks>),
}

/// A thread state and the word in it by which its thread is recognised.
#[derive(Debug, Clone, Copy)]
struct Seat {
    state: LiveAddress,
    owner: u64,
}

impl StackReader {
    /// A reader for the target; `None` when its layout cannot be right, and for PyPy.
    pub fn new(target: &Target, memory: Box<dyn Memory>) -> Option<Self> {
        let stacks = match &target.runtime {
            Runtime::CPython(python) => Stacks::Python(Box::new(PythonStacks::new(&python.layout)?)),
            Runtime::ToyVm(toy) => Stacks::ToyVm(Box::new(ToyStacks::new(&toy.layout))),
            Runtime::PyPy(_) => return None,
        };
        Some(Self {
            target: target.clone(),
            memory,
            stacks,
            threads: HashMap::new(),
            refreshed: None,
            refreshing: Nanos::ZERO,
            tally: StackTally::default(),
        })
    }

    /// What became of the readings so far.
    pub fn tally(&self) -> StackTally {
        self.tally
    }

    /// Reads the list of threads again.
    pub fn refresh_threads(&mut self) -> Result<(), RuntimeError> {
        let begun = clock::cpu_of_thread();
        let threads = self.target.threads(&*self.memory);
        self.refreshed = Some(clock::now());
        let spent = begun.zip(clock::cpu_of_thread()).map(|(begun, now)| now.saturating_sub(begun));
        self.refreshing = spent.unwrap_or_default();
        let threads = threads?;
        let memory = &*self.memory;
        self.threads.clear();
        for thread in threads {
            if let Some(owner) = self.stacks.owner(memory, thread.state) {
                self.threads.entry(thread.tid).or_default().push(Seat { state: thread.state, owner });
            }
        }
        Ok(())
    }

    /// The stack of `tid`, outermost frame first.
    pub fn read(&mut self, tid: Tid, motion: Motion) -> Result<Vec<Frame>, StackFailure> {
        self.read_script(tid, motion).map(plain)
    }

    /// The same, with each frame's place in its call of the evaluation loop.
    pub fn read_script(&mut self, tid: Tid, motion: Motion) -> Result<Vec<ScriptFrame>, StackFailure> {
        self.tally.reads += 1;
        let mut stack = self.read_known(tid, motion);
        if matches!(stack, Err(StackFailure::UnknownThread)) {
            stack = self.read_once_listed(tid, motion);
        }
        match &stack {
            Ok(frames) if is_changing(frames) => self.tally.changing += 1,
            Err(StackFailure::Torn) => self.tally.torn += 1,
            Err(StackFailure::Unreadable | StackFailure::OldList) => self.tally.unreadable += 1,
            Ok(_) | Err(StackFailure::NoFrames | StackFailure::UnknownThread) => {}
        }
        stack
    }

    /// The stack of a thread that is not in the list as it was: it may have begun since then.
    fn read_once_listed(&mut self, tid: Tid, motion: Motion) -> Result<Vec<ScriptFrame>, StackFailure> {
        if !self.may_refresh() || self.refresh_threads().is_err() {
            return Err(StackFailure::OldList);
        }
        self.read_known(tid, motion)
    }

    fn may_refresh(&self) -> bool {
        let pause = REFRESH_PAUSE.max(Nanos::from_nanos(self.refreshing.as_nanos().saturating_mul(REFRESH_SHARE)));
        self.refreshed.is_none_or(|refreshed| clock::now().saturating_since(refreshed) >= pause)
    }

    /// A thread that works in several interpreters has a state in each; the newest one that has frames counts.
    fn read_known(&mut self, tid: Tid, motion: Motion) -> Result<Vec<ScriptFrame>, StackFailure> {
        let mut failure = StackFailure::UnknownThread;
        let memory = &*self.memory;
        for seat in self.threads.get(&tid).into_iter().flatten().rev() {
            if self.stacks.owner(memory, seat.state) != Some(seat.owner) {
                continue;
            }
            match self.stacks.read(memory, seat.state, motion) {
                Err(StackFailure::NoFrames) => failure = StackFailure::NoFrames,
                Ok(mut frames) => {
                    if self.target.collects_garbage(memory, seat.state) && !is_changing(&frames) {
                        frames.push(ScriptFrame::marker(GARBAGE_COLLECTION));
                    }
                    return Ok(frames);
                }
                other => return other,
            }
        }
        Err(failure)
    }
}

fn is_changing(frames: &[ScriptFrame]) -> bool {
    frames.last() == Some(&ScriptFrame::marker(CHANGING))
}

impl Stacks {
    fn owner(&self, memory: &dyn Memory, state: LiveAddress) -> Option<u64> {
        match self {
            Self::Python(stacks) => stacks.owner(memory, state),
            Self::ToyVm(stacks) => stacks.owner(memory, state),
        }
    }

    fn read(
        &mut self,
        memory: &dyn Memory,
        state: LiveAddress,
        motion: Motion,
    ) -> Result<Vec<ScriptFrame>, StackFailure> {
        match self {
            Self::Python(stacks) => stacks.read(memory, state, motion),
            Self::ToyVm(stacks) => stacks.read(memory, state, motion),
        }
    }
}

impl fmt::Debug for StackReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackReader")
            .field("target", &self.target.pid)
            .field("threads", &self.threads)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}
