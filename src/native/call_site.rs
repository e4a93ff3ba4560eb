//! What the instruction before a return address calls, as far as its own bytes tell.

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallSite {
    /// Of this function.
    Direct(u64),
    /// Of whatever a register or a word of memory says.
    Indirect,
}

/// Bytes of the longest call.
pub const LONGEST: u64 = 8;
const DIRECT: u8 = 0xe8;
/// A direct call: the byte above and a distance.
const DIRECT_LENGTH: usize = 5;
const INDIRECT: u8 = 0xff;
/// What the middle bits of the byte behind it are for a call.
const CALL: u8 = 2;

/// The calls that `code`, the bytes before `return_address`, can end with; none when it ends with no call.
pub fn before(code: &[u8], return_address: u64) -> impl Iterator<Item = CallSite> {
    let direct = code.len().checked_sub(DIRECT_LENGTH).filter(|at| code[*at] == DIRECT);
    let distance = direct.and_then(|_| code.last_chunk()).map(|bytes| i32::from_le_bytes(*bytes));
    let direct = distance.map(|distance| CallSite::Direct(return_address.wrapping_add_signed(distance.into())));
    let is_indirect = (2..=code.len()).any(|length| is_indirect(&code[code.len() - length..]));
    direct.into_iter().chain(is_indirect.then_some(CallSite::Indirect))
}

/// Whether the instruction is exactly one indirect call.
fn is_indirect(instruction: &[u8]) -> bool {
    let prefixed = instruction.first().is_some_and(|first| first & 0xf0 == 0x40);
    let [INDIRECT, form, rest @ ..] = &instruction[usize::from(prefixed)..] else { return false };
    let (mode, place) = (form >> 6, form & 7);
    let scaled = mode != 3 && place == 4;
    let distance = match mode {
        0 if place == 5 || (scaled && rest.first().is_some_and(|scale| scale & 7 == 5)) => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    form >> 3 & 7 == CALL && rest.len() == usize::from(scaled) + distance
}

#[cfg(test)]
mod tests {
    use super::{CallSite, before};

    #[test]
    fn calls_are_told_by_their_last_bytes() {
        let direct = vec![CallSite::Direct(0xff0)];
        for (code, expected) in [
            (&[0x90, 0x90, 0x90, 0xe8, 0xf0, 0xff, 0xff, 0xff][..], direct),
            (&[0x90, 0x90, 0xff, 0xd0], vec![CallSite::Indirect]),
            (&[0x90, 0x41, 0xff, 0xd3], vec![CallSite::Indirect]),
            (&[0x90, 0xff, 0x50, 0x18], vec![CallSite::Indirect]),
            (&[0xff, 0x15, 1, 2, 3, 4], vec![CallSite::Indirect]),
            (&[0xff, 0x54, 0x24, 0x08], vec![CallSite::Indirect]),
            (&[0x90, 0xff, 0xe0], vec![]),
            (&[0x48, 0x89, 0xc7], vec![]),
            (&[], vec![]),
        ] {
            assert_eq!(before(code, 0x1000).collect::<Vec<_>>(), expected, "{code:x?}");
        }
    }
}
