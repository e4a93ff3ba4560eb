//! The probes of one source as one group in the kernel's list, named after our pid.
//!
//! Invariant: when the group is dropped, or its process killed, its probes are removed.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    source::uprobe::{
        error::UprobeError,
        sweep::{Sweeper, Watcher},
        tracefs::{GROUP_PREFIX, Tracefs},
    },
    target::site::Site,
};

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
        if sites.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.defined;
        let mut definitions = String::new();
        // Open until the kernel has resolved the paths, which may lead through our descriptors.
        let mut files = Vec::new();
        for (index, site) in sites.iter().enumerate() {
            let path = definable(&site.file, &mut files)?;
            definitions += &format!("p:{}/s{} {path}:{:#x}\n", self.name, first + index, site.offset.raw());
        }
        self.defined += sites.len();
        let written = self.tracefs.define(&definitions);
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::definable;

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
