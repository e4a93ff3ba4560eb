//! Everything a launcher needs before the program starts: two memory files and a few environment variables.

use std::{
    ffi::{CStr, OsStr, OsString},
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::atomic::Ordering,
};

use crate::{
    model::{counts::Measured, ids::Pid},
    perf::{clock, events::CountedEvent},
    source::preload::{
        CallSink, PreloadError, PreloadSource,
        clock::{ProbeClock, Timeline},
        file,
        layout::{POOL_BYTES, RING_BYTES},
        pool::Pool,
        readings,
        ring::SharedRing,
    },
    target::claimant::MappedFile,
};

/// The compiled probe; empty where none could be built.
const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libgilscope_probe.so"));

/// The same with what follows a program into the processes that it starts.
const FAMILY_PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libgilscope_family_probe.so"));

/// The probe and its shared memory, ready for a program to be launched with them.
#[derive(Debug)]
pub struct Prepared {
    probe: File,
    pub(crate) shared: File,
    ring: SharedRing,
    timeline: Timeline,
    measured: Vec<Measured>,
    pool: Option<Pool>,
}

impl Prepared {
    /// Prepares with the whole memory.
    pub fn new() -> Result<Self, PreloadError> {
        Self::with_chunks(u32::MAX)
    }

    /// Prepares for the program and all processes that it starts.
    pub fn for_family() -> Result<Self, PreloadError> {
        let mut prepared = Self::with_probe(FAMILY_PROBE, u32::MAX)?;
        let size = u64::try_from(POOL_BYTES).expect("the size fits 64 bits");
        let file = memory_file(c"gilscope-pool", "gilscope-pool", |file| file.set_len(size))?;
        let probe = prepared.probe.try_clone();
        let probe = probe.map_err(|source| PreloadError::MemoryFile { name: "gilscope-probe", source })?;
        // Not a secret: it tells one recording from another.
        let nonce = u64::from(std::process::id()) << 32 ^ clock::now().as_nanos();
        let created = Pool::create((file, probe), prepared.timeline.clone(), nonce);
        let (pool, common) = created.map_err(|source| PreloadError::Map { source })?;
        common.write(&prepared.ring.header().family);
        prepared.pool = Some(pool);
        Ok(prepared)
    }

    /// The room for other processes; taken once.
    pub fn take_pool(&mut self) -> Option<Pool> {
        self.pool.take()
    }

    /// Prepares with a pool of at most `chunks` chunks of 255 records each.
    pub fn with_chunks(chunks: u32) -> Result<Self, PreloadError> {
        Self::with_probe(PROBE, chunks)
    }

    fn with_probe(probe: &[u8], chunks: u32) -> Result<Self, PreloadError> {
        if probe.is_empty() {
            return Err(PreloadError::Unsupported);
        }
        let clock = ProbeClock::choose();
        let probe_file = memory_file(c"gilscope-probe", "gilscope-probe", |file| file.write_all(probe))?;
        let size = u64::try_from(RING_BYTES).expect("the size fits 64 bits");
        let shared = memory_file(c"gilscope-ring", "gilscope-ring", |file| file.set_len(size))?;
        let ring = SharedRing::create(&shared, clock.code(), chunks).map_err(|source| PreloadError::Map { source })?;
        Ok(Self { probe: probe_file, shared, ring, timeline: Timeline::begin(clock), measured: Vec::new(), pool: None })
    }

    /// Has each thread read `events` at its calls, of a program that has not started yet. Only where
    /// [`crate::perf::user_reads::user_reads_work`] says that this works; elsewhere all of them are unknown.
    pub fn measure(&mut self, events: &[CountedEvent]) {
        self.measured = events.iter().map(CountedEvent::described).collect();
        let header = self.ring.header();
        readings::request((&header.measured, &header.events), events);
        self.pool.iter_mut().for_each(|pool| pool.measure(events));
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

    /// The memory itself.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }

    /// Begins to read what the probe in process `pid` writes; `calls` makes events of it.
    pub fn into_source(self, pid: Pid, calls: CallSink) -> PreloadSource {
        PreloadSource::new((self.ring, self.timeline), pid, &self.measured, calls)
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
