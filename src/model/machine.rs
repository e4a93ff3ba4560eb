//! What the processor was doing for a thread at one moment: the registers that lead along its native stack, and a copy
//! of the stack's innermost part.

use crate::model::{ids::Tid, time::MonoNanos};

/// The registers by which a native stack is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    /// The next instruction of the program's own code; in a system call, the one behind the call.
    pub instruction: u64,
    /// The innermost byte of the stack.
    pub stack: u64,
    /// The frame pointer, where one is kept; 0 when unknown.
    pub frame: u64,
}

/// A thread's registers and the bytes of its stack from the innermost on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineState {
    /// As they were in the program's own code.
    pub registers: Registers,
    /// The bytes from [`Registers::stack`] on, as many as were copied.
    pub stack: Box<[u8]>,
    /// What the kernel did for the thread; `None` when its own code ran.
    pub kernel: Option<KernelWork>,
}

/// What the kernel does for a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KernelWork {
    /// The system call with this number.
    Call(u32),
    /// It brings in memory.
    Fault,
    /// A signal or a debugger has stopped the thread.
    Stopped,
    /// That is not known, only that the processor was in the kernel.
    Unknown,
}

/// A state that a sampling clock has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSample {
    /// When.
    pub at: MonoNanos,
    /// In which thread.
    pub tid: Tid,
    /// What.
    pub state: MachineState,
}

impl MachineState {
    /// The 64-bit word of the stack at address `at`, if it was copied.
    pub fn word(&self, at: u64) -> Option<u64> {
        let offset = usize::try_from(at.checked_sub(self.registers.stack)?).ok()?;
        self.stack.get(offset..)?.first_chunk().copied().map(u64::from_le_bytes)
    }
}
