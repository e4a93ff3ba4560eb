//! A running CPython: its interpreters, their locks and their threads, read through the layout of its version.
//!
//! Nothing that is read is trusted: lists are bounded, and a thread state must point back to its interpreter.

use crate::{
    model::{
        address::LiveAddress,
        ids::{Pid, Tid},
    },
    target::{
        layout::PythonLayout,
        lock::{InterpreterThread, LockSeat},
        memory::Memory,
        runtime::{
            RuntimeError, descriptor,
            list::{List, insist},
            threads::{Translation, inner_ids},
        },
        version::{Build, PythonVersion},
    },
};

/// More interpreters than any program has.
const MOST_INTERPRETERS: usize = 4096;
/// More threads than any program has in one interpreter.
const MOST_THREADS: usize = 1 << 16;
/// The longest switch interval believed, in microseconds: programs set hours to switch never, and no pointer is this
/// small.
const LONGEST_INTERVAL: u64 = 1_000_000_000_000;

/// One CPython in one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CPython {
    /// Its version.
    pub version: PythonVersion,
    /// Whether it can run without its lock.
    pub build: Build,
    /// Where it keeps things.
    pub layout: PythonLayout,
    /// `_PyRuntime`.
    pub runtime: LiveAddress,
    /// Offset of the kernel's thread id in libc's thread descriptor; `None` when libc does not publish it.
    pub pthread_tid: Option<u64>,
}

/// An interpreter of the process: the main one or a sub-interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interpreter {
    address: LiveAddress,
    id: i64,
}

impl CPython {
    /// Every lock that is in use now, the main interpreter's first; empty while the interpreter starts.
    pub fn locks(&self, memory: &dyn Memory) -> Result<Vec<LockSeat>, RuntimeError> {
        let mut seats: Vec<LockSeat> = Vec::new();
        for interpreter in self.interpreters(memory)? {
            let address = self.lock_of(memory, interpreter)?;
            let known = seats.iter().any(|seat| seat.address == address);
            if !known && !address.is_null() && self.is_live_lock(memory, address)? {
                let interpreter = Some(interpreter.id);
                seats.push(LockSeat { address, layout: self.layout.lock, interpreter, name: "GIL".to_owned() });
            }
        }
        if seats.len() > 1 {
            for seat in &mut seats {
                seat.name = format!("GIL of interpreter {}", seat.interpreter.expect("set above"));
            }
        }
        Ok(seats)
    }

    fn lock_of(&self, memory: &dyn Memory, interpreter: Interpreter) -> Result<LiveAddress, RuntimeError> {
        match (self.layout.interpreter.lock, self.layout.runtime.lock) {
            (Some(offset), _) => Ok(memory.read_pointer(interpreter.address.plus(offset))?),
            (None, Some(offset)) => Ok(self.runtime.plus(offset)),
            (None, None) => Ok(LiveAddress::in_target(0)),
        }
    }

    /// Whether the lock was created and not yet destroyed.
    fn is_live_lock(&self, memory: &dyn Memory, lock: LiveAddress) -> Result<bool, RuntimeError> {
        Ok(memory.read_u32(lock.plus(self.layout.lock.locked))? <= 1)
    }

    /// Whether every lock looks like one: an interval that can be meant, and one of its three states. True while the
    /// interpreter starts and has none yet.
    pub fn has_sound_locks(&self, memory: &dyn Memory) -> Result<bool, RuntimeError> {
        for interpreter in self.interpreters(memory)? {
            let lock = self.lock_of(memory, interpreter)?;
            if !lock.is_null() && !self.looks_like_lock(memory, lock)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn looks_like_lock(&self, memory: &dyn Memory, lock: LiveAddress) -> Result<bool, RuntimeError> {
        let interval = memory.read_u64(lock.plus(self.layout.lock.interval))?;
        let locked = memory.read_u32(lock.plus(self.layout.lock.locked))?.cast_signed();
        Ok((1..=LONGEST_INTERVAL).contains(&interval) && (-1..=1).contains(&locked))
    }

    /// The interpreters in ascending order of their numbers; the runtime keeps the newest first.
    fn interpreters(&self, memory: &dyn Memory) -> Result<Vec<Interpreter>, RuntimeError> {
        let head = self.runtime.plus(self.layout.runtime.interpreters_head);
        let next = self.layout.interpreter.next;
        let list = List { what: "interpreters", head, next, bound: MOST_INTERPRETERS };
        let mut interpreters = Vec::new();
        for address in insist(|| list.walk(memory))? {
            let id = memory.read_u64(address.plus(self.layout.interpreter.id))?.cast_signed();
            interpreters.push(Interpreter { address, id });
        }
        interpreters.sort_by_key(|interpreter| interpreter.id);
        Ok(interpreters)
    }

    /// Every thread state that a kernel thread runs, over all interpreters; one kernel thread may have several.
    pub fn threads(&self, pid: Pid, memory: &dyn Memory) -> Result<Vec<InterpreterThread>, RuntimeError> {
        let translation = Translation::of(pid);
        let mut threads = Vec::new();
        for interpreter in self.interpreters(memory)? {
            for state in insist(|| self.thread_states(memory, interpreter))? {
                let tid = self.inner_tid(memory, state).and_then(|inner| translation.outer(inner));
                threads.extend(tid.map(|tid| InterpreterThread { state, tid }));
            }
        }
        Ok(threads)
    }

    fn thread_states(&self, memory: &dyn Memory, interpreter: Interpreter) -> Result<Vec<LiveAddress>, RuntimeError> {
        let head = interpreter.address.plus(self.layout.interpreter.threads_head);
        let list = List { what: "threads", head, next: self.layout.thread.next, bound: MOST_THREADS };
        let states = list.walk(memory)?;
        for state in &states {
            if memory.read_pointer(state.plus(self.layout.thread.interpreter))? != interpreter.address {
                return Err(list.unsound());
            }
        }
        Ok(states)
    }

    /// Where libc's thread descriptor has the kernel's thread id, found by looking into the descriptors.
    pub fn searched_pthread_tid(&self, pid: Pid, memory: &dyn Memory) -> Option<u64> {
        let mut descriptors = Vec::new();
        for interpreter in self.interpreters(memory).ok()? {
            for state in insist(|| self.thread_states(memory, interpreter)).ok()? {
                descriptors.push(memory.read_pointer(state.plus(self.layout.thread.pthread)).ok()?);
            }
        }
        // A thread has one descriptor, however many interpreters it has a state in.
        descriptors.sort_unstable();
        descriptors.dedup();
        descriptor::tid_offset(memory, &descriptors, &inner_ids(pid).into_keys().collect())
    }

    /// The kernel's id of a state's thread in the target's own pid namespace; `None` while no thread runs it.
    fn inner_tid(&self, memory: &dyn Memory, state: LiveAddress) -> Option<Tid> {
        let raw = if let Some(offset) = self.layout.thread.native_thread_id {
            i32::try_from(memory.read_u64(state.plus(offset)).ok()?).ok()?
        } else {
            let descriptor = memory.read_pointer(state.plus(self.layout.thread.pthread)).ok()?;
            memory.read_u32(descriptor.plus(self.pthread_tid?)).ok()?.cast_signed()
        };
        Tid::from_raw(raw)
    }
}
