//! The kernel and the clocks, reached without libc: raw system calls, so that `errno` is never touched.

use core::{
    arch::{asm, x86_64},
    ffi::{c_int, c_void},
    mem::{MaybeUninit, transmute},
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering},
};

const MMAP: usize = 9;
const MUNMAP: usize = 11;
const LSEEK: usize = 8;
const CLOSE: usize = 3;
const MADVISE: usize = 28;
const GETPID: usize = 39;
const FCNTL: usize = 72;
const GETTID: usize = 186;
const PERF_EVENT_OPEN: usize = 298;
const PROCESS_VM_READV: usize = 310;
#[cfg(family)]
const GETPPID: usize = 110;
#[cfg(family)]
const OPEN: usize = 2;
#[cfg(family)]
const READLINK: usize = 89;
#[cfg(family)]
const READ_WRITE_CLOSED_ON_EXEC: usize = 0o2_000_002;

/// Bytes of a page.
pub const PAGE: usize = 4096;
const READ: usize = 1;
const READ_WRITE: usize = 3;
const SHARED: usize = 1;
const PRIVATE_ANONYMOUS: usize = 0x22;
const WIPE_ON_FORK: usize = 18;
const DONT_FORK: usize = 10;
/// `perf_event_open`: the descriptor does not survive an `exec`.
const EVENT_CLOSED_ON_EXEC: usize = 8;
/// `perf_event_attr.read_format`: both times are kept.
const BOTH_TIMES: u64 = 3;
const SEEK_END: usize = 2;
const GET_SEALS: usize = 1034;
const SEAL_SHRINK: isize = 2;
const CLOCK_MONOTONIC: c_int = 1;

type ClockGettime = unsafe extern "C" fn(c_int, *mut Timespec) -> c_int;

#[repr(C)]
struct Timespec {
    seconds: u64,
    nanoseconds: u64,
}

/// `clock_gettime` of libc, set when the time stamp counter is not to be used.
static CLOCK_GETTIME: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// From now on [`now`] asks libc's `clock_gettime`, given here, for `CLOCK_MONOTONIC`.
pub fn use_monotonic_clock(clock_gettime: *mut c_void) {
    CLOCK_GETTIME.store(clock_gettime, Ordering::Relaxed);
}

/// The time on the clock that the header names. The processor may read it before older instructions are done, but not
/// after the younger stores that depend on it: so it lies before anything this thread publishes later.
#[inline(always)]
pub fn now() -> u64 {
    let clock_gettime = CLOCK_GETTIME.load(Ordering::Relaxed);
    if clock_gettime.is_null() {
        // SAFETY: every x86-64 processor has the instruction.
        unsafe { x86_64::_rdtsc() }
    } else {
        monotonic(clock_gettime)
    }
}

/// The time stamp counter, whatever the clock is.
#[inline(always)]
pub fn time_stamp() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { x86_64::_rdtsc() }
}

/// The processor's event counter of this number.
#[inline(always)]
pub fn counter(number: u32) -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: an event's page has just said that this process may. No `nomem`: it must stay where it is between reads of the page.
    unsafe { asm!("rdpmc", in("ecx") number, out("rax") low, out("rdx") high, options(nostack, preserves_flags)) };
    (high << 32) | low
}

/// Lets no younger instruction begin before all older ones are done: a time read afterwards lies after anything that
/// this thread has waited for.
#[inline(always)]
pub fn wait_for_older_instructions() {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { x86_64::_mm_lfence() };
}

#[cold]
#[inline(never)]
fn monotonic(clock_gettime: *mut c_void) -> u64 {
    // SAFETY: `use_monotonic_clock` was given the function of this type.
    let clock_gettime = unsafe { transmute::<*mut c_void, ClockGettime>(clock_gettime) };
    let mut time = MaybeUninit::<Timespec>::zeroed();
    // SAFETY: the pointer is valid; the call cannot fail for this clock, so `errno` stays.
    unsafe { clock_gettime(CLOCK_MONOTONIC, time.as_mut_ptr()) };
    // SAFETY: zero is a valid value of both fields.
    let time = unsafe { time.assume_init() };
    time.seconds.wrapping_mul(1_000_000_000).wrapping_add(time.nanoseconds)
}

/// The calling process, as its own pid namespace numbers it.
pub fn process_id() -> i32 {
    call(GETPID, [0; 6]) as i32
}

/// The calling thread, as its own pid namespace numbers it.
pub fn thread_id() -> i32 {
    call(GETTID, [0; 6]) as i32
}

/// Closes `file`.
pub fn close(file: usize) {
    call(CLOSE, [file, 0, 0, 0, 0, 0]);
}

/// Zeroed private memory.
pub fn map_private(bytes: usize) -> Option<*mut c_void> {
    mapped(call(MMAP, [0, bytes, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0]))
}

/// Makes the kernel zero that memory in every child; `false` when it cannot.
pub fn wipe_on_fork(start: *mut c_void, bytes: usize) -> bool {
    call(MADVISE, [start.addr(), bytes, WIPE_ON_FORK, 0, 0, 0]) == 0
}

/// Has the kernel count an event of the calling thread from now on, and maps its page, which keeps the event until it is
/// unmapped. Children do not get the page; kernels do that by themselves, too, since 3.10.
pub fn map_event(kind: u32, [config, config1, config2]: [u64; 3], exclusions: u32) -> Option<*mut c_void> {
    // `struct perf_event_attr` in its second version, which every kernel knows: kind and size, config, period, sample type,
    // read format, flags, wake-up, config1, config2.
    let size = size_of::<[u64; 9]>() as u64;
    let attributes =
        [size << 32 | u64::from(kind), config, 0, 0, BOTH_TIMES, u64::from(exclusions), 0, config1, config2];
    let this_thread_anywhere = [0, usize::MAX, usize::MAX];
    let [thread, cpu, group] = this_thread_anywhere;
    let answer = call(PERF_EVENT_OPEN, [attributes.as_ptr().addr(), thread, cpu, group, EVENT_CLOSED_ON_EXEC, 0]);
    let file = usize::try_from(answer).ok()?;
    let page = mapped(call(MMAP, [0, PAGE, READ, SHARED, file, 0]));
    close(file);
    let page = page?;
    call(MADVISE, [page.addr(), PAGE, DONT_FORK, 0, 0, 0]);
    Some(page)
}

/// A part of a memory file.
#[derive(Clone, Copy)]
pub struct Part {
    /// Bytes of the whole file.
    pub whole: usize,
    /// Where the part begins.
    pub start: usize,
    /// Its bytes.
    pub bytes: usize,
}

/// Maps a part of `file`, provided it is a memory file of exactly that size that can never shrink: reading beyond
/// the end of any other kind of file would kill the process.
pub fn map_sealed(file: usize, Part { whole, start, bytes }: Part) -> Option<*mut c_void> {
    let seals = call(FCNTL, [file, GET_SEALS, 0, 0, 0, 0]);
    let sealed = seals >= 0 && seals & SEAL_SHRINK != 0;
    let size = call(LSEEK, [file, 0, SEEK_END, 0, 0, 0]);
    if !sealed || size as usize != whole {
        return None;
    }
    mapped(call(MMAP, [0, bytes, READ_WRITE, SHARED, file, start]))
}

/// The process whose child the calling one is.
#[cfg(family)]
pub fn parent_id() -> i32 {
    call(GETPPID, [0; 6]) as i32
}

/// Opens the file at `path`, which ends in NUL, for reading and writing.
#[cfg(family)]
pub fn open(path: *const u8) -> Option<usize> {
    usize::try_from(call(OPEN, [path.addr(), READ_WRITE_CLOSED_ON_EXEC, 0, 0, 0, 0])).ok()
}

/// Writes what the link at `path`, which ends in NUL, says to `to`, as far as `bytes` go, and returns how many were
/// written; 0 when there is no such link or it may not be followed.
#[cfg(family)]
pub fn read_link(path: *const u8, to: *mut u8, bytes: usize) -> usize {
    usize::try_from(call(READLINK, [path.addr(), to.addr(), bytes, 0, 0, 0])).unwrap_or(0)
}

/// Undoes [`map_sealed`].
pub fn unmap(start: *mut c_void, bytes: usize) {
    call(MUNMAP, [start.addr(), bytes, 0, 0, 0, 0]);
}

/// Copies `bytes` at `from` to `to`, which must have room for them; `false` when they cannot all be read. `process` is
/// the calling one.
pub fn copy(process: usize, from: usize, to: *mut u8, bytes: usize) -> bool {
    let [target, source] = [[to.addr(), bytes], [from, bytes]];
    let [target, source] = [&target, &source].map(|part| part.as_ptr().addr());
    call(PROCESS_VM_READV, [process, target, 1, source, 1, 0]) == bytes as isize
}

/// Ends the process: reached only if an invariant is broken.
pub fn trap() -> ! {
    // SAFETY: `ud2` does not return.
    unsafe { asm!("ud2", options(noreturn, nomem, nostack)) }
}

fn mapped(answer: isize) -> Option<*mut c_void> {
    // The kernel answers errors as small negative numbers.
    (!(-4095..0).contains(&answer)).then_some(answer as *mut c_void)
}

fn call(number: usize, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let answer;
    // SAFETY: the kernel's calling convention; callers pass arguments that keep the process's memory intact.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}
