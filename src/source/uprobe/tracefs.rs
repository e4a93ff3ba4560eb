//! The kernel's list of uprobes: finding it, adding to it, taking away from it.
//!
//! All probes of one source form a group named after our pid. Invariant: only groups of ours are ever touched; the list is
//! appended to, never truncated, since truncation would remove everybody's probes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use crate::{
    source::uprobe::{
        error::UprobeError,
        sweep::{Sweeper, Watcher},
    },
    target::site::Site,
};

const GROUP_PREFIX: &str = "gilscope_";
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
    fn remove_stale_groups(&self) {
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

    fn append(&self) -> io::Result<File> {
        OpenOptions::new().append(true).open(self.list())
    }

    fn tracepoint(&self, group: &str, event: &str) -> io::Result<u64> {
        let path = self.root.join("events").join(group).join(event).join("id");
        let text = fs::read_to_string(path)?;
        text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// The probes of one source, removed when it ends.
#[derive(Debug)]
pub struct ProbeGroup {
    tracefs: Tracefs,
    name: String,
    defined: usize,
    watcher: Option<Watcher>,
}

impl ProbeGroup {
    /// An empty group, watched over by a process that will remove it if we cannot.
    pub fn create(tracefs: Tracefs, sweeper: &Sweeper) -> Result<Self, UprobeError> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        // ATOMICS: only the number's uniqueness matters.
        let name = match CREATED.fetch_add(1, Ordering::Relaxed) {
            0 => format!("{GROUP_PREFIX}{}", std::process::id()),
            earlier => format!("{GROUP_PREFIX}{}_{earlier}", std::process::id()),
        };
        tracefs.remove_stale_groups();
        // An earlier process with our pid may have left one, too.
        let _removed = tracefs.remove_group(&name);
        let watcher = sweeper.watch_over(&name).map_err(|source| UprobeError::Sweeper { source })?;
        Ok(Self { tracefs, name, defined: 0, watcher: Some(watcher) })
    }

    /// The name under which the kernel lists the probes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Defines a probe at each of `sites`; returns their tracepoint numbers in the same order.
    pub fn define(&mut self, sites: &[Site]) -> Result<Vec<u64>, UprobeError> {
        let first = self.defined;
        let mut definitions = String::new();
        // Open until the kernel has resolved the paths, which may lead through our descriptors.
        let mut files = Vec::new();
        for (index, site) in sites.iter().enumerate() {
            let path = definable(&site.file, &mut files)?;
            definitions += &format!("p:{}/s{} {path}:{:#x}\n", self.name, first + index, site.offset.raw());
        }
        self.defined += sites.len();
        // One write for all: the kernel takes whole lines of one buffer, and fragments would be refused.
        let written = self.tracefs.append().and_then(|mut list| list.write_all(definitions.as_bytes()));
        written.map_err(|source| UprobeError::DefinitionRefused { definitions: definitions.clone(), source })?;
        let numbers = (first..self.defined).map(|index| self.tracefs.tracepoint(&self.name, &format!("s{index}")));
        let numbers = numbers.collect::<io::Result<Vec<u64>>>();
        numbers.map_err(|source| UprobeError::DefinitionRefused { definitions, source })
    }

    /// Removes the probes. Nothing happens the second time.
    pub fn remove(&mut self) {
        let Some(watcher) = self.watcher.take() else { return };
        match self.tracefs.remove_group_patiently(&self.name) {
            Ok(()) => watcher.dismiss(),
            // Somebody else has opened them: the watcher outlives us and tries on.
            Err(_) => drop(watcher),
        }
    }
}

impl Drop for ProbeGroup {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A path that the kernel's parser, which splits at white space, takes whole: the file's own or one through a
/// descriptor kept open in `files`.
fn definable(file: &Path, files: &mut Vec<File>) -> Result<String, UprobeError> {
    let missing = |source| UprobeError::SiteMissing { file: file.to_owned(), source };
    if let Some(text) = file.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')) {
        fs::metadata(file).map_err(missing)?;
        return Ok(text.to_owned());
    }
    let opened = File::open(file).map_err(missing)?;
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    files.push(opened);
    Ok(path)
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
    use std::path::{Path, PathBuf};

    use super::{definable, group_of, is_ours, mount_point, owner};

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

    #[test]
    fn paths_with_white_space_go_through_a_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let spaced = folder.path().join("a b");
        std::fs::write(&spaced, "x").unwrap();
        let mut files = Vec::new();
        let path = definable(&spaced, &mut files).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "x");
        assert!(definable(Path::new("/nonexistent/libc.so.6"), &mut files).is_err());
    }
}
