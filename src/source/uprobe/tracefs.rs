//! The kernel's list of uprobes: finding it, adding to it, taking away from it.
//!
//! Invariant: only groups of ours are ever touched; the list is appended to, never truncated, since truncation would remove
//! everybody's probes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::source::uprobe::error::UprobeError;

/// What the names of our groups begin with; the pid of their owner follows.
pub(crate) const GROUP_PREFIX: &str = "gilscope_";
const USUAL_PLACE: &str = "/sys/kernel/tracing";
/// Where debugfs shows tracefs; the kernel mounts it at the first look.
const OLD_PLACE: &str = "/sys/kernel/debug/tracing";
/// Closing an event returns before the kernel has let go of its probe; tens of milliseconds suffice.
const REMOVALS: u32 = 50;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(20);

/// A mounted tracefs whose list of uprobes we may write.
#[derive(Debug, Clone)]
pub struct Tracefs {
    root: PathBuf,
}

impl Tracefs {
    /// Finds the mounted tracefs.
    pub fn find() -> Result<Self, UprobeError> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root =
            mount_point(&mounts).or_else(|| Path::new(OLD_PLACE).join("README").exists().then(|| OLD_PLACE.into()));
        let tracefs = Self { root: root.ok_or(UprobeError::TracefsNotMounted)? };
        match tracefs.append() {
            Ok(_) => Ok(tracefs),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                Err(UprobeError::NoUprobeEvents { path: tracefs.list() })
            }
            Err(source) => Err(UprobeError::TracefsRefused { path: tracefs.list(), source }),
        }
    }

    /// Removes every probe of `group`; succeeds when there is none.
    pub(crate) fn remove_group(&self, group: &str) -> io::Result<()> {
        if !self.groups()?.iter().any(|listed| listed == group) {
            return Ok(());
        }
        self.append()?.write_all(format!("-:{group}/\n").as_bytes())
    }

    /// Removes every probe of `group`, waiting while events are still open on them.
    pub(crate) fn remove_group_patiently(&self, group: &str) -> io::Result<()> {
        let mut outcome = self.remove_group(group);
        for _ in 0..REMOVALS {
            if outcome.is_ok() {
                break;
            }
            thread::sleep(BETWEEN_REMOVALS);
            outcome = self.remove_group(group);
        }
        outcome
    }

    /// Removes what observers that no longer live have left behind.
    pub(crate) fn remove_stale_groups(&self) {
        let groups = self.groups().unwrap_or_default();
        let stale = groups
            .iter()
            .filter(|group| owner(group).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()));
        for group in stale {
            // Still in use by somebody, or removed by its own sweeper meanwhile: neither is our concern.
            let _removed = self.remove_group(group);
        }
    }

    /// The names of our groups, each once.
    fn groups(&self) -> io::Result<Vec<String>> {
        let mut groups: Vec<String> = fs::read_to_string(self.list())?.lines().filter_map(group_of).collect();
        groups.dedup();
        Ok(groups)
    }

    fn list(&self) -> PathBuf {
        self.root.join("uprobe_events")
    }

    /// Adds definitions, one a line. One write takes them all: the kernel takes whole lines of one buffer, and fragments
    /// would be refused.
    pub(crate) fn define(&self, definitions: &str) -> io::Result<()> {
        self.append()?.write_all(definitions.as_bytes())
    }

    fn append(&self) -> io::Result<File> {
        OpenOptions::new().append(true).open(self.list())
    }

    /// The number of a defined probe.
    pub(crate) fn tracepoint(&self, group: &str, event: &str) -> io::Result<u64> {
        let path = self.root.join("events").join(group).join(event).join("id");
        let text = fs::read_to_string(path)?;
        text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Where `/proc/self/mounts` says tracefs is; the usual place wins over others.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    let points: Vec<&str> = mounts.lines().filter_map(tracefs_at).collect();
    let usual = points.iter().find(|point| **point == USUAL_PLACE);
    usual.or(points.first()).map(PathBuf::from)
}

fn tracefs_at(line: &str) -> Option<&str> {
    let mut fields = line.split(' ').skip(1);
    let (point, kind) = (fields.next()?, fields.next()?);
    // An escaped character in such a path would have to be decoded; nobody has one.
    (kind == "tracefs" && !point.contains('\\')).then_some(point)
}

/// The group of a line `p:gilscope_7/s0 /path:0x1234`, if it is one of ours.
fn group_of(line: &str) -> Option<String> {
    let (group, _) = line.strip_prefix("p:")?.split_once('/')?;
    is_ours(group).then(|| group.to_owned())
}

/// Whether a group's name is one that we give.
pub(crate) fn is_ours(group: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(rest) = group.strip_prefix(GROUP_PREFIX) else { return false };
    rest.split_once('_').map_or_else(|| digits(rest), |(pid, count)| digits(pid) && digits(count))
}

/// The pid of the process that created the group.
fn owner(group: &str) -> Option<u32> {
    group.strip_prefix(GROUP_PREFIX)?.split('_').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{group_of, is_ours, mount_point, owner};

    #[test]
    fn the_usual_mount_wins() {
        let mounts = "proc /proc proc rw 0 0\n\
                      tracefs /sys/kernel/debug/tracing tracefs rw 0 0\n\
                      tracefs /sys/kernel/tracing tracefs rw,nosuid 0 0\n";
        assert_eq!(mount_point(mounts), Some(PathBuf::from("/sys/kernel/tracing")));
        assert_eq!(mount_point("a /sys/kernel/tracing ext4 rw 0 0\n\nnonsense"), None);
    }

    #[test]
    fn only_our_groups_are_recognised() {
        assert_eq!(group_of("p:gilscope_12_3/s0 /lib/libc.so.6:0x1234"), Some("gilscope_12_3".into()));
        assert_eq!((owner("gilscope_12_3"), owner("gilscope_7")), (Some(12), Some(7)));
        for foreign in ["p:uprobes/gilscope_1 /x:0x0", "r:gilscope_1/s0 /x:0x0", "p:gilscope_x/s0 /x:0x0", "", "p:"] {
            assert_eq!(group_of(foreign), None, "{foreign}");
        }
        assert!(!is_ours("gilscope_1/\n-:x") && !is_ours("gilscope_1_") && !is_ours("gilscope_"));
    }
}
