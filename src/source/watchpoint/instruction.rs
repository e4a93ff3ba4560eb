//! What the instruction that a processor has just executed did to a word of memory. Pure, and safe against any bytes.
//!
//! The processor tells of a write when it is done, and not what was written; that is read off the instruction, which ends
//! where the thread goes on. Instructions cannot be read backwards for certain, so a reading counts only if it is of one
//! of the few forms by which compilers write to locks, ends exactly there, and leads to the very word. x86-64 alone.

use crate::{model::address::LiveAddress, perf::registers::WriterRegisters};

/// Bytes of code before the place where the thread goes on that are looked at: the longest form has twelve.
pub const REACH: usize = 12;

/// What was done to the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It was given this value.
    Set(u32),
    /// A number was added to it.
    Added,
    /// It was replaced if it had the value expected, and else written back.
    Replaced,
}

/// The effect on `word` of the instruction that ends with the last byte of `code`; `None` for a form that is not known.
pub fn effect(code: &[u8], registers: &WriterRegisters, word: LiveAddress) -> Option<Effect> {
    let longest = code.len().min(REACH);
    let readings = (2..=longest).rev().filter_map(|length| {
        let instruction = Instruction::read(&code[code.len() - length..])?;
        (instruction.address(registers) == word.raw()).then(|| instruction.effect(registers)).flatten()
    });
    // The byte before the instruction may look like one of its prefixes: then a reading without it is as good, and the
    // value of a lock's word tells which is right.
    let mut first = None;
    for effect in readings {
        match effect {
            Effect::Set(0 | 1 | u32::MAX) | Effect::Added | Effect::Replaced => return Some(effect),
            Effect::Set(_) => {}
        }
        first = first.or(Some(effect));
    }
    first
}

/// One of the known forms.
#[derive(Debug, Clone, Copy)]
struct Instruction {
    form: Form,
    /// The register that takes part besides those of the address.
    register: usize,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `mov $immediate, word`
    Immediate(u32),
    /// `mov register, word`
    Register,
    /// `xchg register, word`
    Exchange,
    /// `lock xadd register, word`
    Add,
    /// `lock cmpxchg register, word`
    CompareExchange,
}

/// Where an instruction finds its operand.
#[derive(Debug, Clone, Copy)]
struct Place {
    base: Base,
    /// A register and the shift of its value.
    index: Option<(usize, u8)>,
    displacement: u64,
}

#[derive(Debug, Clone, Copy)]
enum Base {
    None,
    NextInstruction,
    Register(usize),
}

/// The bits of the prefix that extends the numbers of registers.
#[derive(Debug, Clone, Copy, Default)]
struct Extension {
    register: usize,
    index: usize,
    base: usize,
}

impl Instruction {
    /// `code` from its first to its last byte; `None` when it is anything else, or longer or shorter.
    fn read(code: &[u8]) -> Option<Self> {
        let (locked, code) = match code.split_first()? {
            (0xf0, rest) => (true, rest),
            _ => (false, code),
        };
        let (extension, code) = match code.split_first()? {
            (prefix @ 0x40..=0x4f, rest) => (Extension::of(*prefix), rest),
            _ => (Extension::default(), code),
        };
        let (opcode, code) = match code.split_first()? {
            (0x0f, rest) => (0x0f00 | u16::from(*rest.first()?), rest.get(1..)?),
            (opcode, rest) => (u16::from(*opcode), rest),
        };
        let (register, place, rest) = Place::read(code, extension)?;
        let form = match (opcode, locked, rest) {
            (0xc7, false, [a, b, c, d]) if register & 7 == 0 => Form::Immediate(u32::from_le_bytes([*a, *b, *c, *d])),
            (0x89, false, []) => Form::Register,
            (0x87, _, []) => Form::Exchange,
            (0x0fc1, true, []) => Form::Add,
            (0x0fb1, true, []) => Form::CompareExchange,
            _ => return None,
        };
        Some(Self { form, register, place })
    }

    fn address(&self, registers: &WriterRegisters) -> u64 {
        let Place { base, index, displacement } = self.place;
        let base = match base {
            Base::None => 0,
            Base::NextInstruction => registers.instruction,
            Base::Register(number) => registers.general[number],
        };
        let index = index.map_or(0, |(number, shift)| registers.general[number] << shift);
        base.wrapping_add(index).wrapping_add(displacement)
    }

    /// The registers are those after the instruction: one that was exchanged has the word's old value, and a lock's word
    /// goes from 0 to 1 or from 1 to 0.
    fn effect(&self, registers: &WriterRegisters) -> Option<Effect> {
        let [a, b, c, d, ..] = registers.general[self.register].to_le_bytes();
        let value = u32::from_le_bytes([a, b, c, d]);
        match self.form {
            Form::Immediate(value) => Some(Effect::Set(value)),
            Form::Register => Some(Effect::Set(value)),
            Form::Exchange => 1_u32.checked_sub(value).map(Effect::Set),
            Form::Add => Some(Effect::Added),
            Form::CompareExchange => Some(Effect::Replaced),
        }
    }
}

impl Extension {
    fn of(prefix: u8) -> Self {
        let bit = |place: u8| if prefix >> place & 1 == 1 { 8 } else { 0 };
        Self { register: bit(2), index: bit(1), base: bit(0) }
    }
}

impl Place {
    /// The register, the place in memory, and the bytes behind them; `None` when the operand is a register.
    fn read(code: &[u8], extension: Extension) -> Option<(usize, Self, &[u8])> {
        let (form, mut rest) = code.split_first()?;
        let (kind, low) = (form >> 6, form & 7);
        let register = usize::from(form >> 3 & 7) + extension.register;
        let (mut base, mut index) = (Base::Register(usize::from(low) + extension.base), None);
        if kind == 3 {
            return None;
        }
        let mut wide = kind == 2;
        if low == 4 {
            let (scaled, behind) = rest.split_first()?;
            rest = behind;
            let number = usize::from(scaled >> 3 & 7) + extension.index;
            index = (number != 4).then_some((number, scaled >> 6));
            base = Base::Register(usize::from(scaled & 7) + extension.base);
            if scaled & 7 == 5 && kind == 0 {
                (base, wide) = (Base::None, true);
            }
        } else if low == 5 && kind == 0 {
            (base, wide) = (Base::NextInstruction, true);
        }
        let (displacement, rest) = displacement(rest, wide, kind)?;
        Some((register, Self { base, index, displacement }, rest))
    }
}

/// A signed number of four bytes, of one, or none.
fn displacement(code: &[u8], wide: bool, kind: u8) -> Option<(u64, &[u8])> {
    if wide {
        let (bytes, rest) = code.split_first_chunk()?;
        return Some((i64::from(i32::from_le_bytes(*bytes)).cast_unsigned(), rest));
    }
    if kind == 1 {
        let (byte, rest) = code.split_first()?;
        return Some((i64::from(byte.cast_signed()).cast_unsigned(), rest));
    }
    Some((0, code))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Effect, effect};
    use crate::{model::address::LiveAddress, perf::registers::WriterRegisters};

    const WORD: u64 = 0x7000_0010;

    /// `rbx`, `rdi` and `r12` point to the structure in which the word is the fifth; `rax` is 1, all others 0.
    fn registers() -> WriterRegisters {
        let mut general = [0; 16];
        (general[0], general[3], general[7], general[12]) = (1, WORD - 16, WORD - 16, WORD - 16);
        WriterRegisters { instruction: 0x40_0000, general }
    }

    fn done(code: &[u8]) -> Option<Effect> {
        effect(code, &registers(), LiveAddress::in_target(WORD))
    }

    #[test]
    fn immediates_and_registers_tell_the_value() {
        // movl $1, 16(%rbx); movl $0, 16(%rbx); movl $-1, 16(%rdi)
        assert_eq!(done(&[0xc7, 0x43, 0x10, 1, 0, 0, 0]), Some(Effect::Set(1)));
        assert_eq!(done(&[0x90, 0xc7, 0x43, 0x10, 0, 0, 0, 0]), Some(Effect::Set(0)));
        assert_eq!(done(&[0xc7, 0x47, 0x10, 0xff, 0xff, 0xff, 0xff]), Some(Effect::Set(u32::MAX)));
        // movl $1, 16(%r12), with a byte that says how it is indexed
        assert_eq!(done(&[0x41, 0xc7, 0x44, 0x24, 0x10, 1, 0, 0, 0]), Some(Effect::Set(1)));
        // mov %eax, 16(%rbx); mov %ecx, 16(%rbx); mov %r8d, 16(%rbx)
        assert_eq!(done(&[0x89, 0x43, 0x10]), Some(Effect::Set(1)));
        assert_eq!(done(&[0x89, 0x4b, 0x10]), Some(Effect::Set(0)));
        assert_eq!(done(&[0x44, 0x89, 0x43, 0x10]), Some(Effect::Set(0)));
        // xchg %ecx, 16(%rbx): it was 0
        assert_eq!(done(&[0x87, 0x4b, 0x10]), Some(Effect::Set(1)));
    }

    #[test]
    fn the_place_may_be_relative_to_the_code_or_indexed() {
        let relative = (WORD - 0x40_0000).to_le_bytes();
        let code = [&[0xc7, 0x05], &relative[..4], &[1, 0, 0, 0]].concat();
        assert_eq!(done(&code), Some(Effect::Set(1)));
        // movl $0, 14(%rbx,%rax,2)
        assert_eq!(done(&[0xc7, 0x44, 0x43, 14, 0, 0, 0, 0]), Some(Effect::Set(0)));
        let absolute = WORD.to_le_bytes();
        assert_eq!(done(&[&[0x89, 0x04, 0x25], &absolute[..4]].concat()), Some(Effect::Set(1)));
    }

    #[test]
    fn waits_are_told_from_other_changes_of_the_wait_sequence() {
        let mut registers = registers();
        registers.general[7] = WORD;
        registers.general[8] = WORD;
        let done = |code: &[u8]| effect(code, &registers, LiveAddress::in_target(WORD));
        // glibc 2.36: lock xadd %r15, (%rdi) in a wait; lock cmpxchg %rdi, (%r8) in a signal
        assert_eq!(done(&[0xf0, 0x4c, 0x0f, 0xc1, 0x3f]), Some(Effect::Added));
        assert_eq!(done(&[0xf0, 0x49, 0x0f, 0xb1, 0x38]), Some(Effect::Replaced));
    }

    #[test]
    fn what_leads_elsewhere_or_is_unknown_tells_nothing() {
        // movl $1, 20(%rbx); mov %eax, %ebx; a call
        for code in [&[0xc7, 0x43, 0x14, 1, 0, 0, 0][..], &[0x89, 0xc3], &[0xe8, 1, 2, 3, 4], &[0xc7], &[]] {
            assert_eq!(done(code), None, "{code:x?}");
        }
    }

    #[test]
    fn a_byte_that_looks_like_a_prefix_does_not_mislead() {
        let mut registers = registers();
        registers.general[8] = 77;
        let effect = effect(&[0x44, 0x89, 0x43, 0x10], &registers, LiveAddress::in_target(WORD));
        assert_eq!(effect, Some(Effect::Set(1)));
    }

    proptest! {
        #[test]
        fn any_code_is_survived(code in proptest::collection::vec(any::<u8>(), 0..16), word in any::<u64>()) {
            effect(&code, &registers(), LiveAddress::in_target(word));
        }
    }
}
