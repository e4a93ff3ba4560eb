//! What the kernel knows about time and the calling thread. All times are nanoseconds.
#![expect(unsafe_code, reason = "clocks and thread ids come straight from libc")]

use std::{fs::File, io, os::unix::fs::FileExt};

/// `CLOCK_MONOTONIC`, on which every time of the VM lies.
pub fn monotonic() -> u64 {
    nanos(read(libc::CLOCK_MONOTONIC))
}

/// `CLOCK_MONOTONIC` plus `wait_us` microseconds, as libc wants a deadline.
pub fn deadline(wait_us: u64) -> libc::timespec {
    let at = monotonic().saturating_add(wait_us.saturating_mul(1_000));
    libc::timespec {
        tv_sec: i64::try_from(at / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(at % 1_000_000_000).expect("a remainder is small"),
    }
}

/// `CLOCK_BOOTTIME`, on which the kernel notes when a process began.
pub fn since_boot() -> u64 {
    nanos(read(libc::CLOCK_BOOTTIME))
}

/// The processor time that the calling thread has used.
pub fn thread_cpu() -> u64 {
    nanos(read(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// The kernel's id of the calling thread.
pub fn tid() -> u32 {
    // SAFETY: the call has no preconditions.
    let tid = unsafe { libc::gettid() };
    u32::try_from(tid).expect("a thread id is positive")
}

/// Clock ticks a second of `/proc/P/stat`.
pub fn ticks_per_second() -> u64 {
    // SAFETY: the call has no preconditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// The calling thread's time runnable without a CPU, as the kernel counts it.
#[derive(Debug)]
pub struct RunDelay(File);

impl RunDelay {
    /// Opens the counter of the calling thread, which alone may use it.
    pub fn of_this_thread() -> io::Result<Self> {
        File::open("/proc/thread-self/schedstat").map(Self)
    }

    /// Reads the counter: the second of three numbers.
    pub fn read(&self) -> io::Result<u64> {
        let mut text = [0u8; 96];
        let length = self.0.read_at(&mut text, 0)?;
        std::str::from_utf8(&text[..length])
            .ok()
            .and_then(|text| text.split_ascii_whitespace().nth(1))
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for a write of its type.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "the kernel has clock {clock}");
    time
}

fn nanos(time: libc::timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).expect("these clocks start at zero");
    let rest = u64::try_from(time.tv_nsec).expect("the kernel never returns a negative part of a second");
    seconds * 1_000_000_000 + rest
}
