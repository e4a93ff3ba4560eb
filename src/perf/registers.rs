//! The registers of a thread that has just written to a watched word, as the kernel puts them into samples: `REGS_USER`.

use perf_event_open_sys::bindings;

use crate::perf::fields::u64_at;

/// x86-64, numbered as in `perf_regs.h`: `AX` to `IP`, `R8` to `R15`. They come in this order.
pub(super) const WRITER_REGISTERS: u64 = 0x1ff | 0xff << 16;
/// How many these are.
const COUNT: usize = 17;
/// Where the general registers, numbered as instructions number them, stand among those of the kernel.
const ENCODED: [usize; 16] = [0, 2, 3, 1, 7, 6, 4, 5, 9, 10, 11, 12, 13, 14, 15, 16];
/// Where the instruction pointer stands.
const INSTRUCTION: usize = 8;

/// Registers right after an instruction of the program's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriterRegisters {
    /// The address behind the instruction.
    pub instruction: u64,
    /// The general registers, numbered as in the encoding of instructions: `rax rcx rdx rbx rsp rbp rsi rdi r8 … r15`.
    pub general: [u64; 16],
}

/// The registers in `body`, the part of a sample from its registers on; `None` where the thread had no code of a program
/// or the bytes end before.
pub(super) fn decode(body: &[u8]) -> Option<WriterRegisters> {
    if u64_at(body, 0)? == u64::from(bindings::PERF_SAMPLE_REGS_ABI_NONE) {
        return None;
    }
    let mut words = [0; COUNT];
    for (place, word) in words.iter_mut().enumerate() {
        *word = u64_at(body, 8 + 8 * place)?;
    }
    Some(WriterRegisters { instruction: words[INSTRUCTION], general: ENCODED.map(|place| words[place]) })
}

#[cfg(test)]
mod tests {
    use super::{COUNT, WRITER_REGISTERS, decode};

    #[test]
    fn registers_are_numbered_as_instructions_do() {
        assert_eq!(WRITER_REGISTERS.count_ones(), 17);
        let words = (0..18_u64).map(|place| if place == 0 { 2 } else { 100 + place });
        let bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        let registers = decode(&bytes).unwrap();
        assert_eq!(registers.instruction, 109);
        // rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r15
        let general = registers.general;
        let picked = [0, 1, 2, 3, 4, 5, 6, 7, 8, 15].map(|register: usize| general[register]);
        assert_eq!(picked, [101, 103, 104, 102, 108, 107, 105, 106, 110, 117]);
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode(&[0; 8 + 8 * COUNT]), None);
    }
}
