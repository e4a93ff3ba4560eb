//! Where PyPy keeps its lock, read off its machine code: stripped builds have no symbol for it, and compilers lay it out as
//! they like. x86-64, code that does not depend on its position.
//!
//! PyPy takes its lock by `lock cmpxchg %register, rpy_fastgil(%rip)`, inlined wherever it may have given it up: hundreds of
//! places name that word, and hardly any other. The rest of `thread_gil.c` lies near it. A structure has the mutex and the
//! condition that belongs to it side by side, and the queue's mutex is used next to the former. What is not as clear as that
//! is not found.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

/// Fewer places that compare and exchange one word are no lock that is taken everywhere.
const FEWEST_PLACES: usize = 32;
/// How much rarer the second word must be.
const CLEARLY: usize = 8;
/// The lock's parts lie no further from its word.
const NEAR: u64 = 256;
/// Size of a `pthread_mutex_t` of glibc and musl on x86-64.
const MUTEX_SIZE: u64 = 40;
/// Instructions that take the addresses of both mutexes are no further apart.
const BESIDE: u64 = 48;
/// The slow path of taking the lock is no longer.
const SLOW_PATH: u64 = 1024;

/// Addresses in the file's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockAddresses {
    /// `rpy_fastgil`: 0 or the holder's thread descriptor.
    pub word: u64,
    /// The mutex of the condition.
    pub mutex: u64,
    /// The condition that the first waiter sleeps on, and that is signalled to give way.
    pub cond: u64,
    /// The mutex at which waiters queue.
    pub queue: u64,
    /// `rpy_waiting_threads`: how many wait.
    pub waiters: Option<u64>,
}

/// The addresses that the machine code from `start` on names; `None` when they are not clear.
pub fn lock_addresses(code: &[u8], start: u64) -> Option<LockAddresses> {
    let code = Code { bytes: code, start };
    let word = code.most_exchanged()?;
    let taken = code.addresses_taken(word);
    let named: BTreeSet<u64> = taken.iter().map(|taken| taken.of).collect();
    let mut pairs = named.iter().filter(|mutex| named.contains(&(**mutex + MUTEX_SIZE)));
    let (mutex, None) = (*pairs.next()?, pairs.next()) else { return None };
    let cond = mutex + MUTEX_SIZE;
    let queue = queue(&taken, (mutex, cond))?;
    let waiters = code.counted_beside(&taken, queue);
    Some(LockAddresses { word, mutex, cond, queue, waiters })
}

/// The address that is taken most often beside the mutex's.
fn queue(taken: &[Taken], (mutex, cond): (u64, u64)) -> Option<u64> {
    let beside = |other: &Taken| taken.iter().any(|at| at.of == mutex && at.place.abs_diff(other.place) <= BESIDE);
    let mut counts: FxHashMap<u64, usize> = FxHashMap::default();
    for other in taken.iter().filter(|other| other.of != mutex && other.of != cond && beside(other)) {
        *counts.entry(other.of).or_default() += 1;
    }
    let (queue, count) = counts.iter().max_by_key(|(_, count)| **count)?;
    let alone = counts.values().filter(|other| *other == count).count() == 1;
    (alone && *count >= 2).then_some(*queue)
}

/// An instruction that takes an address.
#[derive(Debug, Clone, Copy)]
struct Taken {
    place: u64,
    of: u64,
}

#[derive(Debug, Clone, Copy)]
struct Code<'a> {
    bytes: &'a [u8],
    start: u64,
}

impl Code<'_> {
    /// The word that is compared and exchanged at far more places than any other.
    fn most_exchanged(self) -> Option<u64> {
        let mut counts: FxHashMap<u64, usize> = FxHashMap::default();
        // Twenty megabytes are gone through: by a loop that is fast unoptimised as well.
        let (bytes, mut at) = (self.bytes, 0);
        while at + 4 <= bytes.len() {
            // With a lock prefix, of a 64-bit register.
            if bytes[at] == 0xf0
                && bytes[at + 1] & 0xf8 == 0x48
                && bytes[at + 2] == 0x0f
                && bytes[at + 3] == 0xb1
                && let Some(of) = self.relative(at + 4, 0)
            {
                *counts.entry(of).or_default() += 1;
            }
            at += 1;
        }
        let (word, most) = counts.iter().max_by_key(|(_, count)| **count)?;
        let second = counts.iter().filter(|(other, _)| *other != word).map(|(_, count)| *count).max().unwrap_or(0);
        (*most >= FEWEST_PLACES && *most >= second * CLEARLY).then_some(*word)
    }

    /// Every `lea` of an address near `word`, other than its own.
    fn addresses_taken(self, word: u64) -> Vec<Taken> {
        let mut taken = Vec::new();
        let (bytes, mut at) = (self.bytes, 0);
        while at + 2 <= bytes.len() {
            if bytes[at + 1] == 0x8d && bytes[at] & 0xf8 == 0x48 {
                let of = self.relative(at + 2, 0).filter(|of| *of != word && of.abs_diff(word) <= NEAR);
                taken.extend(of.map(|of| Taken { place: self.start + as_u64(at), of }));
            }
            at += 1;
        }
        taken
    }

    /// The one 64-bit word that is atomically incremented and decremented around uses of the queue.
    fn counted_beside(self, taken: &[Taken], queue: u64) -> Option<u64> {
        let mut counted = BTreeSet::new();
        for place in taken.iter().filter(|taken| taken.of == queue).map(|taken| taken.place - self.start) {
            let from = usize::try_from(place.saturating_sub(SLOW_PATH)).ok()?;
            let until = usize::try_from(place.saturating_add(SLOW_PATH)).ok()?.min(self.bytes.len());
            for at in from..until {
                // lock add, sub, inc, dec and xadd of 64 bits; the first two end with the number 1.
                counted.extend(match self.bytes.get(at..)? {
                    [0xf0, 0x48, 0x83, 0x05 | 0x2d, ..] => self.relative(at + 3, 1),
                    [0xf0, 0x48, 0xff, 0x05 | 0x0d, ..] => self.relative(at + 3, 0),
                    [0xf0, 0x48..=0x4f, 0x0f, 0xc1, ..] => self.relative(at + 4, 0),
                    _ => None,
                });
            }
        }
        let mut counted = counted.into_iter();
        counted.next().filter(|_| counted.next().is_none())
    }

    /// The operand of an instruction that names memory relative to its own end: its addressing byte is at `at`, and `rest`
    /// bytes follow the distance.
    fn relative(self, at: usize, rest: u64) -> Option<u64> {
        const RELATIVE: u8 = 0x05;
        let addressing = *self.bytes.get(at)?;
        let distance = self.bytes.get(at + 1..)?.first_chunk().copied().map(i32::from_le_bytes)?;
        let end = self.start.wrapping_add(as_u64(at + 5)).wrapping_add(rest);
        (addressing & 0xc7 == RELATIVE).then(|| end.wrapping_add_signed(i64::from(distance)))
    }
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).expect("offsets in memory fit 64 bits")
}

#[cfg(test)]
mod tests {
    use super::{LockAddresses, lock_addresses};

    const START: u64 = 0x1000;
    const WORD: u64 = 0x9000;

    /// Machine code that is put together from instructions with an operand relative to their end.
    #[derive(Default)]
    struct Assembly(Vec<u8>);

    impl Assembly {
        fn add(&mut self, head: &[u8], of: u64, tail: &[u8]) {
            let end = START + (self.0.len() + head.len() + 4 + tail.len()) as u64;
            self.0.extend(head);
            self.0.extend(i32::try_from(of as i64 - end as i64).unwrap().to_le_bytes());
            self.0.extend(tail);
        }

        fn acquisitions(&mut self, of: u64, number: usize) {
            (0..number).for_each(|_| self.add(&[0xf0, 0x48, 0x0f, 0xb1, 0x15], of, &[]));
        }

        /// As in Debian's 7.3.11: made, waited at.
        fn slow_path(&mut self, waiters: u64) {
            for _ in 0..2 {
                self.add(&[0xf0, 0x48, 0x0f, 0xc1, 0x2d], waiters, &[]);
                self.add(&[0x48, 0x8d, 0x2d], WORD + 0x80, &[]);
                self.add(&[0x48, 0x8d, 0x3d], WORD + 0x28, &[]);
                self.add(&[0xf0, 0x48, 0x83, 0x2d], waiters, &[1]);
                self.0.extend([0x90; 64]);
                self.add(&[0x48, 0x8d, 0x3d], WORD + 0x50, &[]);
            }
        }
    }

    #[test]
    fn the_parts_of_the_lock_are_told_apart() {
        let mut code = Assembly::default();
        code.acquisitions(WORD, 100);
        code.acquisitions(0xa000, 2);
        code.slow_path(0x5958);
        // Somebody else's variable near by.
        code.add(&[0x48, 0x8d, 0x05], WORD + 0xf0, &[]);
        let found = lock_addresses(&code.0, START);
        let (mutex, cond, queue) = (WORD + 0x28, WORD + 0x50, WORD + 0x80);
        assert_eq!(found, Some(LockAddresses { word: WORD, mutex, cond, queue, waiters: Some(0x5958) }));
    }

    #[test]
    fn what_is_not_clear_is_not_found() {
        let mut two = Assembly::default();
        two.acquisitions(WORD, 100);
        two.acquisitions(0xa000, 50);
        two.slow_path(0x5958);
        assert_eq!(lock_addresses(&two.0, START), None);
        let mut few = Assembly::default();
        few.acquisitions(WORD, 10);
        few.slow_path(0x5958);
        assert_eq!(lock_addresses(&few.0, START), None);
        let mut alone = Assembly::default();
        alone.acquisitions(WORD, 100);
        assert_eq!(lock_addresses(&alone.0, START), None);
        assert_eq!(lock_addresses(&[0xf0, 0x48, 0x0f, 0xb1, 0x15, 1], START), None);
        assert_eq!(lock_addresses(&[], START), None);
    }
}
