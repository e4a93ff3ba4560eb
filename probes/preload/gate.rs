//! The one question every call asks first: does this process record, and where?
//!
//! The answer lives in a private page that the kernel wipes in every forked child, however it was forked, so that
//! children are silent without any code of ours running in them.

use core::{
    ptr::{from_ref, null_mut},
    sync::atomic::{AtomicPtr, Ordering},
};

#[cfg(family)]
use core::sync::atomic::AtomicU32;

use crate::{layout::Ring, system};

/// What the page holds; all zero in a process that does not record.
#[repr(C)]
struct Page {
    ring: AtomicPtr<Ring>,
    /// Not zero once a thread of this process has set out to open the gate.
    #[cfg(family)]
    opening: AtomicU32,
    /// Calls of other threads meanwhile.
    #[cfg(family)]
    missed: AtomicU32,
}

static CLOSED: Page = Page {
    ring: AtomicPtr::new(null_mut()),
    #[cfg(family)]
    opening: AtomicU32::new(0),
    #[cfg(family)]
    missed: AtomicU32::new(0),
};
static PAGE: AtomicPtr<Page> = AtomicPtr::new(from_ref(&CLOSED).cast_mut());

/// The memory to record into; `None` when this process does not record.
#[inline(always)]
pub fn ring() -> Option<&'static Ring> {
    let page = PAGE.load(Ordering::Relaxed);
    // SAFETY: `PAGE` points to `CLOSED` or to the page of `prepare`, which is never unmapped.
    let ring = unsafe { &*page }.ring.load(Ordering::Relaxed);
    // SAFETY: null, or the mapping passed to `open`, which is never unmapped.
    unsafe { ring.as_ref() }
}

/// Makes the page; `false` when the kernel cannot wipe it on fork (before 4.14).
pub fn prepare() -> bool {
    let Some(page) = system::map_private(system::PAGE) else { return false };
    if !system::wipe_on_fork(page, system::PAGE) {
        return false;
    }
    PAGE.store(page.cast(), Ordering::Release);
    true
}

/// From now on calls are recorded into `ring`.
pub fn open(ring: &'static Ring) {
    let page = PAGE.load(Ordering::Relaxed);
    // SAFETY: `PAGE` points to `CLOSED` or to the page of `prepare`, which is never unmapped.
    let page = unsafe { &*page };
    page.ring.store(from_ref(ring).cast_mut(), Ordering::Release);
}

/// Whether the calling thread is the one to open the gate of a process that was forked; the calls of others are counted.
#[cfg(family)]
pub fn is_ours_to_open() -> bool {
    let page = PAGE.load(Ordering::Relaxed);
    // SAFETY: `PAGE` points to `CLOSED` or to the page of `prepare`, which is never unmapped.
    let page = unsafe { &*page };
    if page.opening.swap(1, Ordering::Relaxed) == 0 {
        return true;
    }
    page.missed.fetch_add(1, Ordering::Relaxed);
    false
}

/// Calls that came while another thread was opening the gate.
#[cfg(family)]
pub fn missed() -> u32 {
    let page = PAGE.load(Ordering::Relaxed);
    // SAFETY: `PAGE` points to `CLOSED` or to the page of `prepare`, which is never unmapped.
    let page = unsafe { &*page };
    page.missed.swap(0, Ordering::Relaxed)
}
