//! Mapped files that somebody shortens: reading what is no longer there would end gilscope by SIGBUS. Such a page is given
//! zeroes instead, which no parser takes for anything.
//!
//! Invariant: only faults in files that are mapped here are answered so; every other one ends the process as before.
#![expect(unsafe_code, reason = "a signal handler maps pages, and both are the kernel's affair")]

use std::{
    io, mem, ptr,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Files that are watched at a time; those past that many are not.
const MOST: usize = 8192;

static WATCHED: [Range; MOST] = [const { Range { start: AtomicUsize::new(0), end: AtomicUsize::new(0) } }; MOST];
static PAGE: AtomicUsize = AtomicUsize::new(0);
static INSTALLED: Once = Once::new();

/// Where a file is mapped; an unused one is empty.
struct Range {
    start: AtomicUsize,
    end: AtomicUsize,
}

/// A mapped file that is watched as long as this lives.
#[derive(Debug)]
pub struct Watch {
    place: Option<usize>,
}

impl Watch {
    /// Watches the file that is mapped at `bytes`.
    pub fn over(bytes: &[u8]) -> Self {
        INSTALLED.call_once(install);
        let start = bytes.as_ptr().addr();
        let free = |range: &Range| range.start.compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        let place = WATCHED.iter().position(free);
        if let Some(place) = place {
            // ATOMICS: the handler runs in the thread that reads, which has got the bytes after this.
            WATCHED[place].end.store(start + bytes.len(), Ordering::Relaxed);
        }
        Self { place }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            WATCHED[place].end.store(0, Ordering::Relaxed);
            WATCHED[place].start.store(0, Ordering::Relaxed);
        }
    }
}

fn install() {
    // SAFETY: sysconf takes a number and has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    PAGE.store(usize::try_from(page).unwrap_or(4096), Ordering::Relaxed);
    // SAFETY: all zeroes is a valid action: the default, no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    action.sa_sigaction = on_bus_error as *const () as usize;
    // SAFETY: the handler has the form that the flags announce, and does only what a signal handler may.
    unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
}

/// Calls nothing but what a signal handler may call.
extern "C" fn on_bus_error(_: libc::c_int, seen: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel has filled it in.
    let seen = unsafe { &*seen };
    // SAFETY: this signal's has an address.
    let at = unsafe { seen.si_addr() }.addr();
    let is_in = |range: &Range| (range.start.load(Ordering::Relaxed)..range.end.load(Ordering::Relaxed)).contains(&at);
    if !WATCHED.iter().any(is_in) || fill_page(at).is_err() {
        // SAFETY: the default action is valid; the fault happens again, and ends the process.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}

fn fill_page(at: usize) -> io::Result<()> {
    let page = PAGE.load(Ordering::Relaxed);
    let start = ptr::without_provenance_mut(at & !(page - 1));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page belongs to a mapping that is only read, and takes the place of one that cannot be read any more.
    let mapped = unsafe { libc::mmap(start, page, libc::PROT_READ, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}
