//! Sleeps of a free-threaded interpreter's threads: for the lock of an object, because another stops the world, or until it stands.
//!
//! All of them end in one function of the interpreter, which keeps what it sleeps for beside a semaphore on its own stack:
//!
//! ```text
//! struct wait_entry { void *argument; uintptr_t address; sem_t semaphore; … }
//! ```
//!
//! So a semaphore tells what it is for, however the interpreter was built. Semaphores elsewhere are locks of the program, and
//! in every other interpreter all are: those calls are passed on after one comparison.

use core::{
    arch::asm,
    ffi::{c_int, c_void},
    mem::transmute,
    ptr::null_mut,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};

use crate::{
    emit::emit_park,
    layout::{PARK_BITS, PARK_EVENT, PARK_GAVE_UP, PARK_MUTEX, PARK_SUSPENDED, PARK_TIMED_EVENT, PARK_WOKEN},
    real::{self, Real},
};

type Wait = unsafe extern "C" fn(*mut c_void) -> c_int;
type TimedWait = unsafe extern "C" fn(*mut c_void, *const c_void) -> c_int;
type ClockWait = unsafe extern "C" fn(*mut c_void, c_int, *const c_void) -> c_int;
type CurrentState = unsafe extern "C" fn() -> *mut c_void;

static WAIT: Real = Real::versioned(c"sem_wait", c"GLIBC_2.34");
static TIMED_WAIT: Real = Real::versioned(c"sem_timedwait", c"GLIBC_2.34");
static CLOCK_WAIT: Real = Real::versioned(c"sem_clockwait", c"GLIBC_2.34");

/// Not zero in a free-threaded interpreter.
static OBSERVED: AtomicU32 = AtomicU32::new(0);
/// The interpreter's function that gives the calling thread's state, in use or not.
static CURRENT_STATE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// From the stack pointer to a `wait_entry`, and from there to what its caller keeps, at the most.
const NEAR: usize = 4096;
/// From a thread's state to the word in it that says whether it is suspended, at the most.
const STATE_HEAD: usize = 256;
/// What `_PyRuntime` begins with where it says whether it can run without its lock.
const MARK: u64 = u64::from_le_bytes(*b"xdebugpy");
/// What is returned when no libc function was found to pass the call to, which no interpreter that is observed allows.
const NOT_FOUND: c_int = -1;

/// Looks the functions up, and finds out whether this process is to be observed.
pub fn begin() {
    for function in [&WAIT, &TIMED_WAIT, &CLOCK_WAIT] {
        function.find();
    }
    if is_free_threaded() {
        CURRENT_STATE.store(real::global(c"PyGILState_GetThisThreadState"), Ordering::Relaxed);
        OBSERVED.store(1, Ordering::Relaxed);
    }
}

/// Whether the interpreter can run without its lock: the third word of what it publishes of itself, from 3.13 on.
fn is_free_threaded() -> bool {
    let runtime = real::global(c"_PyRuntime").cast::<u64>();
    if runtime.is_null() {
        return false;
    }
    // SAFETY: the structure has several hundred bytes in every version, and is initialised by the loader.
    let [mark, _, free_threaded] = unsafe { runtime.cast::<[u64; 3]>().read_volatile() };
    mark == MARK && free_threaded == 1
}

/// Records the sleep, if it is one, and passes the call on.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sem_wait(semaphore: *mut c_void) -> c_int {
    let real = WAIT.get();
    if real.is_null() {
        return NOT_FOUND;
    }
    // SAFETY: `real` is libc's function of this name and type.
    let real = unsafe { transmute::<*mut c_void, Wait>(real) };
    if OBSERVED.load(Ordering::Relaxed) == 0 {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { real(semaphore) };
    }
    // SAFETY: as above.
    asleep(semaphore.addr(), PARK_EVENT, || unsafe { real(semaphore) })
}

/// Records the sleep, if it is one, and passes the call on.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sem_timedwait(semaphore: *mut c_void, until: *const c_void) -> c_int {
    let real = TIMED_WAIT.get();
    if real.is_null() {
        return NOT_FOUND;
    }
    // SAFETY: `real` is libc's function of this name and type.
    let real = unsafe { transmute::<*mut c_void, TimedWait>(real) };
    if OBSERVED.load(Ordering::Relaxed) == 0 {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { real(semaphore, until) };
    }
    // SAFETY: as above.
    asleep(semaphore.addr(), PARK_TIMED_EVENT, || unsafe { real(semaphore, until) })
}

/// Records the sleep, if it is one, and passes the call on.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sem_clockwait(semaphore: *mut c_void, clock: c_int, until: *const c_void) -> c_int {
    let real = CLOCK_WAIT.get();
    if real.is_null() {
        return NOT_FOUND;
    }
    // SAFETY: `real` is libc's function of this name and type.
    let real = unsafe { transmute::<*mut c_void, ClockWait>(real) };
    if OBSERVED.load(Ordering::Relaxed) == 0 {
        // SAFETY: the caller's arguments, unchanged.
        return unsafe { real(semaphore, clock, until) };
    }
    // SAFETY: as above.
    asleep(semaphore.addr(), PARK_TIMED_EVENT, || unsafe { real(semaphore, clock, until) })
}

/// Has `sleep` called, with a record before and after it if the semaphore is one of a parked thread.
#[inline(always)]
fn asleep(semaphore: usize, event: u64, sleep: impl FnOnce() -> c_int) -> c_int {
    let Some([argument, address]) = entry_before(semaphore).filter(|_| is_taken(semaphore)) else { return sleep() };
    let state = current_state();
    let kind = match address.wrapping_sub(state) {
        // Whoever sleeps for a mutex hands over a structure on its stack.
        _ if is_near(argument) => PARK_MUTEX,
        ..STATE_HEAD => PARK_SUSPENDED,
        _ => event,
    };
    emit_park((address as u64) << PARK_BITS | kind, state as u64);
    let result = sleep();
    emit_park(if result == 0 { PARK_WOKEN } else { PARK_GAVE_UP }, 0);
    result
}

/// The two words before the semaphore, if it is on this thread's own stack, in a function that is being executed.
fn entry_before(semaphore: usize) -> Option<[usize; 2]> {
    let entry = semaphore.wrapping_sub(size_of::<[usize; 2]>());
    // SAFETY: between the stack pointer and a page above it, where callers keep their variables.
    is_near(entry).then(|| unsafe { (entry as *const [usize; 2]).read_unaligned() })
}

/// Whether a thread that asks for the semaphore on its stack has to sleep. One that asks for a lock which it owns already gives it up
/// for itself before, and does not.
fn is_taken(semaphore: usize) -> bool {
    // SAFETY: on this thread's stack, as all around it. In every libc the count is the first half of the first word, whose
    // topmost bit may have another meaning.
    let count = unsafe { (semaphore as *const AtomicU32).as_ref() };
    count.is_some_and(|count| count.load(Ordering::Relaxed) << 1 == 0)
}

/// Whether the address is one of a variable of the functions that have called this one.
#[inline(always)]
fn is_near(address: usize) -> bool {
    let here: usize;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    address.wrapping_sub(here) < NEAR
}

/// The calling thread's state in the interpreter; 0 if it has none.
fn current_state() -> usize {
    let function = CURRENT_STATE.load(Ordering::Relaxed);
    if function.is_null() {
        return 0;
    }
    // SAFETY: the interpreter's function of this type.
    let function = unsafe { transmute::<*mut c_void, CurrentState>(function) };
    // SAFETY: may be called at any time, by any thread; it only reads a variable of the thread.
    unsafe { function() }.addr()
}
