//! How many threads are inside a wait for a lock, as the C library counts them in its condition variables.
//!
//! One that was woken and has no CPU yet is still among them, which nothing else shows. Where glibc keeps the count differs:
//! 36 bytes into the condition up to 2.40, 28 bytes from 2.41 on; musl keeps none. So both places are compared with the threads
//! seen to sleep there, and a place is believed only when it has fitted again and again.

use crate::target::lock::LockReading;

/// Candidates for the count (`__wrefs`): a 32-bit word, three flags below it.
const PLACES: [usize; 2] = [36, 28];
/// Times a place must have fitted while somebody slept, and how often it may be off: the two are not read at one moment.
const ENOUGH: u64 = 16;
const FITS_A_MISS: u64 = 10;

/// What has been learnt about the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WaiterCount {
    places: [Score; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Score {
    fits: u64,
    misses: u64,
}

impl WaiterCount {
    /// Compares what the lock says with the threads that were seen: so many slept for it, so many more may have been about to.
    pub fn learn(&mut self, lock: &LockReading, asleep: u64, awake: u64) {
        if asleep == 0 {
            return;
        }
        for (place, score) in PLACES.into_iter().zip(&mut self.places) {
            if (asleep..=asleep + awake).contains(&count(lock, place)) {
                score.fits += 1;
            } else {
                score.misses += 1;
            }
        }
    }

    /// The threads inside a wait for the lock; `None` while it is not known how to tell.
    pub fn of(&self, lock: &LockReading) -> Option<u64> {
        if lock.waiters.is_some() {
            return lock.waiters;
        }
        let known = |(_, score): &(usize, &Score)| score.fits >= ENOUGH && score.misses * FITS_A_MISS <= score.fits;
        let places = PLACES.into_iter().zip(&self.places);
        places.filter(known).max_by_key(|(_, score)| score.fits).map(|(place, _)| count(lock, place))
    }
}

fn count(lock: &LockReading, place: usize) -> u64 {
    let word =
        |cond: &[u8]| cond.get(place..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word));
    lock.conds.iter().map(|cond| u64::from(word(cond) >> 3)).sum()
}

#[cfg(test)]
mod tests {
    use super::WaiterCount;
    use crate::{
        model::address::LiveAddress,
        target::lock::{LockReading, LockWords},
    };

    fn reading(place: usize, waiters: u32) -> LockReading {
        let words = LockWords { locked: true, last_holder: LiveAddress::in_target(1) };
        let mut conds = [[0; 48]; 2];
        conds[0][place..place + 4].copy_from_slice(&(waiters << 3 | 2).to_le_bytes());
        LockReading { words, conds, waiters: None }
    }

    #[test]
    fn the_place_that_fits_is_believed_after_a_while() {
        for place in [36, 28] {
            let mut count = WaiterCount::default();
            assert_eq!(count.of(&reading(place, 3)), None);
            (0..20).for_each(|_| count.learn(&reading(place, 3), 2, 2));
            assert_eq!(count.of(&reading(place, 5)), Some(5));
        }
    }

    #[test]
    fn a_library_that_counts_elsewhere_is_not_believed() {
        let mut count = WaiterCount::default();
        (0..100).for_each(|_| count.learn(&reading(8, 3), 3, 0));
        assert_eq!(count.of(&reading(8, 3)), None);
    }
}
