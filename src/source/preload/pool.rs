//! Room for the other processes of the program: who has taken some, and giving it back.
//!
//! Every room is a ring of its own inside one memory file. A process takes a free one by itself; what lies in it stays when
//! the process ends. Room is given back all zero, as it was at first.

#![expect(unsafe_code, reason = "the directory is used as the structure that both sides agree on")]

use std::{
    fs::File,
    io,
    mem::offset_of,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::FileExt,
    },
    sync::atomic::{AtomicI32, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};

use crate::{
    model::{counts::Measured, ids::Pid, time::MonoNanos},
    perf::events::CountedEvent,
    source::preload::{
        CallSink, PreloadSource,
        clock::{RawTime, Timeline},
        file::punch,
        layout::{Directory, Family, Header, MAGIC, ORIGIN_FORK, POOL, RING_BYTES, VERSION},
        readings,
        ring::SharedRing,
    },
};

/// How a process came to have the interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was forked from one that had it.
    Forked,
    /// It executed it.
    Executed,
}

/// A process that has taken room and records there.
#[derive(Debug)]
pub struct Room {
    /// The process.
    pub pid: Pid,
    /// The one that it was forked from, or whose child it is; `None` when that is nonsense.
    pub parent: Option<Pid>,
    /// How it came to have the interpreter.
    pub origin: Origin,
    /// When it took the room.
    pub begun: MonoNanos,
    /// Which room.
    pub number: RoomNumber,
    ring: SharedRing,
}

/// One of the rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoomNumber(usize);

/// All rooms.
#[derive(Debug)]
pub struct Pool {
    file: File,
    /// Open for the processes that are to load it.
    _probe: File,
    directory: MmapRaw,
    timeline: Timeline,
    measured: Vec<Measured>,
    /// Those whose process has been told of.
    told: [bool; POOL],
    /// Those taken at the last look by a process that did not record yet.
    starting: [u32; POOL],
}

/// Looks after which a process that has taken room and is gone without having recorded gives it back.
const LOOKS: u32 = 3;

/// What a family has in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub(super) observer: i32,
    pub(super) pool_file: i32,
    pub(super) probe_file: i32,
    pub(super) nonce: u64,
}

impl Common {
    /// Tells processes where to find what they need.
    pub(super) fn write(self, family: &Family) {
        family.nonce.store(self.nonce, Ordering::Relaxed);
        let numbers = [(&family.pool_file, self.pool_file), (&family.probe_file, self.probe_file)];
        numbers.into_iter().for_each(|(word, number): (&AtomicI32, _)| word.store(number, Ordering::Relaxed));
        family.observer.store(self.observer, Ordering::Relaxed);
    }
}

impl Pool {
    /// All of it free, in `file`, which must have as many bytes as the layout says and be sealed.
    pub(super) fn create((file, probe): (File, File), timeline: Timeline, nonce: u64) -> io::Result<(Self, Common)> {
        let directory = MmapOptions::new().len(size_of::<Directory>()).map_raw(&file)?;
        let observer = std::process::id().cast_signed();
        let common = Common { observer, pool_file: file.as_raw_fd(), probe_file: probe.as_raw_fd(), nonce };
        let clock = timeline.clock();
        let (told, starting) = ([false; POOL], [0; POOL]);
        let pool = Self { file, _probe: probe, directory, timeline, measured: Vec::new(), told, starting };
        let shared = pool.directory();
        shared.clock.store(clock.code(), Ordering::Relaxed);
        common.write(&shared.family);
        shared.version.store(VERSION, Ordering::Relaxed);
        shared.magic.store(MAGIC, Ordering::Relaxed);
        shared.open.store(1, Ordering::Relaxed);
        Ok((pool, common))
    }

    /// Has each thread of all processes read `events` at its calls.
    pub(super) fn measure(&mut self, events: &[CountedEvent]) {
        self.measured = events.iter().map(CountedEvent::described).collect();
        let directory = self.directory();
        readings::request((&directory.measured, &directory.events), events);
    }

    /// The memory that holds all rooms.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The processes that have begun to record since the last look. To be called every few milliseconds, so that their
    /// times can be told.
    pub fn look(&mut self) -> Vec<Room> {
        self.timeline.advance();
        let mut rooms = Vec::new();
        for number in 0..POOL {
            let claim = self.directory().claims.get(number).map_or(0, |claim| claim.load(Ordering::Acquire));
            if claim == 0 || self.told.get(number).copied().unwrap_or(true) {
                continue;
            }
            match self.enter(number) {
                Some(mut room) => {
                    // It may have begun after the clocks were read above.
                    self.timeline.advance();
                    room.begun = self.begun(&room.ring);

                    self.told[number] = true;
                    self.starting[number] = 0;
                    rooms.push(room);
                }
                None => self.wait_for(number, claim),
            }
        }
        rooms
    }

    /// The source of what the process in `room` records; `calls` makes events of it.
    pub fn source_of(&self, room: Room, calls: CallSink) -> PreloadSource {
        PreloadSource::new((room.ring, self.timeline.clone()), room.pid, &self.measured, calls)
    }

    /// Gives room back whose process has ended and is read to its end.
    pub fn give_back(&mut self, RoomNumber(number): RoomNumber) {
        let start = size_of::<Directory>() + number * RING_BYTES;
        if punch(&self.file, start, RING_BYTES).is_err() {
            return;
        }
        self.told[number] = false;
        if let Some(claim) = self.directory().claims.get(number) {
            // Release: whoever takes the room finds it empty.
            claim.store(0, Ordering::Release);
        }
    }

    /// Whether the process has loaded a probe, and so records by itself when there is anything to record.
    pub fn reaches(pid: Pid) -> bool {
        let mapped = std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        String::from_utf8_lossy(&mapped).contains("/memfd:gilscope-probe")
    }

    /// How many processes found no room.
    pub fn refused(&self) -> u32 {
        self.directory().refused.load(Ordering::Relaxed)
    }

    /// From now on no process begins to record.
    pub fn close(&self) {
        self.directory().open.store(0, Ordering::Relaxed);
    }

    /// What a room holds, if its process is ready to record.
    fn enter(&self, number: usize) -> Option<Room> {
        let start = u64::try_from(size_of::<Directory>() + number * RING_BYTES).ok()?;
        let ready = start + u64::try_from(offset_of!(Header, ready)).ok()?;
        let mut word = [0; 4];
        self.file.read_exact_at(&mut word, ready).ok().filter(|()| word != [0; 4])?;
        let ring = SharedRing::map(&self.file, start).ok()?;
        let header = ring.header();
        let pid = Pid::from_raw(header.claimed.load(Ordering::Relaxed))?;
        let origin =
            if header.origin.load(Ordering::Relaxed) == ORIGIN_FORK { Origin::Forked } else { Origin::Executed };
        let begun = self.begun(&ring);
        let parent = Pid::from_raw(header.parent.load(Ordering::Relaxed));
        Some(Room { pid, parent, origin, begun, number: RoomNumber(number), ring })
    }

    fn begun(&self, ring: &SharedRing) -> MonoNanos {
        self.timeline.convert(RawTime::from_record(ring.header().begun.load(Ordering::Relaxed)))
    }

    /// A process may end between taking room and recording there.
    fn wait_for(&mut self, number: usize, claim: i32) {
        self.starting[number] += 1;
        let gone = || !std::path::Path::new(&format!("/proc/{claim}")).exists();
        if self.starting[number] >= LOOKS && gone() {
            self.starting[number] = 0;
            self.give_back(RoomNumber(number));
        }
    }

    fn directory(&self) -> &Directory {
        let start = self.directory.as_mut_ptr().cast::<Directory>();
        // SAFETY: the mapping has the size of `Directory`, starts on a page, lives as long as `self`, and its file cannot
        // shrink. Every field is an atomic integer, for which any bytes and any foreign writes are sound.
        unsafe { &*start }
    }
}

/// Whoever stops looking must not leave processes recording.
impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}
