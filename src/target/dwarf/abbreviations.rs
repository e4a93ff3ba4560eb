//! Counting a unit's abbreviations before they are parsed: a parsed one is twenty times as long as its few bytes, and units
//! may share tables, or parts of them.

/// Abbreviations, and attributes of all of them, that a unit may have; the largest real ones have some thousand.
const MOST: usize = 1 << 16;
/// The form of an attribute whose value is in the abbreviation.
const IMPLICIT_CONST: u64 = 0x21;

/// Whether the table that begins at `offset` of `.debug_abbrev` has no more than any unit needs.
pub fn are_few(section: &[u8], offset: usize) -> bool {
    let mut bytes = section.get(offset..).unwrap_or_default().iter();
    count(&mut bytes).is_some()
}

/// `None` for too many; the table may be cut off, which its parser finds.
fn count(bytes: &mut std::slice::Iter<'_, u8>) -> Option<usize> {
    let mut seen = 0;
    while number(bytes) != 0 {
        let _tag = number(bytes);
        let _has_children = bytes.next();
        loop {
            seen += 1;
            if seen > MOST {
                return None;
            }
            let (name, form) = (number(bytes), number(bytes));
            if (name, form) == (0, 0) {
                break;
            }
            if form == IMPLICIT_CONST {
                number(bytes);
            }
        }
    }
    Some(seen)
}

/// A number of seven bits a byte, of which the lowest 64 bits count; 0 at the end.
fn number(bytes: &mut std::slice::Iter<'_, u8>) -> u64 {
    let mut number = 0;
    for (shift, byte) in (0..).step_by(7).zip(bytes) {
        number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::{MOST, are_few};

    #[test]
    fn tables_of_any_form_are_counted_to_their_end() {
        let table = [1, 0x11, 1, 0x25, 0x0e, 0x03, 0x21, 0x85, 0x01, 0, 0, 2, 0x2e, 0, 0, 0, 0];
        assert!(are_few(&table, 0) && are_few(&table, 11) && are_few(&table, 99) && are_few(&[], 0));
        let many: Vec<u8> = [1, 0x11, 0, 0, 0].repeat(MOST + 1);
        assert!(!are_few(&many, 0) && are_few(&many, 10));
        assert!((0..table.len()).all(|length| are_few(&table[..length], 0)));
    }
}
