//! Finding a process that numbers itself in a pid namespace of its own, by a file that it alone has mapped.
//!
//! A number from inside says nothing outside: every container has a process 1. So number and file must both fit.

use std::{fs, fs::File, io, os::unix::fs::MetadataExt};

use crate::{
    model::ids::Pid,
    target::{maps::MemoryMap, process::Status},
};

/// A file that a process has mapped, known by its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedFile {
    inode: u64,
}

impl MappedFile {
    /// This open file.
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(Self { inode: file.metadata()?.ino() })
    }

    /// The process, in the observer's numbering, that calls itself `inner` and has mapped the file. `likely` is asked first.
    pub fn claimant(self, inner: Pid, likely: &[Pid]) -> Option<Pid> {
        let quick = likely.iter().copied().find(|pid| self.fits(*pid, inner));
        quick.or_else(|| {
            let all = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
            all.filter_map(Pid::from_raw).find(|pid| self.fits(*pid, inner))
        })
    }

    fn fits(self, pid: Pid, inner: Pid) -> bool {
        let numbered = Status::of_process(pid).is_ok_and(|status| status.inner_id == inner.raw());
        numbered && MemoryMap::read(pid).is_ok_and(|map| map.files().iter().any(|file| file.file.inode == self.inode))
    }
}

#[cfg(test)]
mod tests {
    use super::MappedFile;
    use crate::{model::ids::Pid, target::maps::MemoryMap};

    #[test]
    fn number_and_file_must_both_fit() {
        let own = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        let mapped = MemoryMap::read(own).unwrap().files()[0].file.inode;
        let program = MappedFile { inode: mapped };
        assert_eq!(program.claimant(own, &[]), Some(own));
        let other = Pid::from_raw(own.raw() + 1).unwrap();
        assert_ne!(program.claimant(other, &[own]), Some(own));
        assert_eq!(MappedFile { inode: u64::MAX }.claimant(own, &[own]), None);
    }
}
