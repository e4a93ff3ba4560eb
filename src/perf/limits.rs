//! What the machine allows: CPUs, open files, page size, locked memory for rings.
#![expect(unsafe_code, reason = "sysconf, getrlimit and setrlimit are libc calls")]

use std::{fs, io, path::PathBuf};

use crate::perf::error::PerfError;

const ONLINE_CPUS: &str = "/sys/devices/system/cpu/online";
const OPEN_FILES_OF_ANYBODY: &str = "/proc/sys/fs/nr_open";

/// The CPUs that are online, ascending.
pub fn online_cpus() -> Result<Vec<u32>, PerfError> {
    let path = PathBuf::from(ONLINE_CPUS);
    let listed = fs::read_to_string(&path).and_then(|text| {
        parse_cpus(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("not a list: {text:?}")))
    });
    listed.map_err(|source| PerfError::Cpus { path, source })
}

/// `0-3,6` as numbers; `None` when malformed, empty or absurdly long.
fn parse_cpus(text: &str) -> Option<Vec<u32>> {
    const MOST: u32 = 1 << 16;
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// The size of a memory page in bytes.
pub fn page_size() -> usize {
    // SAFETY: sysconf takes a number and has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("the page size is positive")
}

/// The most samples a second that the kernel takes of an event (`kernel.perf_event_max_sample_rate`); it lowers that itself where
/// samples take too long. `None` when it does not say.
pub fn most_samples() -> Option<u32> {
    fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate").ok()?.trim().parse().ok()
}

/// Makes room for `more` open files, raising the limit as far as permitted.
pub fn allow_more_files(more: usize) -> Result<(), PerfError> {
    /// What the observer opens for a moment meanwhile.
    const MARGIN: u64 = 8;
    /// What it likes to keep open besides, such as the threads' counters; it does with fewer.
    const COMFORT: u64 = 1024;
    // Where the list cannot be read, opening will tell.
    let Ok(open) = fs::read_dir("/proc/self/fd").map(Iterator::count) else { return Ok(()) };
    let needed = u64::try_from(open.saturating_add(more)).unwrap_or(u64::MAX).saturating_add(MARGIN);
    let limit = raise_open_files(needed.saturating_add(COMFORT));
    if limit < needed { Err(PerfError::TooManyFiles { needed, limit }) } else { Ok(()) }
}

/// Returns the limit then in force.
fn raise_open_files(needed: u64) -> u64 {
    let Some(mut limit) = open_files() else { return needed };
    if limit.rlim_cur >= needed {
        return limit.rlim_cur;
    }
    if limit.rlim_max < needed {
        // Only with CAP_SYS_RESOURCE; where that is missing the next call still reaches the hard limit.
        let most = fs::read_to_string(OPEN_FILES_OF_ANYBODY).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let ceiling = needed.min(most.unwrap_or(needed)).max(limit.rlim_max);
        set_open_files(libc::rlimit { rlim_cur: ceiling, rlim_max: ceiling });
    }
    limit = open_files().unwrap_or(limit);
    limit.rlim_cur = limit.rlim_max;
    set_open_files(limit);
    open_files().unwrap_or(limit).rlim_cur
}

fn open_files() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit that the call fills.
    let outcome = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    (outcome == 0).then_some(limit)
}

fn set_open_files(limit: libc::rlimit) {
    // SAFETY: `limit` is a valid rlimit; a refusal leaves the old one in force, which the caller reads back.
    let _refused_or_done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// How large the ring of each CPU is made at first; smaller ones are tried when the kernel refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RingSize {
    /// 2 MiB a CPU: for scheduling. Users whose `RLIMIT_MEMLOCK` is low get what `kernel.perf_event_mlock_kb` grants to
    /// everybody, usually 512 KiB.
    Ordinary,
    /// 4 MiB a CPU: for lock events, which come by the hundred thousand a second.
    Large,
}

impl RingSize {
    /// Pages of data, a power of two.
    pub(crate) fn pages(self, cpus: usize) -> usize {
        // Rings count as our memory, and what is read from a full one takes several times its size until it is booked.
        // A lock lets one thread in at a time, so more CPUs do not make more lock events.
        const TOTAL: usize = 24 << 20;
        let wanted = match self {
            Self::Ordinary => 2 << 20,
            Self::Large => 4 << 20,
        };
        let bytes = (TOTAL / cpus.max(1)).min(wanted);
        let pages = (bytes / page_size()).max(1);
        1 << pages.ilog2()
    }
}

#[cfg(test)]
mod tests {
    use super::{RingSize, page_size, parse_cpus};

    #[test]
    fn cpu_lists_are_ranges_and_single_numbers() {
        assert_eq!(parse_cpus("0-2,5,7-8\n"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(parse_cpus("0\n"), Some(vec![0]));
        for malformed in ["", "3-1", "a", "0-4294967295", "1,,2"] {
            assert_eq!(parse_cpus(malformed), None, "{malformed:?}");
        }
    }

    #[test]
    fn all_rings_together_stay_small_on_machines_with_many_cpus() {
        let bytes = |size: RingSize, cpus| size.pages(cpus) * page_size();
        assert_eq!(bytes(RingSize::Large, 2), 4 << 20);
        assert_eq!(bytes(RingSize::Ordinary, 2), 2 << 20);
        for (size, cpus) in [RingSize::Large, RingSize::Ordinary].into_iter().zip([6, 12]) {
            assert_eq!(bytes(size, cpus) * cpus, 24 << 20, "{size:?}");
            for cpus in [64, 300, 1024] {
                assert!(bytes(size, cpus) * cpus <= 24 << 20, "{size:?} on {cpus} CPUs");
            }
        }
    }
}
