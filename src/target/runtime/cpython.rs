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
        lock::{InterpreterThread, LONGEST_INTERVAL, LockSeat},
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
/// More thread states than any program has.
const MOST_THREADS: usize = 1 << 16;

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
        let mut seats = insist(|| self.seats(memory))?;
        if seats.len() > 1 {
            for seat in &mut seats {
                seat.name.extend(seat.interpreter.map(|id| format!(" of interpreter {id}")));
            }
        }
        Ok(seats)
    }

    fn seats(&self, memory: &dyn Memory) -> Result<Vec<LockSeat>, RuntimeError> {
        let mut seats: Vec<LockSeat> = Vec::new();
        for interpreter in self.interpreters(memory)? {
            let address = self.lock_of(memory, interpreter)?;
            let known = seats.iter().any(|seat| seat.address == address);
            if !known && !address.is_null() && self.is_live_lock(memory, address)? {
                let interpreter = Some(interpreter.id);
                seats.push(LockSeat { address, layout: self.layout.lock, interpreter, name: "GIL".to_owned() });
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

    /// Whether the thread with this state collects garbage: its interpreter says that somebody does, and it is the one that
    /// holds the lock. Not known means no.
    pub fn collects(&self, memory: &dyn Memory, state: LiveAddress) -> bool {
        self.find_collecting(memory, state).unwrap_or(false)
    }

    fn find_collecting(&self, memory: &dyn Memory, state: LiveAddress) -> Option<bool> {
        let interpreter = memory.read_pointer(state.plus(self.layout.thread.interpreter)).ok()?;
        let in_runtime = || self.layout.runtime.collecting.map(|offset| self.runtime.plus(offset));
        let word = self.layout.interpreter.collecting.map(|offset| interpreter.plus(offset)).or_else(in_runtime)?;
        if memory.read_u32(word).ok()? == 0 {
            return Some(false);
        }
        let lock = self.lock_of(memory, Interpreter { address: interpreter, id: 0 }).ok()?;
        let is_held = memory.read_u32(lock.plus(self.layout.lock.locked)).ok()? == 1;
        let holder = memory.read_pointer(lock.plus(self.layout.lock.last_holder)).ok()?;
        Some(is_held && holder == state)
    }

    /// Whether every lock looks like one: an interval that can be meant, and one of its three states. True while the
    /// interpreter starts and has none yet.
    pub fn has_sound_locks(&self, memory: &dyn Memory) -> Result<bool, RuntimeError> {
        let all_sound = || {
            for interpreter in self.interpreters(memory)? {
                let lock = self.lock_of(memory, interpreter)?;
                if !lock.is_null() && !self.looks_like_lock(memory, lock)? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        insist(all_sound)
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
        for address in list.walk(memory)? {
            let id = memory.read_u64(address.plus(self.layout.interpreter.id))?.cast_signed();
            interpreters.push(Interpreter { address, id });
        }
        interpreters.sort_by_key(|interpreter| interpreter.id);
        Ok(interpreters)
    }

    /// Where the interpreters lie.
    pub fn interpreter_addresses(&self, memory: &dyn Memory) -> Result<Vec<LiveAddress>, RuntimeError> {
        let found = insist(|| self.interpreters(memory))?;
        Ok(found.into_iter().map(|interpreter| interpreter.address).collect())
    }

    /// Every thread state that a kernel thread runs, over all interpreters; one kernel thread may have several.
    pub fn threads(&self, pid: Pid, memory: &dyn Memory) -> Result<Vec<InterpreterThread>, RuntimeError> {
        let translation = Translation::of(pid);
        let states = insist(|| self.thread_states(memory))?;
        let run_by = |state| {
            let tid = translation.outer(self.inner_tid(memory, state)?)?;
            Some(InterpreterThread { state, tid })
        };
        Ok(states.into_iter().filter_map(run_by).collect())
    }

    /// The thread states of all interpreters. The bound is on all together: a hostile target could have many
    /// interpreters, each with a long list.
    fn thread_states(&self, memory: &dyn Memory) -> Result<Vec<LiveAddress>, RuntimeError> {
        let mut all = Vec::new();
        for interpreter in self.interpreters(memory)? {
            let head = interpreter.address.plus(self.layout.interpreter.threads_head);
            let next = self.layout.thread.next;
            let list = List { what: "threads", head, next, bound: MOST_THREADS - all.len() };
            for state in list.walk(memory)? {
                if memory.read_pointer(state.plus(self.layout.thread.interpreter))? != interpreter.address {
                    return Err(list.unsound());
                }
                all.push(state);
            }
        }
        Ok(all)
    }

    /// Where libc's thread descriptor has the kernel's thread id, found by looking into the descriptors.
    pub fn searched_pthread_tid(&self, pid: Pid, memory: &dyn Memory) -> Option<u64> {
        let states = insist(|| self.thread_states(memory)).ok()?;
        let pthread = |state: &LiveAddress| memory.read_pointer(state.plus(self.layout.thread.pthread)).ok();
        let mut descriptors: Vec<LiveAddress> = states.iter().filter_map(pthread).collect();
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::CPython;
    use crate::{
        model::{address::LiveAddress, ids::Pid},
        target::{
            catalog::layout_on_file,
            memory::{Memory, MemoryError},
            runtime::RuntimeError,
            version::{Build, PythonVersion},
        },
    };

    const RUNTIME: u64 = 0x10_000;

    /// A target in which every word is 0 but these.
    #[derive(Default)]
    struct Words(HashMap<u64, u64>);

    impl Memory for Words {
        fn read(&self, at: LiveAddress, into: &mut [u8]) -> Result<(), MemoryError> {
            let word = self.0.get(&at.raw()).copied().unwrap_or_default().to_le_bytes();
            into.copy_from_slice(&word[..into.len()]);
            Ok(())
        }
    }

    fn python() -> CPython {
        let version = PythonVersion::release(3, 12, 1);
        let layout = layout_on_file(version, Build::Default).unwrap();
        let runtime = LiveAddress::in_target(RUNTIME);
        CPython { version, build: Build::Default, layout, runtime, pthread_tid: None }
    }

    /// Interpreters at these addresses, in the runtime's order, each with a number and the address of its lock.
    fn memory(interpreters: &[(u64, u64, u64)]) -> Words {
        let mut words = Words::default();
        let mut pointer = RUNTIME + 40;
        for (address, id, lock) in interpreters {
            words.0.insert(pointer, *address);
            words.0.extend([(address + 8, *id), (address + 384, *lock), (*lock, 5000), (lock + 16, 0)]);
            pointer = *address;
        }
        words
    }

    #[test]
    fn a_shared_lock_belongs_to_the_first_interpreter() {
        let memory = memory(&[(0x3000, 2, 0x9000), (0x2000, 1, 0x8000), (0x1000, 0, 0x9000)]);
        let locks = python().locks(&memory).unwrap();
        let found: Vec<_> = locks.iter().map(|lock| (lock.address.raw(), lock.name.as_str())).collect();
        assert_eq!(found, [(0x9000, "GIL of interpreter 0"), (0x8000, "GIL of interpreter 1")]);
    }

    #[test]
    fn a_destroyed_lock_is_none() {
        let mut memory = memory(&[(0x2000, 1, 0x8000), (0x1000, 0, 0x9000)]);
        memory.0.insert(0x8000 + 16, u64::from(u32::MAX));
        let locks = python().locks(&memory).unwrap();
        assert_eq!(locks.iter().map(|lock| lock.name.as_str()).collect::<Vec<_>>(), ["GIL"]);
        assert!(python().has_sound_locks(&memory).unwrap());
    }

    #[test]
    fn a_starting_interpreter_has_no_lock_and_no_threads() {
        let memory = Words::default();
        assert!(python().locks(&memory).unwrap().is_empty());
        assert!(python().threads(Pid::from_raw(1).unwrap(), &memory).unwrap().is_empty());
        assert!(python().has_sound_locks(&memory).unwrap());
    }

    #[test]
    fn what_is_no_lock_is_noticed() {
        for (offset, word) in [(0, 0), (0, 0x7f00_0000_1000), (16, 2)] {
            let mut memory = memory(&[(0x1000, 0, 0x9000)]);
            memory.0.insert(0x9000 + offset, word);
            assert!(!python().has_sound_locks(&memory).unwrap(), "{word:#x} at {offset}");
        }
    }

    #[test]
    fn lists_that_turn_back_end_in_an_error() {
        let mut endless = memory(&[(0x2000, 1, 0x8000), (0x1000, 0, 0x9000)]);
        endless.0.insert(0x1000, 0x2000);
        assert!(matches!(python().locks(&endless), Err(RuntimeError::Unsound { what: "interpreters", .. })));
        let mut threads = memory(&[(0x1000, 0, 0x9000)]);
        threads.0.extend([(0x1000 + 72, 0x5000), (0x5000 + 8, 0x5000), (0x5000 + 16, 0x1000)]);
        let found = python().threads(Pid::from_raw(1).unwrap(), &threads);
        assert!(matches!(found, Err(RuntimeError::Unsound { what: "threads", .. })));
    }

    #[test]
    fn a_thread_of_another_interpreter_is_an_error() {
        let mut threads = memory(&[(0x1000, 0, 0x9000)]);
        threads.0.extend([(0x1000 + 72, 0x5000), (0x5000 + 16, 0x7777)]);
        assert!(python().threads(Pid::from_raw(1).unwrap(), &threads).is_err());
    }
}
