//! How long the small ELF file that an object carries packed becomes, before it is unpacked.
//!
//! The unpacker trusts the file, so a few kilobytes could fill the memory. The format is a chain of blocks whose headers
//! bound what each unpacks to; walking the headers costs nothing.

use std::io;

/// The longest mini debug information that is unpacked. Real ones stay below a tenth of it.
const MOST_MINI_DEBUG: u64 = 64 << 20;

/// Unpacks the ELF file of a `.gnu_debugdata` section; `None` for a damaged one, or one too long.
pub fn unpack_xz(packed: &[u8]) -> Option<Vec<u8>> {
    if length_of_xz(packed)? > MOST_MINI_DEBUG {
        return None;
    }
    let mut unpacked = Vec::new();
    lzma_rs::xz_decompress(&mut io::Cursor::new(packed), &mut unpacked).ok()?;
    Some(unpacked)
}

/// What the chunks of all blocks of an xz stream unpack to.
fn length_of_xz(packed: &[u8]) -> Option<u64> {
    const STREAM_HEADER: usize = 12;
    let check = match packed.get(7)? & 15 {
        0 => 0,
        1 => 4,
        4 => 8,
        10 => 32,
        _ => return None,
    };
    let (mut at, mut total) = (STREAM_HEADER, 0);
    loop {
        let header = (usize::from(*packed.get(at)?) + 1) * 4;
        if header == 4 {
            // A size of 0 marks the index, which follows the last block.
            return footer_is_sound(packed, at + 1).then_some(total);
        }
        let (end, length) = skip_chunks(packed, at + header)?;
        total += length;
        at = end.next_multiple_of(4) + check;
    }
}

/// Whether the footer behind the index states a length of it that the unpacker can compute with.
fn footer_is_sound(packed: &[u8], index: usize) -> bool {
    let mut rest = packed.get(index..).unwrap_or_default().iter();
    // Seven bits a byte, the last one below 128: the number of blocks, and two numbers for each.
    let mut number = || {
        rest.by_ref().take(9).try_fold((0, 0), |(number, shift), byte| {
            let number = number | u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 { Err(number) } else { Ok((number, shift + 7)) }
        })
    };
    let Err(blocks) = number() else { return false };
    if blocks > packed.len() as u64 || (0..2 * blocks).any(|_| number().is_ok()) {
        return false;
    }
    let read = packed.len() - rest.len();
    let footer = read.next_multiple_of(4) + 4;
    let stated = packed.get(footer + 4..).and_then(|rest| rest.first_chunk()).copied();
    stated.is_some_and(|stated| u32::from_le_bytes(stated) < packed.len() as u32)
}

/// The end of the LZMA2 chunks that begin at `at`, and what they unpack to.
fn skip_chunks(packed: &[u8], mut at: usize) -> Option<(usize, u64)> {
    let mut total = 0;
    let number = |at: usize| Some(u16::from_be_bytes(*packed.get(at..)?.first_chunk()?));
    loop {
        match *packed.get(at)? {
            0 => return Some((at + 1, total)),
            1 | 2 => {
                let length = u64::from(number(at + 1)?) + 1;
                total += length;
                at += 3 + usize::try_from(length).ok()?;
            }
            control @ 0x80.. => {
                total += (u64::from(control & 0x1f) << 16) + u64::from(number(at + 1)?) + 1;
                let properties = usize::from(control >= 0xc0);
                at += 5 + properties + usize::from(number(at + 3)?) + 1;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{length_of_xz, unpack_xz};
    use crate::target::packed::samples::{packed, text};

    #[test]
    fn the_length_is_known_before_unpacking() {
        let Some(packed) = packed("xz", &text()) else { return };
        assert_eq!(length_of_xz(&packed), Some(800_000));
        assert_eq!(unpack_xz(&packed), Some(text()));
        let damaged = (0..packed.len()).step_by(packed.len() / 30).map(|at| {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x55;
            damaged
        });
        let survived = damaged.filter(|damaged| unpack_xz(damaged).is_some_and(|bytes| bytes.len() > 800_000)).count();
        assert_eq!(survived, 0);
    }

    #[test]
    fn a_footer_of_any_length_is_survived() {
        let Some(mut packed) = packed("xz", b"some text") else { return };
        let length = packed.len();
        packed[length - 8..length - 4].fill(0xff);
        assert_eq!(unpack_xz(&packed), None);
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let Some(packed) = packed("xz", &vec![0; 80 << 20]) else { return };
        assert!(packed.len() < 1 << 20);
        assert_eq!(unpack_xz(&packed), None);
    }
}
