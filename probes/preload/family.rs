//! The other processes of the program: each finds room of its own in the pool, when it is first needed.
//!
//! A forked process has the interpreter from its first instruction: the thread that forked it forgets, right after the
//! fork, where its parent recorded, and the first call of any thread takes room. One that was executed does so as it is
//! loaded. Nothing here waits or allocates, and a process that finds no room is as silent as without the probe.

use core::{
    ptr::{from_ref, null_mut},
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};

use crate::{
    emit, gate,
    layout::{CHUNKS, Directory, Header, MAGIC, ORIGIN_FORK, POOL_BYTES, RECORDING, RING_BYTES, Ring, SLOTS, VERSION, WantedEvent},
    local::Local,
    real,
    system::{self, Part},
};

/// The pool's directory; null when other processes are not recorded.
static DIRECTORY: AtomicPtr<Directory> = AtomicPtr::new(null_mut());
/// Where this process records or, if it has just been forked, its parent does.
static RING: AtomicPtr<Ring> = AtomicPtr::new(null_mut());
/// Not zero between a fork and the first call after it.
static FORKED: AtomicU32 = AtomicU32::new(0);

/// How a process reaches what gilscope keeps for the family.
#[derive(Clone, Copy)]
pub struct Door {
    /// gilscope's process.
    pub observer: i32,
    /// The number under which it has the pool open.
    pub pool: i32,
    /// Tells this recording from others.
    pub nonce: u64,
}

impl Door {
    /// What the memory of the first process says; `None` when other processes are not recorded.
    pub fn of(header: &Header) -> Option<Self> {
        let family = &header.family;
        let [observer, pool] = [&family.observer, &family.pool_file].map(|word| word.load(Ordering::Relaxed));
        (observer > 0).then(|| Self { observer, pool, nonce: family.nonce.load(Ordering::Relaxed) })
    }

    fn of_directory(directory: &Directory) -> Self {
        let family = &directory.family;
        let [observer, pool] = [&family.observer, &family.pool_file].map(|word| word.load(Ordering::Relaxed));
        Self { observer, pool, nonce: family.nonce.load(Ordering::Relaxed) }
    }
}

/// The path of a file of gilscope's, with a NUL at its end.
pub struct FilePath {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl FilePath {
    /// Two numbers of ten digits, what stands around them, and a NUL.
    const ROOM: usize = 40;

    /// `/proc/OBSERVER/fd/FILE`.
    pub fn of(observer: i32, file: i32) -> Self {
        let mut path = Self { bytes: [0; Self::ROOM], length: 0 };
        path.push(b"/proc/");
        path.push_number(observer);
        path.push(b"/fd/");
        path.push_number(file);
        path
    }

    /// Without the NUL.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    /// The string.
    pub fn start(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    fn push(&mut self, text: &[u8]) {
        for byte in text {
            // The last byte stays NUL.
            if let Some(place) = self.bytes.get_mut(self.length).filter(|_| self.length + 1 < Self::ROOM) {
                *place = *byte;
                self.length += 1;
            }
        }
    }

    fn push_number(&mut self, number: i32) {
        decimal(number.max(0) as u64, |digit| self.push(&[digit]));
    }
}

/// Tells the digits of `number`, the first one first.
pub fn decimal(mut number: u64, mut tell: impl FnMut(u8)) {
    // The longest number has twenty digits.
    let mut digits = [0; 20];
    let mut count = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    digits.iter().skip(20 - count).for_each(|digit| tell(*digit));
}

/// From now on children of this process are recorded, too; `None` when the pool cannot be reached.
pub fn join(door: Door) -> Option<&'static Directory> {
    let path = FilePath::of(door.observer, door.pool);
    let file = system::open(path.start())?;
    let part = Part { whole: POOL_BYTES, start: 0, bytes: size_of::<Directory>() };
    let start = system::map_sealed(file, part);
    system::close(file);
    let start = start?.cast::<Directory>();
    // SAFETY: a mapping of exactly this size, aligned to pages; the type is valid for any bytes, and the memory file
    // cannot shrink. It is never unmapped once it is believed.
    let directory = unsafe { &*start };
    let known = directory.magic.load(Ordering::Relaxed) == MAGIC
        && directory.version.load(Ordering::Relaxed) == VERSION
        && directory.family.nonce.load(Ordering::Relaxed) == door.nonce;
    if !known {
        system::unmap(start.cast(), size_of::<Directory>());
        return None;
    }
    DIRECTORY.store(start, Ordering::Relaxed);
    real::call_in_children(on_forked, from_ref(&DIRECTORY).cast());
    Some(directory)
}

/// The pool's directory, if other processes are recorded.
pub fn directory() -> Option<&'static Directory> {
    // SAFETY: null, or the mapping of `join`.
    unsafe { DIRECTORY.load(Ordering::Relaxed).as_ref() }
}

/// This process records into `ring`.
pub fn recording_into(ring: &'static Ring) {
    RING.store(from_ref(ring).cast_mut(), Ordering::Relaxed);
}

/// Room in the pool for the calling process, with a header that lacks only what differs by `origin`; `None` when there is
/// none.
pub fn take_room(directory: &'static Directory, origin: u32) -> Option<&'static Ring> {
    if directory.open.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let door = Door::of_directory(directory);
    let file = system::open(FilePath::of(door.observer, door.pool).start())?;
    let ring = claim(directory, file);
    system::close(file);
    let header = &ring?.header;
    header.clock.store(directory.clock.load(Ordering::Relaxed), Ordering::Relaxed);
    header.free_chunks.limit.store(CHUNKS as u32, Ordering::Relaxed);
    header.free_slots.limit.store(SLOTS as u32, Ordering::Relaxed);
    for (to, from) in header.events.iter().zip(&directory.events) {
        copy_event(to, from);
    }
    header.measured.store(directory.measured.load(Ordering::Relaxed), Ordering::Relaxed);
    header.claimed.store(system::process_id(), Ordering::Relaxed);
    header.origin.store(origin, Ordering::Relaxed);
    header.begun.store(system::now(), Ordering::Relaxed);
    header.mode.store(RECORDING, Ordering::Relaxed);
    header.version.store(VERSION, Ordering::Relaxed);
    header.magic.store(MAGIC, Ordering::Relaxed);
    ring
}

fn copy_event(to: &WantedEvent, from: &WantedEvent) {
    for (to, from) in [(&to.kind, &from.kind), (&to.exclusions, &from.exclusions)] {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    for (to, from) in [(&to.config, &from.config), (&to.config1, &from.config1), (&to.config2, &from.config2)] {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn claim(directory: &Directory, file: usize) -> Option<&'static Ring> {
    let this = system::process_id();
    for (index, claim) in directory.claims.iter().enumerate() {
        if claim.compare_exchange(0, this, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            continue;
        }
        let start = size_of::<Directory>() + index * RING_BYTES;
        let Some(ring) = system::map_sealed(file, Part { whole: POOL_BYTES, start, bytes: RING_BYTES }) else {
            claim.store(0, Ordering::Release);
            return None;
        };
        // SAFETY: a mapping of exactly this size, aligned to pages; the type is valid for any bytes, and the memory file
        // cannot shrink. It is unmapped only in a child of this process that has room of its own.
        return unsafe { ring.cast::<Ring>().as_ref() };
    }
    directory.refused.fetch_add(1, Ordering::Relaxed);
    None
}

/// Runs in a forked process before anything else of the program does, in its only thread.
extern "C" fn on_forked() {
    if RING.load(Ordering::Relaxed).is_null() {
        return;
    }
    Local::of_this_thread().reset();
    emit::forget_writers();
    FORKED.store(1, Ordering::Relaxed);
}

/// A call in a process that does not record: the first one after a fork takes room.
#[cold]
#[inline(never)]
pub fn on_silent_call(kind: u64, cond: usize) {
    if FORKED.load(Ordering::Relaxed) == 0 || !gate::is_ours_to_open() {
        return;
    }
    if let Some(ring) = begin_as_child() {
        emit::emit(kind, cond);
        let missed = u64::from(gate::missed());
        ring.header.uncounted.fetch_add(missed, Ordering::Relaxed);
        ring.header.lost_without_slot.fetch_add(missed, Ordering::Release);
    }
    FORKED.store(0, Ordering::Relaxed);
}

fn begin_as_child() -> Option<&'static Ring> {
    // SAFETY: null, or the ring of the process that this one was forked from, which is mapped here as well.
    let parent = unsafe { RING.load(Ordering::Relaxed).as_ref() }?;
    let ring = take_room(directory()?, ORIGIN_FORK);
    if let Some(ring) = ring {
        inherit(&ring.header, &parent.header);
        recording_into(ring);
        gate::open(ring);
        // Release: whoever sees the process ready sees all that it has inherited.
        ring.header.ready.store(1, Ordering::Release);
    } else {
        RING.store(null_mut(), Ordering::Relaxed);
    }
    // Nothing here refers to it any more: the thread that forked has forgotten it, others have never known it.
    system::unmap(from_ref(parent).cast_mut().cast(), RING_BYTES);
    ring
}

/// The memory of both is laid out alike, so frames and locks are where the parent has them.
fn inherit(own: &Header, parent: &Header) {
    let word = |to: &AtomicU32, from: &AtomicU32| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    own.parent.store(parent.claimed.load(Ordering::Relaxed), Ordering::Relaxed);
    own.cost.store(parent.cost.load(Ordering::Relaxed), Ordering::Relaxed);
    let (walk, old) = (&own.walk, &parent.walk);
    for (to, from) in [
        (&walk.owner, &old.owner),
        (&walk.indirect, &old.indirect),
        (&walk.top, &old.top),
        (&walk.depth, &old.depth),
        (&walk.frame_size, &old.frame_size),
        (&walk.previous, &old.previous),
        (&walk.code, &old.code),
        (&walk.code_size, &old.code_size),
        (&walk.instruction, &old.instruction),
        (&walk.instruction_size, &old.instruction_size),
        (&walk.kind, &old.kind),
        (&walk.bytecode_copy, &old.bytecode_copy),
        (&walk.executing, &old.executing),
        (&walk.executing_value, &old.executing_value),
        (&walk.runtime, &old.runtime),
    ] {
        word(to, from);
    }
    for (to, from) in
        [(&walk.passed_over, &old.passed_over), (&walk.spacing, &old.spacing), (&walk.long_hold, &old.long_hold)]
    {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    for (lock, old) in own.locks.iter().zip(&parent.locks) {
        for (to, from) in [
            (&lock.switch_cond, &old.switch_cond),
            (&lock.last_holder, &old.last_holder),
            (&lock.locked, &old.locked),
            (&lock.cond, &old.cond),
        ] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
