//! Bytes of an object that several owners share: a mapped file, or memory that holds what a file would.
//!
//! Reading a copy would be safe from owners that shorten their files, but libraries of gigabytes exist; see
//! [`crate::native::shortened`].
#![expect(unsafe_code, reason = "mapping a file is unsafe because others may write to it")]

use std::{fs::File, io, ops::Deref, sync::Arc};

use memmap2::Mmap;

use crate::native::shortened::Watch;

/// Bytes that are cheap to clone and never move.
#[derive(Debug, Clone)]
pub struct SharedBytes(Source);

/// A mapped file; what it has lost reads as zeroes.
#[derive(Debug)]
struct MappedFile {
    /// Dropped first: it must not outlive the mapping.
    _watch: Watch,
    bytes: Mmap,
}

#[derive(Debug, Clone)]
enum Source {
    File(Arc<MappedFile>),
    Memory(Arc<[u8]>),
}

impl SharedBytes {
    /// The whole of `file`.
    pub fn of_file(file: &File) -> io::Result<Self> {
        // SAFETY: the mapping is private and only read; readers make no assumption about its bytes that a change of the
        // file could break, since they check what they read as they would foreign input.
        let mapped = unsafe { Mmap::map(file) }?;
        Ok(Self(Source::File(Arc::new(MappedFile { _watch: Watch::over(&mapped), bytes: mapped }))))
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
            Source::File(mapped) => &mapped.bytes,
            Source::Memory(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::SharedBytes;

    #[test]
    fn what_a_file_has_lost_reads_as_zeroes() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 5 * 4096]).unwrap();
        let bytes = SharedBytes::of_file(&file).unwrap();
        assert_eq!(bytes[4 * 4096], 7);
        file.set_len(4096).unwrap();
        assert_eq!((bytes[0], bytes[2 * 4096], bytes[4 * 4096], bytes.len()), (7, 0, 0, 5 * 4096));
    }
}
