//! Names of code that is in no file, as compilers at run time note it: `/tmp/perf-PID.map`.
//!
//! The target writes the file while it runs, so each question looks whether it has grown. Compilers use memory again:
//! of entries that overlap, the last one counts. Files of other users than the target's, which might wait for anybody
//! with that number, do not.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use crate::{
    model::{address::LiveAddress, ids::Pid},
    native::symbols::name,
    target::{process::Status, regular},
};

/// Bytes of a map that are read, and functions that are kept; what comes after is not known.
const LONGEST_MAP: u64 = 64 << 20;
const MOST_FUNCTIONS: usize = 1 << 20;

/// Bytes that are read at once, and the longest line there may be.
const PORTION: usize = 1 << 20;

/// The map of one process.
#[derive(Debug)]
pub struct PerfMap {
    path: PathBuf,
    owner: u32,
    /// Which file has been read, and how much of it.
    inode: u64,
    read: u64,
    /// Each function's end and name, by its start.
    functions: BTreeMap<u64, (u64, Box<str>)>,
}

impl PerfMap {
    /// The map that `pid` writes, or may write later, as it names it itself.
    pub fn of(pid: Pid) -> Self {
        let status = Status::of_process(pid).ok();
        let (inner, owner) = status.map_or((pid.raw(), 0), |status| (status.inner_id, status.uid));
        Self::at(PathBuf::from(format!("/proc/{pid}/root/tmp/perf-{inner}.map")), owner)
    }

    pub(crate) fn at(path: PathBuf, owner: u32) -> Self {
        Self { path, owner, inode: 0, read: 0, functions: BTreeMap::new() }
    }

    /// The function at an address of the target.
    pub fn name(&mut self, address: LiveAddress) -> Option<&str> {
        self.read_on();
        let (_, (end, name)) = self.functions.range(..=address.raw()).next_back()?;
        (address.raw() < *end).then_some(name)
    }

    /// Reads what has been added; begins again with another file of that name, or one that has been cut.
    fn read_on(&mut self) {
        let Ok(seen) = self.path.metadata() else { return };
        if !seen.is_file() || ![self.owner, 0].contains(&seen.uid()) {
            return;
        }
        if seen.ino() != self.inode || seen.len() < self.read {
            (self.inode, self.read) = (seen.ino(), 0);
            self.functions.clear();
        }
        if seen.len() <= self.read || self.read >= LONGEST_MAP {
            return;
        }
        if let Ok(mut file) = regular::open(&self.path)
            && file.seek(SeekFrom::Start(self.read)).is_ok()
        {
            self.read_lines(&mut file);
        }
    }

    /// Takes whole lines; what follows the last one is read again when there is more of it.
    fn read_lines(&mut self, file: &mut File) {
        let mut portion = Vec::new();
        while self.read < LONGEST_MAP {
            let room = (PORTION - portion.len()) as u64;
            let begun = portion.len();
            if file.take(room).read_to_end(&mut portion).is_err() || portion.len() == begun {
                return;
            }
            let whole = portion.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            // A line longer than a portion is none.
            let done = if whole == 0 && portion.len() == PORTION { PORTION } else { whole };
            for line in portion[..whole].split(|byte| *byte == b'\n') {
                self.add(line);
            }
            self.read += done as u64;
            portion.drain(..done);
        }
    }

    /// `START SIZE name`, numbers in hexadecimal; other lines are skipped.
    fn add(&mut self, line: &[u8]) {
        let Some((range, name)) = parse(line) else { return };
        let Some(name) = name::plain(name).filter(|_| self.functions.len() < MOST_FUNCTIONS) else { return };
        let overlapped: Vec<u64> = self
            .functions
            .range(..range.end)
            .rev()
            .take_while(|(_, (end, _))| *end > range.start)
            .map(|(start, _)| *start)
            .collect();
        for start in overlapped {
            self.functions.remove(&start);
        }
        self.functions.insert(range.start, (range.end, name.into()));
    }
}

fn parse(line: &[u8]) -> Option<(Range<u64>, &[u8])> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let mut number = || {
        let digits = std::str::from_utf8(words.next()?).ok()?;
        u64::from_str_radix(digits.trim_start_matches("0x"), 16).ok()
    };
    let (start, size) = (number()?, number()?);
    let end = start.checked_add(size).filter(|end| *end > start)?;
    Some((start..end, words.next()?))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::MetadataExt};

    use super::PerfMap;
    use crate::model::address::LiveAddress;

    fn ask(map: &mut PerfMap, address: u64) -> Option<String> {
        map.name(LiveAddress::in_target(address)).map(str::to_owned)
    }

    #[test]
    fn a_map_is_followed_as_it_grows() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let owner = file.as_file().metadata().unwrap().uid();
        let mut map = PerfMap::at(file.path().to_owned(), owner);
        assert_eq!(ask(&mut map, 0x1000), None);
        file.write_all(b"1000 20 py::first:/a b.py\nnonsense\n2000 10 sec").unwrap();
        assert_eq!(ask(&mut map, 0x101f).as_deref(), Some("py::first:/a b.py"));
        assert_eq!(ask(&mut map, 0x1020), None);
        assert_eq!(ask(&mut map, 0x2000), None, "its line has no end yet");
        file.write_all(b"ond\n1010 8 over\n").unwrap();
        assert_eq!(ask(&mut map, 0x2000).as_deref(), Some("second"));
        assert_eq!(ask(&mut map, 0x1010).as_deref(), Some("over"));
        assert_eq!(ask(&mut map, 0x1000), None, "its memory was used again");
        fs::write(file.path(), "5000 1 new\n").unwrap();
        assert_eq!(ask(&mut map, 0x5000).as_deref(), Some("new"));
        assert_eq!(ask(&mut map, 0x2000), None);
    }

    #[test]
    fn strange_maps_are_survived() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let owner = file.as_file().metadata().unwrap().uid();
        let mut map = PerfMap::at(file.path().to_owned(), owner);
        file.write_all(b"ffffffffffffffff 10 end\n0 0 none\n1 ffffffffffffffff all\n").unwrap();
        file.write_all(&vec![b'x'; 3 << 20]).unwrap();
        file.write_all(b"\n7000 10 after\n8000 10 bad\xff\x01name\n").unwrap();
        assert_eq!(ask(&mut map, 0x7005).as_deref(), Some("after"));
        assert_eq!(ask(&mut map, 0x8005).as_deref(), Some("bad\u{fffd}\u{fffd}name"));
        let mut other = PerfMap::at(file.path().to_owned(), owner + 1);
        assert_eq!(ask(&mut other, 0x7005).is_some(), owner == 0);
        let mut folder = PerfMap::at("/tmp".into(), owner);
        assert_eq!(ask(&mut folder, 0x7005), None);
    }
}
