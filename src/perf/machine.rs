//! Registers and stacks as the kernel puts them into samples: `REGS_USER`, `STACK_USER`.

use perf_event_open_sys::bindings;

use crate::{
    model::machine::{KernelWork, MachineState, Registers},
    perf::fields::u64_at,
};

/// x86-64, numbered as in `perf_regs.h`: frame pointer, stack pointer, instruction pointer. They come in this order.
pub(super) const REGISTERS: u64 = 1 << 6 | 1 << 7 | 1 << 8;

/// The state in `body`, the part of a sample from its registers on; `None` where the thread has no code of a program, or the
/// bytes end before. `misc` is from the record's header.
pub(super) fn decode(body: &[u8], misc: u16) -> Option<MachineState> {
    let word = |at| u64_at(body, at);
    if word(0)? == u64::from(bindings::PERF_SAMPLE_REGS_ABI_NONE) {
        return None;
    }
    let registers = Registers { frame: word(8)?, stack: word(16)?, instruction: word(24)? };
    let reserved = usize::try_from(word(32)?).ok()?;
    let copied = match reserved {
        0 => 0,
        _ => usize::try_from(word(40_usize.checked_add(reserved)?)?).ok()?.min(reserved),
    };
    let stack = body.get(40..40 + copied)?.into();
    let in_kernel = u32::from(misc) & bindings::PERF_RECORD_MISC_CPUMODE_MASK == bindings::PERF_RECORD_MISC_KERNEL;
    Some(MachineState { registers, stack, kernel: in_kernel.then_some(KernelWork::Unknown) })
}
