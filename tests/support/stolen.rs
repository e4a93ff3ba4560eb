//! Time that the hypervisor gave to others: a thread that runs in the eyes of the scheduler meanwhile does not run in the eyes
//! of its CPU clock, so that no truth in terms of that clock is truer than this.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::{fs, time::Duration};

/// All CPUs' stolen time since boot, which the kernel counts in hundredths of a second. Zero on real hardware.
pub fn stolen() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let total =
        stat.lines().next().and_then(|line| line.split_whitespace().nth(8)).and_then(|ticks| ticks.parse().ok());
    Duration::from_millis(10 * total.unwrap_or(0_u64))
}
