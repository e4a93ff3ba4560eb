//! Where libc's thread descriptor (to which `pthread_self()` points) has the kernel's thread id, found by looking, for
//! C libraries that do not publish it, such as musl.

use std::collections::HashSet;

use crate::{model::address::LiveAddress, target::memory::Memory};

/// How far into a descriptor to look; glibc has the id at 720, musl at 48 or 56.
const REACH: usize = 1024;
const STEP: usize = 64;
/// Descriptors that are compared.
const MOST_DESCRIPTORS: usize = 256;

/// The first offset at which every descriptor has an id of `ids`, and no two the same; `None` when there is none, or no
/// descriptor.
pub fn tid_offset(memory: &dyn Memory, descriptors: &[LiveAddress], ids: &HashSet<i32>) -> Option<u64> {
    let contents: Vec<Vec<i32>> =
        descriptors.iter().take(MOST_DESCRIPTORS).map(|descriptor| words(memory, *descriptor)).collect();
    let fits = |word: &usize| {
        let mut seen = HashSet::new();
        contents.iter().all(|words| words.get(*word).is_some_and(|id| ids.contains(id) && seen.insert(*id)))
    };
    let word = (0..REACH / 4).find(|word| !contents.is_empty() && fits(word))?;
    u64::try_from(word * 4).ok()
}

/// The words from `start` on, as far as they are readable: the memory may end soon after a small descriptor.
fn words(memory: &dyn Memory, start: LiveAddress) -> Vec<i32> {
    let mut words = Vec::new();
    let mut step = [0; STEP];
    while words.len() * 4 < REACH && memory.read(start.plus(words.len() as u64 * 4), &mut step).is_ok() {
        words.extend(step.chunks_exact(4).filter_map(|word| word.first_chunk().copied()).map(i32::from_le_bytes));
    }
    words
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{REACH, tid_offset};
    use crate::{
        model::address::LiveAddress,
        target::memory::{Memory, MemoryError},
    };

    /// Descriptors one after another, the last one short.
    struct Descriptors(Vec<u8>);

    impl Memory for Descriptors {
        fn read(&self, at: LiveAddress, into: &mut [u8]) -> Result<(), MemoryError> {
            let start = usize::try_from(at.raw()).unwrap();
            let Some(bytes) = self.0.get(start..start + into.len()) else {
                let source = std::io::Error::from_raw_os_error(libc::EIO);
                return Err(MemoryError::Read { at, length: into.len(), source });
            };
            into.copy_from_slice(bytes);
            Ok(())
        }
    }

    fn found(contents: &[&[(usize, i32)]]) -> Option<u64> {
        let descriptors = contents.iter().map(|words| {
            let mut descriptor = [0_i32; REACH / 4];
            words.iter().for_each(|(word, value)| descriptor[*word] = *value);
            descriptor
        });
        let mut bytes: Vec<u8> = descriptors.flatten().flat_map(i32::to_le_bytes).collect();
        bytes.truncate(bytes.len().saturating_sub(REACH / 2));
        let memory = Descriptors(bytes);
        let addresses: Vec<_> =
            (0..contents.len()).map(|index| LiveAddress::in_target((index * REACH) as u64)).collect();
        tid_offset(&memory, &addresses, &HashSet::from([100, 101, 102]))
    }

    #[test]
    fn the_field_differs_from_thread_to_thread() {
        // Word 3 holds the process's id in every thread, word 12 the thread's own.
        assert_eq!(found(&[&[(3, 100), (12, 100)], &[(3, 100), (12, 101)]]), Some(48));
    }

    #[test]
    fn nothing_is_found_in_nothing() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[&[(3, 7)]]), None);
        assert_eq!(found(&[&[(3, 100)], &[(4, 101)]]), None);
    }
}
