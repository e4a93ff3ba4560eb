//! The target's memory map: which file is mapped where, parsed from `/proc/P/maps`.
//!
//! Lines that do not parse are skipped, and so is what lies past a bound: a map that lacks a line is still true in what it
//! says.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
};

use rustc_hash::FxHashSet;

use crate::model::{
    address::{FileOffset, LiveAddress},
    ids::Pid,
};

/// Bytes of a map that are read: a process may have mappings by the ten thousand, and paths of some thousand bytes for each.
const LONGEST_MAP: u64 = 32 << 20;
/// Files that are looked into in search of an interpreter or a C library.
const MOST_PROGRAMS: usize = 4096;

/// A file's identity, independent of the path under which one sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// The device's major and minor number.
    pub device: (u32, u32),
    /// The inode's number.
    pub inode: u64,
}

/// One mapping of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: LiveAddress,
    /// The address after its last one.
    pub end: LiveAddress,
    /// Whether its bytes may be executed.
    pub executable: bool,
    /// The position in the file of its first byte.
    pub offset: FileOffset,
    /// Which file.
    pub file: FileIdentity,
    /// The path in the target's own mount namespace; ends in ` (deleted)` when the file has no name any more.
    pub path: String,
}

/// All file mappings of one process, by address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryMap {
    mappings: Vec<Mapping>,
}

impl MemoryMap {
    /// Reads the map of `pid`; empty for a process without memory.
    pub fn read(pid: Pid) -> io::Result<Self> {
        let mut text = BufReader::new(File::open(format!("/proc/{pid}/maps"))?.take(LONGEST_MAP));
        let (mut mappings, mut line) = (Vec::new(), Vec::new());
        while text.read_until(b'\n', &mut line)? > 0 {
            mappings.extend(Mapping::parse(String::from_utf8_lossy(&line).trim_end_matches('\n')));
            line.clear();
        }
        Ok(Self { mappings })
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn parse(text: &str) -> Self {
        Self { mappings: text.lines().filter_map(Mapping::parse).collect() }
    }

    /// One mapping of every file, its first by address, in order of address.
    pub fn files(&self) -> Vec<&Mapping> {
        let mut known = FxHashSet::default();
        self.mappings.iter().filter(|mapping| known.insert(mapping.file)).collect()
    }

    /// Those of the files that have code, of which only the first few thousand count.
    pub fn programs(&self) -> Vec<&Mapping> {
        let with_code: FxHashSet<FileIdentity> = self.executable().map(|mapping| mapping.file).collect();
        self.files().into_iter().filter(|file| with_code.contains(&file.file)).take(MOST_PROGRAMS).collect()
    }

    /// The mappings of one file, by address.
    pub fn of(&self, file: FileIdentity) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().filter(move |mapping| mapping.file == file)
    }

    /// The mappings of files whose bytes may be executed, by address.
    pub fn executable(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().filter(|mapping| mapping.executable)
    }

    /// Whether no file is mapped at all.
    pub fn is_empty(&self) -> bool {
        self.mappings.is_empty()
    }
}

impl Mapping {
    /// One line; `None` for memory that is no file's, and for lines of another form.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let permissions = words.next()?;
        let offset = u64::from_str_radix(words.next()?, 16).ok()?;
        let (major, minor) = words.next()?.split_once(':')?;
        let inode: u64 = words.next()?.parse().ok()?;
        let path = words.next()?.trim_start();
        if inode == 0 || path.is_empty() {
            return None;
        }
        let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
        Some(Self {
            start: LiveAddress::in_target(u64::from_str_radix(start, 16).ok()?),
            end: LiveAddress::in_target(u64::from_str_radix(end, 16).ok()?),
            executable: permissions.contains('x'),
            offset: FileOffset::from_start(offset),
            file: FileIdentity { device, inode },
            path: path.to_owned(),
        })
    }

    /// The last part of the path, without the mark of a deleted file.
    pub fn file_name(&self) -> &str {
        let path = self.path.strip_suffix(" (deleted)").unwrap_or(&self.path);
        path.rsplit('/').next().unwrap_or(path)
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryMap;

    const TEXT: &str = "\
00400000-00420000 r--p 00000000 fe:01 1234                               /usr/bin/python3.11
00420000-006c0000 r-xp 00020000 fe:01 1234                               /usr/bin/python3.11
00c00000-00c80000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000001000 r-xp 00001000 00:1f 99                         /tmp/with space/libx.so (deleted)
7f0000002000-7f0000003000 rw-p 00000000 00:00 0
not a line
7f00-zzzz r--p 00000000 fe:01 7 /broken
";

    #[test]
    fn only_files_are_kept() {
        let map = MemoryMap::parse(TEXT);
        assert_eq!(map.mappings.len(), 3);
        let files = map.files();
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].file_name(), "python3.11");
        assert_eq!(files[1].file_name(), "libx.so");
        assert_eq!(files[1].file.device, (0, 0x1f));
        assert!(files[1].executable && !files[0].executable);
        assert_eq!(map.of(files[0].file).count(), 2);
        assert_eq!(map.programs(), files);
    }
}
