//! Taking free slots and chunks: lock-free, bounded in time, and safe in signal handlers.
//!
//! Only the probe takes and only gilscope gives back. Indices read from shared memory are checked before use.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::layout::{Ring, Stack};

/// Lost races after which the taker gives up, as if nothing were free.
const ATTEMPTS: u32 = 1000;

/// Takes a free chunk; `None` when there is none.
pub fn take_chunk(ring: &Ring) -> Option<u32> {
    take(&ring.header.free_chunks, |index| ring.chunks.get(index as usize).map(|chunk| &chunk.next))
}

/// Takes a free slot; `None` when there is none.
pub fn take_slot(ring: &Ring) -> Option<u32> {
    take(&ring.header.free_slots, |index| ring.slots.get(index as usize).map(|slot| &slot.next))
}

fn take<'ring>(stack: &Stack, link: impl Fn(u32) -> Option<&'ring AtomicU32>) -> Option<u32> {
    for _ in 0..ATTEMPTS {
        // Acquire: the link of the top must be the one written before it was given back.
        let head = stack.head.load(Ordering::Acquire);
        let Some(top) = (head as u32).checked_sub(1) else { return take_fresh(stack) };
        let next = link(top)?.load(Ordering::Relaxed);
        let changed = ((head >> 32).wrapping_add(1) << 32) | u64::from(next);
        if stack.head.compare_exchange_weak(head, changed, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Some(top);
        }
    }
    None
}

fn take_fresh(stack: &Stack) -> Option<u32> {
    let limit = stack.limit.load(Ordering::Relaxed);
    for _ in 0..ATTEMPTS {
        let index = stack.fresh.load(Ordering::Relaxed);
        if index >= limit {
            return None;
        }
        let claimed = stack.fresh.compare_exchange_weak(index, index + 1, Ordering::Relaxed, Ordering::Relaxed);
        if claimed.is_ok() {
            return Some(index);
        }
    }
    None
}
