//! Time that the hypervisor gave to others: a thread that runs in the eyes of the scheduler meanwhile does not run in the eyes
//! of its CPU clock, so that no truth in terms of that clock is truer than this.

#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "each test program uses a part of this, and prints what was measured"
)]

use std::{
    fs,
    time::{Duration, Instant},
};

/// Two readings of stolen time, in hundredths of a second.
const UNTOLD: Duration = Duration::from_millis(20);
/// So many attempts are judged as if nothing had been stolen: mostly, that comes in bursts.
const STRICT: u32 = 2;

/// What is wrong with the last of a few runs; nothing if one has no faults. `judge` is told what it may allow for: what was stolen
/// during the run, in nanoseconds.
pub fn lasting_faults<T>(
    attempts: u32,
    mut run: impl FnMut() -> T,
    mut judge: impl FnMut(T, f64) -> Vec<String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for attempt in 0..attempts {
        let (outcome, stolen) = with_stolen(&mut run);
        let allowed = if attempt < STRICT { Duration::ZERO } else { stolen };
        faults = judge(outcome, allowed.as_nanos() as f64);
        if faults.is_empty() {
            break;
        }
        println!("    with {stolen:?} at most stolen:\n    {}", faults.join("\n    "));
    }
    faults
}

/// Also says how much was stolen meanwhile, at the most.
pub fn with_stolen<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let (before, begun) = (stolen(), Instant::now());
    let outcome = run();
    let stolen = stolen().saturating_sub(before);
    // Where more than that is stolen, nothing can be judged.
    let most = begun.elapsed() / 5;
    (outcome, if stolen.is_zero() { stolen } else { (stolen + UNTOLD).min(most) })
}

/// All CPUs' stolen time since boot, which the kernel counts in hundredths of a second. Zero on real hardware.
fn stolen() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let total =
        stat.lines().next().and_then(|line| line.split_whitespace().nth(8)).and_then(|ticks| ticks.parse().ok());
    Duration::from_millis(10 * total.unwrap_or(0_u64))
}
