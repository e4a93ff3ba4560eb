//! What a piece of work allocates, counted for each thread by itself, so that tests beside it do not count.

#![expect(unsafe_code, reason = "counting allocations takes an allocator")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, with a count.
struct Counting;

fn count(bytes: usize, sign: isize) {
    let change = isize::try_from(bytes).unwrap_or(isize::MAX).saturating_mul(sign);
    // A thread that ends has no counts any more.
    let _ended = HELD.try_with(|held| {
        held.set(held.get().saturating_add(change));
        let _ended = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: everything is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps to the contract of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, 1);
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// The most that `work` has held at a time beyond what was held before, in bytes.
pub fn peak(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    usize::try_from(PEAK.get() - before).unwrap_or(0)
}

#[test]
fn the_peak_counts_and_what_is_freed_does_not_stay() {
    let held = peak(|| {
        for _ in 0..10 {
            drop(std::hint::black_box(vec![0_u8; 1 << 20]));
        }
    });
    assert!((1 << 20..2 << 20).contains(&held), "{held}");
}
