//! Bytes of an object that several owners share: a mapped file, or memory that holds what a file would.
//!
//! A mapped file that its owner shortens while it is read ends gilscope by SIGBUS. Reading a copy would avoid that, but
//! libraries of gigabytes exist, and whoever shortens a library in place ends the programs that run it, too.
#![expect(unsafe_code, reason = "mapping a file is unsafe because others may write to it")]

use std::{fs::File, io, ops::Deref, sync::Arc};

use memmap2::Mmap;

/// Bytes that are cheap to clone and never move.
#[derive(Debug, Clone)]
pub struct SharedBytes(Source);

#[derive(Debug, Clone)]
enum Source {
    File(Arc<Mmap>),
    Memory(Arc<[u8]>),
}

impl SharedBytes {
    /// The whole of `file`.
    pub fn of_file(file: &File) -> io::Result<Self> {
        // SAFETY: the mapping is private and only read; readers make no assumption about its bytes that a change of the
        // file could break, since they check what they read as they would foreign input.
        let mapped = unsafe { Mmap::map(file) }?;
        Ok(Self(Source::File(Arc::new(mapped))))
    }

    /// Bytes that are no file's.
    pub fn of_memory(bytes: Vec<u8>) -> Self {
        Self(Source::Memory(bytes.into()))
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::File(mapped) => mapped,
            Source::Memory(bytes) => bytes,
        }
    }
}
