//! Everything a launcher needs before the program starts: two memory files and a few environment variables.

use std::{
    ffi::{CStr, OsStr, OsString},
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::atomic::Ordering,
};

use crate::{
    model::ids::Pid,
    source::preload::{
        CallSink, PreloadError, PreloadSource,
        clock::{ProbeClock, Timeline},
        file,
        layout::RING_BYTES,
        ring::SharedRing,
    },
    target::claimant::MappedFile,
};

/// The compiled probe; empty where none could be built.
const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libgilscope_probe.so"));

/// The probe and its shared memory, ready for a program to be launched with them.
#[derive(Debug)]
pub struct Prepared {
    probe: File,
    pub(crate) shared: File,
    ring: SharedRing,
    timeline: Timeline,
}

impl Prepared {
    /// Prepares with the whole memory.
    pub fn new() -> Result<Self, PreloadError> {
        Self::with_chunks(u32::MAX)
    }

    /// Prepares with a pool of at most `chunks` chunks of 255 records each.
    pub fn with_chunks(chunks: u32) -> Result<Self, PreloadError> {
        if PROBE.is_empty() {
            return Err(PreloadError::Unsupported);
        }
        let clock = ProbeClock::choose();
        let probe = memory_file(c"gilscope-probe", "gilscope-probe", |file| file.write_all(PROBE))?;
        let size = u64::try_from(RING_BYTES).expect("the size fits 64 bits");
        let shared = memory_file(c"gilscope-ring", "gilscope-ring", |file| file.set_len(size))?;
        let ring = SharedRing::create(&shared, clock.code(), chunks).map_err(|source| PreloadError::Map { source })?;
        Ok(Self { probe, shared, ring, timeline: Timeline::begin(clock) })
    }

    /// The variables to set for the program. `preload` is the `LD_PRELOAD` it would have otherwise; the probe comes
    /// after whatever is in it, since some libraries insist on being first.
    pub fn environment(&self, preload: Option<&OsStr>) -> Vec<(OsString, OsString)> {
        let mut list = preload.unwrap_or_default().to_owned();
        if !list.is_empty() {
            list.push(":");
        }
        list.push(format!("/proc/self/fd/{}", self.probe.as_raw_fd()));
        vec![
            ("LD_PRELOAD".into(), list),
            ("GILSCOPE_RING_FD".into(), self.shared.as_raw_fd().to_string().into()),
            ("GILSCOPE_PROBE_FD".into(), self.probe.as_raw_fd().to_string().into()),
        ]
    }

    /// The files that the program must inherit under their present numbers: the launcher clears their close-on-exec
    /// flags in the child, between fork and exec. The probe closes them.
    pub fn inherited_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.probe.as_fd(), self.shared.as_fd()]
    }

    /// The process that records, as it numbers itself: the first one with an interpreter among the launched program
    /// and its descendants. `None` as long as there is none.
    pub fn claimed_by(&self) -> Option<Pid> {
        let header = self.ring.header();
        // Acquire: a process that is ready has claimed the memory before.
        let ready = header.ready.load(Ordering::Acquire) != 0;
        ready.then(|| Pid::from_raw(header.claimed.load(Ordering::Relaxed))).flatten()
    }

    /// The shared memory's file, which the process that records has mapped.
    pub fn shared(&self) -> io::Result<MappedFile> {
        MappedFile::of(&self.shared)
    }

    /// Begins to read what the probe in process `pid` writes; `calls` makes events of it.
    pub fn into_source(self, pid: Pid, calls: CallSink) -> PreloadSource {
        PreloadSource::new(self.ring, self.timeline, pid, calls)
    }
}

fn memory_file(
    name: &CStr,
    shown: &'static str,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<File, PreloadError> {
    let filled = file::create(name).and_then(|mut file| {
        fill(&mut file)?;
        file::seal_size(&file)?;
        Ok(file)
    });
    filled.map_err(|source| PreloadError::MemoryFile { name: shown, source })
}
