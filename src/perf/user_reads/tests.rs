//! The page's reader against pages that no kernel has made.

use std::{cell::Cell, sync::atomic::Ordering};

use super::{
    UserReadsError,
    page::{Counted, Page, USER_COUNTER, USER_TIME},
    user_reads_work,
};
use crate::perf::events::CountedEvent;

/// A page whose event is counted by the processor's counter 2, which has so many bits.
fn page(width: u16) -> Page {
    let page = Page::default();
    page.capabilities.store(USER_COUNTER, Ordering::Relaxed);
    page.index.store(3, Ordering::Relaxed);
    page.width.store(width, Ordering::Relaxed);
    page
}

/// Times of an event that has had to share a counter.
fn shared(page: &Page, enabled: u64, running: u64) {
    page.time_enabled.store(enabled, Ordering::Relaxed);
    page.time_running.store(running, Ordering::Relaxed);
}

/// 2 to the 20th cycles are three times as many nanoseconds, and 1000 of those are gone at cycle 0.
fn timed(page: &Page) {
    page.capabilities.store(USER_COUNTER | USER_TIME, Ordering::Relaxed);
    page.shift.store(20, Ordering::Relaxed);
    page.multiplier.store(3 << 20, Ordering::Relaxed);
    page.time_offset.store(1000, Ordering::Relaxed);
}

fn value(page: &Page, raw: u64) -> Option<u64> {
    let counter = |number| {
        assert_eq!(number, 2);
        raw
    };
    page.read(counter, || panic!("nobody asked for the time")).map(|counted| counted.value)
}

fn no_counter(_: u32) -> u64 {
    panic!("the counter may not be read")
}

fn no_clock() -> u64 {
    panic!("nobody asked for the time")
}

#[test]
fn the_processors_counter_is_added_to_the_offset() {
    let page = page(48);
    page.offset.store(1000, Ordering::Relaxed);
    assert_eq!(value(&page, 234), Some(1234));
}

/// The kernel lets a counter of 48 bits begin at minus what may pass before it wants to be told.
///
/// ```text
///  raw  2^48 - 500 ──▶ 2^48 - 1, 0 ──▶ 7
///       offset 500: counts from 0 on through the wrap
/// ```
#[test]
fn a_counter_that_wraps_goes_on() {
    for width in [32, 40, 48] {
        let page = page(width);
        page.offset.store(500, Ordering::Relaxed);
        let top = 1 << width;
        assert_eq!([top - 500, top - 1, 0, 7].map(|raw| value(&page, raw)), [0, 499, 500, 507].map(Some), "{width}");
        // Bits that the counter does not have mean nothing.
        assert_eq!(value(&page, 7 | u64::MAX << width), Some(507), "{width}");
    }
    // The widest one, and a sum that wraps as the kernel's do.
    let page = page(64);
    page.offset.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(value(&page, 3), Some(2));
}

#[test]
fn a_width_that_no_counter_has_is_not_believed() {
    for width in [0, 65, u16::MAX] {
        assert_eq!(value(&page(width), 5), None, "{width}");
    }
}

#[test]
fn an_event_without_a_counter_is_what_it_was() {
    let page = page(48);
    page.index.store(0, Ordering::Relaxed);
    page.offset.store(77, Ordering::Relaxed);
    shared(&page, 9, 9);
    assert_eq!(page.read(no_counter, no_clock), Some(Counted { value: 77, enabled: 9, running: 9 }));
}

#[test]
fn a_counter_that_may_not_be_read_is_not() {
    let page = page(48);
    for capabilities in [0, USER_TIME, !USER_COUNTER] {
        page.capabilities.store(capabilities, Ordering::Relaxed);
        assert_eq!(page.read(no_counter, no_clock), None);
    }
}

/// It may be forbidden, or be another one, from one reading to the next.
#[test]
fn a_reading_that_is_disturbed_is_made_anew_with_what_holds_then() {
    let (page, reads) = (page(48), Cell::new(0));
    page.offset.store(100, Ordering::Relaxed);
    let counter = |number| {
        reads.set(reads.get() + 1);
        if reads.get() == 1 {
            assert_eq!(number, 2);
            // The thread loses its processor, and its counter with it.
            page.lock.fetch_add(2, Ordering::Relaxed);
            page.offset.store(150, Ordering::Relaxed);
            page.index.store(0, Ordering::Relaxed);
        }
        40
    };
    assert_eq!(page.read(counter, no_clock).unwrap().value, 150);
    page.index.store(3, Ordering::Relaxed);
    reads.set(0);
    let forbidding = |_| {
        page.lock.fetch_add(2, Ordering::Relaxed);
        page.capabilities.store(0, Ordering::Relaxed);
        40
    };
    assert_eq!(page.read(forbidding, no_clock), None);
}

#[test]
fn a_page_that_does_not_come_to_rest_says_nothing() {
    let (page, reads) = (page(48), Cell::new(0_u64));
    let counter = |_| {
        reads.set(reads.get() + 1);
        u64::from(page.lock.fetch_add(2, Ordering::Relaxed))
    };
    assert_eq!(page.read(counter, no_clock), None);
    assert!((2..1000).contains(&reads.get()), "{}", reads.get());
}

#[test]
fn times_of_a_shared_counter_go_on_to_now() {
    let page = page(48);
    timed(&page);
    shared(&page, 500, 200);
    // 1000 + 2 * 3
    let now = |page: &Page| page.read(|_| 0, || 2).map(|counted| (counted.enabled, counted.running));
    assert_eq!(now(&page), Some((1506, 1206)));
    page.index.store(0, Ordering::Relaxed);
    assert_eq!(now(&page), Some((1506, 200)));
    // A product that does not fit 64 bits before it is shifted.
    page.multiplier.store(1 << 19, Ordering::Relaxed);
    let late = page.read(|_| 0, || 1 << 62).unwrap();
    assert_eq!(late.enabled, 1500 + (1 << 61));
    // One that began later than cycle 0.
    page.time_offset.store(0_u64.wrapping_sub(100), Ordering::Relaxed);
    assert_eq!(page.read(|_| 0, || 300).unwrap().enabled, 550);
}

#[test]
fn times_without_a_clock_are_those_of_the_last_change() {
    let page = page(48);
    shared(&page, 500, 200);
    let times = |page: &Page| page.read(|_| 0, no_clock).map(|counted| (counted.enabled, counted.running));
    assert_eq!(times(&page), Some((500, 200)));
    timed(&page);
    // A counter that is not to be used as a whole, and a shift that cannot be.
    page.capabilities.store(USER_COUNTER | USER_TIME | 1 << 5, Ordering::Relaxed);
    assert_eq!(times(&page), Some((500, 200)));
    timed(&page);
    page.shift.store(64, Ordering::Relaxed);
    assert_eq!(times(&page), Some((500, 200)));
    // A multiplier of zero: only the offset.
    timed(&page);
    page.multiplier.store(0, Ordering::Relaxed);
    assert_eq!(page.read(|_| 0, || 99).map(|counted| counted.enabled), Some(1500));
}

/// The fields lie where `linux/perf_event.h` has them.
#[test]
fn the_page_is_the_kernels() {
    use perf_event_open_sys::bindings::perf_event_mmap_page as Kernels;
    use std::mem::offset_of;
    let ours = [
        offset_of!(Page, lock),
        offset_of!(Page, index),
        offset_of!(Page, offset),
        offset_of!(Page, time_enabled),
        offset_of!(Page, time_running),
        offset_of!(Page, width),
        offset_of!(Page, shift),
        offset_of!(Page, multiplier),
        offset_of!(Page, time_offset),
    ];
    let theirs = [
        offset_of!(Kernels, lock),
        offset_of!(Kernels, index),
        offset_of!(Kernels, offset),
        offset_of!(Kernels, time_enabled),
        offset_of!(Kernels, time_running),
        offset_of!(Kernels, pmc_width),
        offset_of!(Kernels, time_shift),
        offset_of!(Kernels, time_mult),
        offset_of!(Kernels, time_offset),
    ];
    assert_eq!(ours, theirs);
    assert_eq!(offset_of!(Page, capabilities), 40);
}

#[test]
fn events_of_the_kernel_and_those_that_are_not_there_are_not_read() {
    let named = |name| CountedEvent::named(name).unwrap();
    assert!(user_reads_work(&[]).is_ok());
    assert!(matches!(user_reads_work(&[named("cpu-clock")]), Err(UserReadsError::Kernel { .. })));
    match user_reads_work(&[named("cycles:u")]) {
        Ok(()) => println!("this machine lets programs read cycles"),
        Err(why) => println!("this machine does not: {why}"),
    }
}
