//! Made-up memory for tests: words at addresses, and a scene that changes once while it is read.

use std::{cell::Cell, collections::BTreeMap, io};

use crate::{
    model::address::LiveAddress,
    target::memory::{Memory, MemoryError},
};

/// A page's size; pages without a word cannot be read.
const PAGE: usize = 4096;

/// Words at addresses; the rest of their pages is zero.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

/// A scene that turns into another after some reads.
#[derive(Debug)]
pub struct Changing {
    /// What the first reads see.
    pub before: Scene,
    /// What later reads see.
    pub after: Scene,
    /// How many reads still see the first scene.
    pub left: Cell<usize>,
}

impl Scene {
    /// Writes a 64-bit word.
    pub fn word(&mut self, at: u64, word: u64) -> &mut Self {
        self.text(at, &word.to_le_bytes())
    }

    /// Writes a 32-bit word.
    pub fn half(&mut self, at: u64, half: u32) -> &mut Self {
        self.text(at, &half.to_le_bytes())
    }

    /// Writes bytes.
    pub fn text(&mut self, at: u64, text: &[u8]) -> &mut Self {
        for (at, byte) in (at..).zip(text) {
            let (page, within) = place(at);
            self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE]))[within] = *byte;
        }
        self
    }
}

/// The number of an address's page and the position in it.
fn place(at: u64) -> (u64, usize) {
    let page = u64::try_from(PAGE).unwrap();
    (at / page, usize::try_from(at % page).unwrap())
}

impl Memory for Scene {
    fn read(&self, at: LiveAddress, into: &mut [u8]) -> Result<(), MemoryError> {
        let length = into.len();
        let (mut page, mut within) = place(at.raw());
        let mut rest = into;
        while !rest.is_empty() {
            let Some(bytes) = self.pages.get(&page) else {
                return Err(MemoryError::Read { at, length, source: io::Error::from_raw_os_error(5) });
            };
            let (part, others) = rest.split_at_mut(rest.len().min(PAGE - within));
            part.copy_from_slice(&bytes[within..within + part.len()]);
            (page, within, rest) = (page + 1, 0, others);
        }
        Ok(())
    }
}

impl Memory for Changing {
    fn read(&self, at: LiveAddress, into: &mut [u8]) -> Result<(), MemoryError> {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        if left == 0 { self.after.read(at, into) } else { self.before.read(at, into) }
    }
}
