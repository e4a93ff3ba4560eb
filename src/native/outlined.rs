//! Where the compiler has put the rare part of a function, in an object whose symbols do not tell: the evaluation loop of a
//! stripped CPython may do most of its calls from there.
//!
//! Machine code is not decoded. A conditional jump out of a function goes to the rest of it; what looks like one by chance
//! leads into another function's bytes only once.

use std::{collections::BTreeMap, ops::Range};

use object::read::{Object as _, ObjectSymbol as _};

use crate::{
    native::{object::Object, symbols::Symbols},
    target::elf,
};

/// The first byte of a conditional jump over any distance, and what its second byte begins with.
const JUMP: (u8, u8) = (0x0f, 0x80);
/// Bytes of such a jump.
const JUMP_LENGTH: usize = 6;
/// Jumps that are no chance.
const ENOUGH: usize = 2;
/// Functions longer than this are not looked at.
const LONGEST: u64 = 1 << 20;

/// The other part of the function `name` of `object`, by the file's addresses; `None` when it is in one part, or it cannot be told.
pub fn rest_of(name: &str, object: &Object, symbols: &Symbols) -> Option<Range<u64>> {
    let function = range_of(name, object)?;
    let code = object.code_at(function.start.wrapping_add(object.bias()), function.end - function.start)?;
    let mut jumps: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for target in conditional_jumps(code, function.start).filter(|target| !function.contains(target)) {
        if let Some(other) = symbols.function(target).filter(|other| !other.contains(&function.start)) {
            *jumps.entry((other.start, other.end)).or_default() += 1;
        }
    }
    let ((start, end), _) = jumps.into_iter().filter(|(_, count)| *count >= ENOUGH).max_by_key(|(_, count)| *count)?;
    Some(start..end)
}

fn range_of(name: &str, object: &Object) -> Option<Range<u64>> {
    let elf = elf::parse(object.bytes()).ok()?;
    let symbol = elf.dynamic_symbols().chain(elf.symbols()).find(|symbol| symbol.name() == Ok(name))?;
    let range = symbol.address()..symbol.address().checked_add(symbol.size())?;
    (symbol.size() <= LONGEST).then_some(range)
}

/// Where whatever looks like a conditional jump leads.
fn conditional_jumps(code: &[u8], start: u64) -> impl Iterator<Item = u64> {
    code.windows(JUMP_LENGTH).zip(start..).filter_map(|(bytes, at)| {
        let is_jump = bytes[0] == JUMP.0 && bytes[1] & 0xf0 == JUMP.1;
        let distance = i32::from_le_bytes(*bytes.last_chunk()?);
        is_jump.then(|| at.wrapping_add(JUMP_LENGTH as u64).wrapping_add_signed(distance.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::conditional_jumps;

    #[test]
    fn jumps_lead_as_far_as_their_last_four_bytes_say() {
        let code =
            [0x90, 0x0f, 0x84, 0x10, 0x00, 0x00, 0x00, 0x0f, 0x8f, 0xf0, 0xff, 0xff, 0xff, 0x0f, 0x1f, 0x40, 0, 0, 0];
        let found: Vec<u64> = conditional_jumps(&code, 0x1000).collect();
        assert_eq!(found, [0x1017, 0xffd]);
    }
}
