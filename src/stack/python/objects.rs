//! Reading `str` and `bytes` objects of the target, with a bound on every length.

use crate::{
    model::address::LiveAddress,
    target::{
        layout::ObjectLayout,
        memory::{Memory, MemoryError},
    },
};

/// The longest `str` that is read, in characters: names and paths are shorter.
const LONGEST_TEXT: u64 = 4096;

/// The longest `bytes` that is read: line tables of generated modules reach hundreds of KiB.
const LONGEST_BYTES: u64 = 4 << 20;

/// Why something is not the object it was taken for.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Its memory cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// It is no compact `str` of a sensible length.
    #[error("no text at {at}: length {length}, state {state:#x}")]
    NotText {
        /// Where it should be.
        at: LiveAddress,
        /// What stands where the length should be.
        length: u64,
        /// What stands where the state word should be.
        state: u32,
    },
    /// It holds a number that is no character.
    #[error("a number at {at} is no character")]
    NotCharacters {
        /// Where the text is.
        at: LiveAddress,
    },
    /// The stack that it belongs to makes us read more than any sound one does.
    #[error("the code at {at} is too much for one stack")]
    Excess {
        /// Where the code object is.
        at: LiveAddress,
    },
    /// It is no `bytes` of a sensible length.
    #[error("no bytes at {at}: length {length}")]
    NotBytes {
        /// Where they should be.
        at: LiveAddress,
        /// What stands where the length should be.
        length: u64,
    },
}

/// How a `str` stores its characters.
struct TextForm {
    /// Bytes a character.
    width: usize,
    /// Offset of the first one.
    data: u64,
}

/// The text of the `str` at `at`.
pub fn read_text(memory: &dyn Memory, layout: &ObjectLayout, at: LiveAddress) -> Result<String, ObjectError> {
    let length = memory.read_u64(at.plus(layout.str_length))?;
    let state = memory.read_u32(at.plus(layout.str_state))?;
    let form = text_form(layout, state).filter(|_| length <= LONGEST_TEXT);
    let Some((form, characters)) = form.zip(usize::try_from(length).ok()) else {
        return Err(ObjectError::NotText { at, length, state });
    };
    let mut units = vec![0; characters * form.width];
    memory.read(at.plus(form.data), &mut units)?;
    decode(&units, form.width).ok_or(ObjectError::NotCharacters { at })
}

/// The content of the `bytes` at `at`.
pub fn read_bytes(memory: &dyn Memory, layout: &ObjectLayout, at: LiveAddress) -> Result<Vec<u8>, ObjectError> {
    let length = memory.read_u64(at.plus(layout.bytes_size))?;
    let size = usize::try_from(length).ok().filter(|_| length <= LONGEST_BYTES);
    let mut content = vec![0; size.ok_or(ObjectError::NotBytes { at, length })?];
    memory.read(at.plus(layout.bytes_data), &mut content)?;
    Ok(content)
}

fn text_form(layout: &ObjectLayout, state: u32) -> Option<TextForm> {
    let bits = state.checked_shr(u32::from(layout.str_kind_bit))?;
    let (kind, compact, ascii) = (bits & 7, bits >> 3 & 1 == 1, bits >> 4 & 1 == 1);
    match (kind, compact, ascii) {
        (1, true, true) => Some(TextForm { width: 1, data: layout.str_ascii_data }),
        (1 | 2 | 4, true, false) => {
            Some(TextForm { width: usize::try_from(kind).ok()?, data: layout.str_compact_data })
        }
        _ => None,
    }
}

/// Surrogates, which Python uses for undecodable bytes of a path, are shown as the replacement character.
fn decode(units: &[u8], width: usize) -> Option<String> {
    units
        .chunks_exact(width)
        .map(|unit| {
            let mut number = [0; 4];
            number[..width].copy_from_slice(unit);
            let number = u32::from_le_bytes(number);
            match number {
                0xd800..=0xdfff => Some(char::REPLACEMENT_CHARACTER),
                _ => char::from_u32(number),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn every_width_is_decoded_and_nothing_else() {
        assert_eq!(decode(b"abc", 1).unwrap(), "abc");
        assert_eq!(decode(&[0x67, 0x72, 0xf6, 0xdf, 0x65], 1).unwrap(), "größe");
        assert_eq!(decode(&[0x16, 0x04, 0x80, 0xdc], 2).unwrap(), "Ж\u{fffd}");
        assert_eq!(decode(&[0x00, 0xf6, 0x01, 0x00], 4).unwrap(), "😀");
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff], 4), None);
    }
}
