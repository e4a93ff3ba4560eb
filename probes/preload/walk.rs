//! Follows a thread's frames through the program's memory: code and instruction of each, nothing resolved.
//!
//! Every byte is read through the kernel, which answers an error where memory has vanished or was never there: another
//! thread's frames may be unmapped at any moment, and a layout may be wrong. A walk visits a bounded number of frames.

use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    layout::{ABSENT, CODE_BITS, FRAMES, RUNTIME_ARRAY, RUNTIME_LINKED, Ring, Walk},
    system,
};

const PAGE: u64 = 4096;
/// The most frames that are visited, those passed over included.
const VISITS: usize = 4 * FRAMES;
/// Callers further before their callees are told apart by their addresses only.
const LONGEST_FRAME: u64 = 2048;
/// Pointers to code may carry tags in these bits.
const TAG_BITS: u64 = 0b11;

/// Whose frames are walked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// The calling thread's: its state must bear this mark of it.
    Own(u64),
    /// Those of a thread that may run meanwhile.
    Foreign,
}

/// Room for two walks, never cleared: a page, the frames of the latest one, and the seals of both.
pub type Room = MaybeUninit<([u8; PAGE as usize], [[u64; 2]; FRAMES], [[u64; FRAMES]; 2])>;

/// The frames that a walk has found, innermost first.
pub struct Trail<'room> {
    window: Window,
    frames: *mut [u64; 2],
    /// Of each frame: equal for the same frame in the same state, but for where the innermost one is.
    seals: *mut u64,
    /// Where those of the latest walk begin: at the first or, the number of frames being a power of two, after them.
    half: usize,
    /// The last walk that came to an end; its seals lie beside those of the latest one.
    before: Option<Extent>,
    room: PhantomData<&'room mut Room>,
    /// The first frames, which are left out.
    skipped: usize,
    count: usize,
    /// Whether outer frames are missing.
    pub cut: bool,
    /// What lies beside frames that are passed over, for the next seal.
    beside: u64,
}

/// How far a walk came.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Extent {
    count: usize,
    cut: bool,
}

/// A part of the memory as it was at one moment.
struct Window {
    bytes: *mut u8,
    start: u64,
    length: u64,
    process: usize,
}

impl<'room> Trail<'room> {
    /// No frames yet.
    pub fn new(ring: &Ring, room: &'room mut Room) -> Self {
        let process = ring.header.claimed.load(Ordering::Relaxed) as usize;
        let room = room.as_mut_ptr();
        // SAFETY: inside the room; nothing is read.
        let bytes = unsafe { &raw mut (*room).0 };
        // SAFETY: as above.
        let frames = unsafe { &raw mut (*room).1 };
        // SAFETY: as above.
        let seals = unsafe { &raw mut (*room).2 };
        Self {
            window: Window { bytes: bytes.cast(), start: 0, length: 0, process },
            frames: frames.cast(),
            seals: seals.cast(),
            half: 0,
            before: None,
            room: PhantomData,
            skipped: 0,
            count: 0,
            cut: false,
            beside: 0,
        }
    }

    /// The frames: code and instruction.
    pub fn frames(&self) -> impl Iterator<Item = [u64; 2]> {
        // SAFETY: the first `count` frames have been written.
        (self.skipped..self.count).map(|index| unsafe { self.frames.add(index).read() })
    }

    /// How many frames there are.
    pub fn count(&self) -> usize {
        self.count - self.skipped
    }

    /// Whether inner frames are left out.
    pub fn is_changing(&self) -> bool {
        self.skipped > 0
    }

    /// Equal for equal frames.
    pub fn fingerprint(&self) -> u64 {
        self.frames().flatten().fold(u64::from(self.is_changing()), mix)
    }

    /// Walks once more along the frames of a thread that may run, and says how many outer frames are as the last walk that
    /// came to an end has seen them, all of them at best.
    pub fn walk_again(&mut self, walk: &Walk, state: u64) -> usize {
        if self.walk(walk, state, Walked::Foreign).is_none() {
            return 0;
        }
        let now = Extent { count: self.count, cut: self.cut };
        let agreed = self.before.map_or(0, |before| self.agreed(before, now));
        self.before = Some(now);
        self.half ^= FRAMES;
        agreed
    }

    /// Leaves out all but the outermost `kept` frames.
    pub fn keep_outer(&mut self, kept: usize) {
        self.skipped = self.count - kept.min(self.count);
    }

    fn agreed(&self, before: Extent, now: Extent) -> usize {
        // Where outer frames are missing, the first of those that are left may be different ones.
        if (before.cut || now.cut) && before != now {
            return 0;
        }
        let most = before.count.min(now.count);
        // SAFETY: so many seals of each walk have been written.
        let seal = |half: usize, index: usize| unsafe { self.seals.add(half + index).read() };
        let other = self.half ^ FRAMES;
        let equal = |outer: &usize| seal(other, before.count - outer) == seal(self.half, now.count - outer);
        let agreed = (1..=most).take_while(equal).count();
        if now.cut && agreed < most { 0 } else { agreed }
    }

    /// Finds the frames of the thread with this state; `None` when they cannot be read.
    #[inline(never)]
    pub fn walk(&mut self, walk: &Walk, state: u64, walked: Walked) -> Option<()> {
        (self.count, self.skipped, self.cut, self.beside) = (0, 0, false, 0);
        self.window.length = 0;
        if let Walked::Own(mark) = walked
            && self.window.number(state.wrapping_add(offset(&walk.owner)?), 8)? != mark
        {
            return None;
        }
        match walk.runtime.load(Ordering::Acquire) {
            RUNTIME_LINKED => self.follow_links(walk, state, walked),
            RUNTIME_ARRAY => self.follow_array(walk, state),
            _ => None,
        }
    }

    fn follow_links(&mut self, walk: &Walk, state: u64, walked: Walked) -> Option<()> {
        let holder = match offset(&walk.indirect) {
            Some(indirect) => self.window.number(state.wrapping_add(indirect), 8)?,
            None => state,
        };
        let mut at = self.window.number(holder.wrapping_add(offset(&walk.top)?), 8)?;
        let (size, previous) = (offset(&walk.frame_size)?, offset(&walk.previous)?);
        let mut callee = 0;
        for _ in 0..VISITS {
            if at == 0 {
                return Some(());
            }
            if self.count == FRAMES {
                self.cut = true;
                return Some(());
            }
            self.window.hold(at, size)?;
            if walked == Walked::Foreign {
                self.beside = self.window.seal(self.beside, at, callee);
            }
            self.add_link(walk, at, callee)?;
            callee = at;
            at = self.window.number(at.wrapping_add(previous), 8)?;
        }
        None
    }

    /// Adds the frame at `at`, unless it is to be passed over; `None` when it has ended. The innermost one may be about to
    /// begin or to end, and does not count then.
    fn add_link(&mut self, walk: &Walk, at: u64, callee: u64) -> Option<()> {
        if let Some(kind) = offset(&walk.kind) {
            let kind = self.window.number(at.wrapping_add(kind), 1)?;
            if kind < 64 && walk.passed_over.load(Ordering::Relaxed) >> kind & 1 != 0 {
                return Some(());
            }
        }
        if let Some(executing) = offset(&walk.executing) {
            let value = self.window.number(at.wrapping_add(executing), 1)?;
            if value != u64::from(walk.executing_value.load(Ordering::Relaxed)) {
                return (callee == 0).then_some(());
            }
        }
        self.add(walk, at)
    }

    fn follow_array(&mut self, walk: &Walk, state: u64) -> Option<()> {
        let depth = self.window.number(state.wrapping_add(offset(&walk.depth)?), 8)?;
        let frames = self.window.number(state.wrapping_add(offset(&walk.top)?), 8)?;
        let size = offset(&walk.frame_size)?;
        let kept = depth.min(FRAMES as u64);
        self.cut = depth > kept;
        for index in 1..=kept {
            let at = frames.wrapping_add((depth - index).wrapping_mul(size));
            self.window.hold(at, size)?;
            self.add(walk, at)?;
        }
        Some(())
    }

    /// Adds the frame at `at`, whose bytes are in the window.
    fn add(&mut self, walk: &Walk, at: u64) -> Option<()> {
        let code = at.wrapping_add(offset(&walk.code)?);
        let code = self.window.number(code, walk.code_size.load(Ordering::Relaxed))?;
        let copy = match offset(&walk.bytecode_copy) {
            Some(copy) => self.window.number(at.wrapping_add(copy), 4)?,
            None => 0,
        };
        let code = (code & !tag_bits(walk) & ((1 << CODE_BITS) - 1)) | (copy << CODE_BITS);
        let instruction = at.wrapping_add(offset(&walk.instruction)?);
        let instruction = self.window.number(instruction, walk.instruction_size.load(Ordering::Relaxed))?;
        let beside = core::mem::take(&mut self.beside);
        let seal = mix(mix(beside, at), code);
        let seal = if self.count > 0 { mix(seal, instruction) } else { seal };
        if self.count < FRAMES {
            // SAFETY: the room has so many frames.
            unsafe { self.frames.add(self.count).write([code, instruction]) };
            // SAFETY: and as many seals.
            unsafe { self.seals.add(self.half + self.count).write(seal) };
            self.count += 1;
        }
        Some(())
    }
}

impl Window {
    /// Makes `length` bytes from `at` on part of the window.
    fn hold(&mut self, at: u64, length: u64) -> Option<()> {
        if length <= self.length && at.wrapping_sub(self.start) <= self.length - length {
            return Some(());
        }
        let page = at & !(PAGE - 1);
        let (start, size) = if at - page + length <= PAGE { (page, PAGE) } else { (at, length) };
        self.length = 0;
        if size > PAGE || !system::copy(self.process, start as usize, self.bytes, size as usize) {
            return None;
        }
        (self.start, self.length) = (start, size);
        Some(())
    }

    /// The number of `size` bytes at `at`.
    fn number(&mut self, at: u64, size: u32) -> Option<u64> {
        self.hold(at, u64::from(size))?;
        // SAFETY: the window holds the number's bytes.
        let place = unsafe { self.bytes.add((at - self.start) as usize) };
        match size {
            // SAFETY: as above.
            1 => Some(u64::from(unsafe { place.read() })),
            // SAFETY: as above.
            4 => Some(u64::from(unsafe { place.cast::<u32>().read_unaligned() })),
            // SAFETY: as above.
            8 => Some(unsafe { place.cast::<u64>().read_unaligned() }),
            _ => None,
        }
    }

    /// `seal` with what lies between a frame and the one it called: its variables, if the two lie side by side. They do
    /// not change while the callee runs, but another call from the same place would most likely have left others.
    fn seal(&self, seal: u64, caller: u64, callee: u64) -> u64 {
        let length = callee.wrapping_sub(caller);
        if length > LONGEST_FRAME || callee.wrapping_sub(self.start) > self.length {
            return seal;
        }
        let mut seal = seal;
        for word in 0..length / 8 {
            // SAFETY: the window holds everything from the caller, which `hold` was given, to the callee.
            let place = unsafe { self.bytes.add((caller - self.start + 8 * word) as usize) };
            // SAFETY: as above.
            seal = mix(seal, unsafe { place.cast::<u64>().read_unaligned() });
        }
        seal
    }
}

/// Code pointers of linked frames may be tagged; an array has numbers there.
fn tag_bits(walk: &Walk) -> u64 {
    if walk.runtime.load(Ordering::Relaxed) == RUNTIME_LINKED { TAG_BITS } else { 0 }
}

fn offset(word: &AtomicU32) -> Option<u64> {
    let offset = word.load(Ordering::Relaxed);
    (offset != ABSENT).then_some(u64::from(offset))
}

fn mix(seal: u64, word: u64) -> u64 {
    (seal.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
