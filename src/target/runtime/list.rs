//! Walks over the linked lists of a running program, which change while they are read.
//!
//! A walk is never longer than its bound, and notices soon when it goes round in a circle. One that ends nowhere sensible is
//! repeated a few times, then an error.

use crate::{
    model::address::LiveAddress,
    target::{memory::Memory, runtime::RuntimeError},
};

/// How often a walk is tried before the list is called unsound.
const TRIES: usize = 4;

/// A list: where its first pointer is, and where each element has the next.
#[derive(Debug, Clone, Copy)]
pub struct List {
    /// What it holds, for messages.
    pub what: &'static str,
    /// The pointer to the first element.
    pub head: LiveAddress,
    /// Offset in each element of the pointer to the next.
    pub next: u64,
    /// More elements than any sound list has.
    pub bound: usize,
}

impl List {
    /// The addresses of all elements.
    pub fn walk(&self, memory: &dyn Memory) -> Result<Vec<LiveAddress>, RuntimeError> {
        let mut elements = Vec::new();
        let mut element = memory.read_pointer(self.head)?;
        let mut mark = LiveAddress::in_target(0);
        while !element.is_null() {
            if elements.len() == self.bound || element == mark {
                return Err(self.unsound());
            }
            elements.push(element);
            // Brent's way of finding a cycle: remember the element at each power of two.
            if elements.len().is_power_of_two() {
                mark = element;
            }
            element = memory.read_pointer(element.plus(self.next))?;
        }
        Ok(elements)
    }

    /// The error that this list makes no sense.
    pub fn unsound(&self) -> RuntimeError {
        RuntimeError::Unsound { what: self.what, head: self.head }
    }
}

/// Repeats a walk that a change of the list has led astray.
pub fn insist<T>(walk: impl Fn() -> Result<T, RuntimeError>) -> Result<T, RuntimeError> {
    let mut last = walk();
    for _ in 1..TRIES {
        if last.is_ok() {
            break;
        }
        last = walk();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::{List, insist};
    use crate::{
        model::address::LiveAddress,
        target::{
            memory::{Memory, MemoryError},
            runtime::RuntimeError,
        },
    };

    /// A target of a few words at address 0.
    struct Words(Vec<u64>);

    impl Memory for Words {
        fn read(&self, at: LiveAddress, into: &mut [u8]) -> Result<(), MemoryError> {
            let index = usize::try_from(at.raw() / 8).unwrap();
            let Some(word) = self.0.get(index) else {
                let source = std::io::Error::from_raw_os_error(libc::EIO);
                return Err(MemoryError::Read { at, length: into.len(), source });
            };
            into.copy_from_slice(&word.to_le_bytes()[..into.len()]);
            Ok(())
        }
    }

    fn list() -> List {
        List { what: "words", head: LiveAddress::in_target(0), next: 0, bound: 100 }
    }

    #[test]
    fn a_list_ends_at_null() {
        let elements = list().walk(&Words(vec![8, 16, 0])).unwrap();
        assert_eq!(elements.iter().map(|element| element.raw()).collect::<Vec<_>>(), [8, 16]);
        assert!(list().walk(&Words(vec![0])).unwrap().is_empty());
    }

    #[test]
    fn a_cycle_and_a_stray_pointer_are_errors() {
        assert!(matches!(list().walk(&Words(vec![8, 16, 8])), Err(RuntimeError::Unsound { .. })));
        assert!(matches!(list().walk(&Words(vec![8, 4096])), Err(RuntimeError::Memory(_))));
        let long = List { bound: usize::MAX, ..list() };
        assert!(matches!(long.walk(&Words(vec![8, 16, 24, 32, 40, 24])), Err(RuntimeError::Unsound { .. })));
    }

    #[test]
    fn a_walk_led_astray_is_repeated() {
        let tries = std::cell::Cell::new(0);
        let result = insist(|| {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(list().unsound()) } else { Ok(tries.get()) }
        });
        assert_eq!(result.unwrap(), 3);
    }
}
