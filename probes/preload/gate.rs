//! The one question every call asks first: does this process record, and where?
//!
//! The answer lives in a private page that the kernel wipes in every forked child, however it was forked, so that
//! children are silent without any code of ours running in them.

use core::{
    ptr::{from_ref, null_mut},
    sync::atomic::{AtomicPtr, Ordering},
};

use crate::{layout::Ring, system};

type Page = AtomicPtr<Ring>;

static CLOSED: Page = Page::new(null_mut());
static PAGE: AtomicPtr<Page> = AtomicPtr::new(from_ref(&CLOSED).cast_mut());

/// The memory to record into; `None` when this process does not record.
#[inline(always)]
pub fn ring() -> Option<&'static Ring> {
    let page = PAGE.load(Ordering::Relaxed);
    // SAFETY: `PAGE` points to `CLOSED` or to the page of `prepare`, which is never unmapped.
    let ring = unsafe { &*page }.load(Ordering::Relaxed);
    // SAFETY: null, or the mapping passed to `open`, which is never unmapped.
    unsafe { ring.as_ref() }
}

/// Makes the page; `false` when the kernel cannot wipe it on fork (before 4.14).
pub fn prepare() -> bool {
    let Some(page) = system::map_private_page() else { return false };
    if !system::wipe_on_fork(page) {
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
    page.store(from_ref(ring).cast_mut(), Ordering::Release);
}
