//! A copy of the pages that a walk touches, each read once and whole: neighbouring frames cost one read together.
//!
//! A page is copied by the kernel in about 0.1 µs, a few frames' worth of a running thread's time; what was read
//! through one [`Pages`] is therefore close to a snapshot, but only close: two are compared before anything is believed.

use crate::{
    model::address::LiveAddress,
    target::memory::{Memory, MemoryError},
};

/// The smallest page of any Linux: a range of this size and alignment is mapped as a whole or not at all.
const PAGE: usize = 4096;

/// Pages of the target, most recently read last.
#[derive(Debug, Default)]
pub struct Pages {
    pages: Vec<Page>,
    used: usize,
}

#[derive(Debug)]
struct Page {
    start: u64,
    bytes: Box<[u8; PAGE]>,
}

impl Pages {
    /// Forgets all content, keeping the storage.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Fills `into` from `at`, from copies where there are some.
    pub fn read(&mut self, memory: &dyn Memory, at: LiveAddress, into: &mut [u8]) -> Result<(), MemoryError> {
        let mut at = at;
        let mut rest = into;
        while !rest.is_empty() {
            let within = offset_in_page(at);
            let (head, tail) = rest.split_at_mut(rest.len().min(PAGE - within));
            let page = self.page(memory, at.minus(as_offset(within)))?;
            head.copy_from_slice(&page[within..within + head.len()]);
            at = at.plus(as_offset(head.len()));
            rest = tail;
        }
        Ok(())
    }

    /// Whether both copies hold the range from `from` up to `to`, with the same bytes.
    pub fn agree(&self, other: &Self, from: LiveAddress, to: LiveAddress) -> bool {
        let mut at = from;
        while at < to {
            let within = offset_in_page(at);
            let start = at.minus(as_offset(within));
            let length = (PAGE - within).min(usize::try_from(to.raw() - at.raw()).unwrap_or(PAGE));
            let part = within..within + length;
            let (Some(mine), Some(others)) = (self.find(start), other.find(start)) else {
                return false;
            };
            if self.pages[mine].bytes[part.clone()] != other.pages[others].bytes[part] {
                return false;
            }
            at = at.plus(as_offset(length));
        }
        true
    }

    fn find(&self, start: LiveAddress) -> Option<usize> {
        self.pages[..self.used].iter().rposition(|page| page.start == start.raw())
    }

    fn page(&mut self, memory: &dyn Memory, start: LiveAddress) -> Result<&[u8; PAGE], MemoryError> {
        let index = match self.find(start) {
            Some(index) => index,
            None => self.load(memory, start)?,
        };
        Ok(&self.pages[index].bytes)
    }

    fn load(&mut self, memory: &dyn Memory, start: LiveAddress) -> Result<usize, MemoryError> {
        let index = self.used;
        if index == self.pages.len() {
            self.pages.push(Page { start: start.raw(), bytes: Box::new([0; PAGE]) });
        }
        let page = &mut self.pages[index];
        memory.read(start, &mut page.bytes[..])?;
        page.start = start.raw();
        self.used = index + 1;
        Ok(index)
    }
}

fn offset_in_page(at: LiveAddress) -> usize {
    usize::try_from(at.raw() % as_offset(PAGE)).expect("an offset in a page fits")
}

fn as_offset(length: usize) -> u64 {
    u64::try_from(length).expect("lengths fit in 64 bits")
}
