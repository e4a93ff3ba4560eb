//! Which line an instruction belongs to: the three encodings CPython has used, as pure functions over bytes.
//!
//! The tables come from another process's memory: any bytes at all must give an answer or `None`, in time
//! proportional to their length, without overflow.

use crate::target::layout::LineTableFormat;

/// Size of an instruction unit in the location table of 3.11 and later.
const UNIT: i64 = 2;

/// The line of the instruction at byte `offset` of the bytecode; `None` when the table knows none.
///
/// A negative offset is a frame that has not begun: it stands on the line of the definition.
pub fn line_at(format: LineTableFormat, table: &[u8], first_line: i32, offset: i64) -> Option<u32> {
    let first = i64::from(first_line);
    let line = if offset < 0 {
        Some(first)
    } else {
        match format {
            LineTableFormat::Lnotab => Some(lnotab(table, first, offset)),
            LineTableFormat::Linetable310 => linetable(table, first, offset),
            LineTableFormat::Locations => locations(table, first, offset),
        }
    };
    line.and_then(|line| u32::try_from(line).ok()).filter(|line| *line > 0)
}

/// `co_lnotab`: pairs of an address step and a signed line step; the line steps up to the offset add up.
fn lnotab(table: &[u8], first: i64, offset: i64) -> i64 {
    let mut address = 0;
    let mut line = first;
    for pair in table.chunks_exact(2) {
        address += i64::from(pair[0]);
        if address > offset {
            break;
        }
        line += i64::from(pair[1].cast_signed());
    }
    line
}

/// `co_linetable` of 3.10: pairs of a range's length and a signed line step, -128 for a range without a line.
fn linetable(table: &[u8], first: i64, offset: i64) -> Option<i64> {
    let mut end = 0;
    let mut line = first;
    for pair in table.chunks_exact(2) {
        let step = pair[1].cast_signed();
        if step != i8::MIN {
            line += i64::from(step);
        }
        end += i64::from(pair[0]);
        if offset < end {
            return (step != i8::MIN).then_some(line);
        }
    }
    None
}

/// The location table of 3.11: entries of a code, a length in units and, depending on the code, a line step.
fn locations(table: &[u8], first: i64, offset: i64) -> Option<i64> {
    let mut bytes = table.iter().copied().peekable();
    let mut end = 0;
    let mut line = first;
    while let Some(head) = bytes.next() {
        let code = (head >> 3) & 0xf;
        line = line.checked_add(line_step(code, &mut bytes)?)?;
        // What follows are columns; the first byte of the next entry is the next one with its top bit set.
        while bytes.next_if(|byte| byte & 0x80 == 0).is_some() {}
        end += (i64::from(head & 7) + 1) * UNIT;
        if offset < end {
            return (code != 15).then_some(line);
        }
    }
    None
}

/// The line step of an entry, taken from its first bytes; `None` when they are cut off or too large.
fn line_step(code: u8, bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    match code {
        11 => Some(1),
        12 => Some(2),
        13 | 14 => signed_varint(bytes),
        _ => Some(0),
    }
}

/// Six bits a byte, lowest first, bit 6 says that more follow; the lowest bit of the number is its sign.
fn signed_varint(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..36).step_by(6) {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x3f) << shift;
        if byte & 0x40 == 0 {
            let magnitude = i64::try_from(number >> 1).ok()?;
            return Some(if number & 1 == 1 { -magnitude } else { magnitude });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::line_at;
    use crate::target::layout::LineTableFormat::{Linetable310, Lnotab, Locations};

    #[test]
    fn a_frame_that_has_not_begun_stands_on_its_definition() {
        for format in [Lnotab, Linetable310, Locations] {
            assert_eq!(line_at(format, &[], 7, -1), Some(7));
        }
    }

    #[test]
    fn line_steps_may_go_back() {
        let table = [0, 1, 4, 2, 6, 0xfe];
        let lines: Vec<_> = [0, 3, 4, 9, 10].map(|offset| line_at(Lnotab, &table, 10, offset)).into();
        assert_eq!(lines, [11, 11, 13, 13, 11].map(Some));
    }

    #[test]
    fn ranges_without_a_line_have_none() {
        let table = [4, 1, 2, 0x80, 4, 1];
        assert_eq!(line_at(Linetable310, &table, 10, 4), None);
        assert_eq!(line_at(Linetable310, &table, 10, 6), Some(12));
        assert_eq!(line_at(Linetable310, &table, 10, 10), None);
        let table = [0x80 | 15 << 3, 0x80 | 11 << 3, 0, 0];
        assert_eq!(line_at(Locations, &table, 10, 0), None);
        assert_eq!(line_at(Locations, &table, 10, 2), Some(11));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(table in prop::collection::vec(any::<u8>(), 0..600), first: i32, offset: i64) {
            for format in [Lnotab, Linetable310, Locations] {
                let line = line_at(format, &table, first, offset);
                assert_ne!(line, Some(0));
            }
        }
    }
}
