//! What a hypervisor took from the machine during a recording.
//!
//! The scheduler's records show a thread on a CPU whose hypervisor runs somebody else: no record tells when. So it is told in sum,
//! for the whole machine, where it is enough to matter. Source: the first line of `/proc/stat`, in hundredths of a second
//! (proc_stat(5)).

use std::{fs, ops::Sub};

use crate::model::time::Nanos;

/// `steal` in the first line, and how many of its numbers are CPU time of their own: those behind it are parts of the first two.
const STEAL: usize = 7;
const TIMES: usize = 8;
/// `idle` and `iowait`: nobody wanted the CPU.
const UNWANTED: [usize; 2] = [3, 4];
const TICK: Nanos = Nanos::from_millis(10);
/// In percent of the time in which CPUs were wanted; what is less is lost in the noise of such a machine.
const WORTH_TELLING: u64 = 1;

/// CPU time of the whole machine since it started, or in a period, in hundredths of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spent {
    stolen: u64,
    /// Time in which somebody wanted a CPU, with what was stolen.
    wanted: u64,
}

/// Since a recording began.
#[derive(Debug, Clone, Copy)]
pub(super) struct StolenTime {
    /// `None` where the kernel does not tell.
    before: Option<Spent>,
}

impl StolenTime {
    /// From now on.
    pub(super) fn begin() -> Self {
        Self { before: spent() }
    }

    /// What a reader of the report should know of it.
    pub(super) fn remark(self) -> Option<String> {
        remark(spent()? - self.before?)
    }
}

impl Sub for Spent {
    type Output = Self;

    /// The kernel's own sums have been seen to go back a little.
    fn sub(self, before: Self) -> Self {
        Self { stolen: self.stolen.saturating_sub(before.stolen), wanted: self.wanted.saturating_sub(before.wanted) }
    }
}

fn remark(Spent { stolen, wanted }: Spent) -> Option<String> {
    let is_told = stolen > 0 && stolen.saturating_mul(100) >= wanted.saturating_mul(WORTH_TELLING);
    is_told.then(|| {
        let tenths = stolen.saturating_mul(1000) / wanted.max(1);
        format!(
            "the hypervisor took {} from this machine's CPUs ({}.{} % of the time they were wanted): what it took from threads of the \
             program looks like running",
            TICK.times(usize::try_from(stolen).unwrap_or(usize::MAX)),
            tenths / 10,
            tenths % 10
        )
    })
}

fn spent() -> Option<Spent> {
    parse(&fs::read_to_string("/proc/stat").ok()?)
}

fn parse(stat: &str) -> Option<Spent> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line.split_whitespace().take(TIMES).map(str::parse).collect::<Result<_, _>>().ok()?;
    let stolen = *times.get(STEAL)?;
    let wanted = (0..).zip(&times).filter(|(place, _)| !UNWANTED.contains(place)).map(|(_, time)| time);
    Some(Spent { stolen, wanted: wanted.fold(0, |sum, time| sum.saturating_add(*time)) })
}

#[cfg(test)]
mod tests {
    use super::{Spent, parse, remark};

    #[test]
    fn what_was_wanted_is_what_was_not_idle() {
        let stat = "cpu  10 20 30 4000 500 6 7 80 9 9\ncpu0 1 2 3 4 5 6 7 8 9 9\n";
        assert_eq!(parse(stat), Some(Spent { stolen: 80, wanted: 10 + 20 + 30 + 6 + 7 + 80 }));
        // Before Linux 2.6.11 there was no such number, and other systems have other files.
        for other in ["cpu  10 20 30 4000 500 6 7\n", "cpu0 1 2 3 4 5 6 7 8\n", "cpu  1 2 3 4 5 6 7 -8\n", ""] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn it_is_told_where_it_matters() {
        let remark =
            |before, after| remark(Spent { stolen: after, wanted: 5_000 } - Spent { stolen: before, wanted: 1_000 });
        assert_eq!(remark(100, 100), None);
        assert_eq!(remark(100, 139), None);
        let told = remark(100, 150).unwrap();
        assert!(told.starts_with("the hypervisor took 500 ms from this machine's CPUs (1.2 % of"), "{told}");
        assert_eq!(remark(100, 90), None);
    }
}
