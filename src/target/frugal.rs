//! A file that is read in parts, within a budget: a damaged or hostile file may be gigabytes long, mostly holes, and its
//! tables may lie over each other, so that what is read of it would be more than it is long.
//!
//! Invariant: the parts that are kept, which is all that have been read, are no more than [`MOST_KEPT`] bytes together.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    ops::Range,
};

use object::{ReadCache, ReadRef};
use rustc_hash::FxHashSet;

/// Bytes kept of one file. The largest symbol tables there are, of browsers, come near half of it.
pub const MOST_KEPT: u64 = 128 << 20;

/// What keeping a part costs beside its bytes.
const EACH: u64 = 128;

/// A file and what has been read of it.
#[derive(Debug)]
pub struct FrugalFile {
    cache: ReadCache<File>,
    /// Start and end of the parts that are kept; a text's end is its start.
    kept: RefCell<FxHashSet<(u64, u64)>>,
    left: Cell<u64>,
}

impl FrugalFile {
    /// Nothing is read yet.
    pub fn new(file: File) -> Self {
        Self { cache: ReadCache::new(file), kept: RefCell::default(), left: Cell::new(MOST_KEPT) }
    }

    /// Takes `length` bytes, and what keeping them costs, from what is left.
    fn spend(&self, length: u64) -> Result<(), ()> {
        let left = self.left.get().checked_sub(length.saturating_add(EACH)).ok_or(())?;
        self.left.set(left);
        Ok(())
    }

    fn is_new(&self, part: (u64, u64)) -> bool {
        !self.kept.borrow().contains(&part)
    }
}

impl<'a> ReadRef<'a> for &'a FrugalFile {
    fn len(self) -> Result<u64, ()> {
        (&self.cache).len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        let part = (
            offset,
            offset.checked_add(size).filter(|end| (&self.cache).len().is_ok_and(|len| *end <= len)).ok_or(())?,
        );
        if self.is_new(part) {
            self.spend(size)?;
            self.kept.borrow_mut().insert(part);
        }
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        let part = (range.start, range.start);
        let is_new = self.is_new(part);
        if is_new {
            self.spend(0)?;
        }
        let text = self.cache.read_bytes_at_until(range, delimiter)?;
        if is_new {
            self.spend(text.len() as u64)?;
            self.kept.borrow_mut().insert(part);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use object::ReadRef;

    use super::{FrugalFile, MOST_KEPT};

    #[test]
    fn what_is_read_again_costs_nothing_and_the_rest_has_an_end() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 << 30).unwrap();
        let file = FrugalFile::new(file);
        for _ in 0..1000 {
            assert_eq!((&file).read_bytes_at(0, 64 << 20).unwrap().len(), 64 << 20);
        }
        let more = (1..100).filter(|at| (&file).read_bytes_at(*at << 20, 10 << 20).is_ok()).count();
        assert_eq!(more, 6);
        assert!((&file).read_bytes_at(0, MOST_KEPT).is_err() && (&file).read_bytes_at(u64::MAX, 2).is_err());
        let text = (&file).read_bytes_at_until(0..100, 0);
        assert_eq!(text, Ok(&b""[..]));
    }
}
