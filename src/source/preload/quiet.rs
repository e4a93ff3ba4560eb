//! The shared memory when nobody is left to read it: its probes pass every call on, and its records are given up.
//!
//! Whoever was to read has been killed, so this works on the bare files, without mapping them. Invariant: what a thread of
//! the target may be using at this moment stays what it is; only whole records, which nobody will read, become zero.

use std::{
    fs::File,
    io,
    mem::{offset_of, size_of},
    os::unix::fs::FileExt,
};

use crate::source::preload::{
    file::punch,
    layout::{Chunk, Directory, Header, PASSING, POOL, POOL_BYTES, RING_BYTES, SLOTS, Slot},
};

/// Where the records of a ring begin.
const RECORDS_AT: usize = size_of::<Header>() + SLOTS * size_of::<Slot>();

/// Has the probes that write to `shared`, a ring or a pool of rings, pass every call on from now on.
pub fn silence(shared: &File) -> io::Result<()> {
    if is_pool(shared)? {
        // First, so that no process takes room after it has been looked at.
        shared.write_all_at(&0_u32.to_ne_bytes(), offset(offset_of!(Directory, open)))?;
    }
    let mode = offset_of!(Header, mode);
    rings(shared)?.into_iter().try_for_each(|start| shared.write_all_at(&PASSING.to_ne_bytes(), offset(start + mode)))
}

/// Gives the memory of all records back to the kernel; some time after [`silence`], when no thread writes any more.
pub fn let_go(shared: &File) -> io::Result<()> {
    rings(shared)?.into_iter().try_for_each(|start| punch(shared, start + RECORDS_AT, RING_BYTES - RECORDS_AT))
}

fn is_pool(shared: &File) -> io::Result<bool> {
    Ok(shared.metadata()?.len() == offset(POOL_BYTES))
}

/// Where the rings begin that somebody uses.
fn rings(shared: &File) -> io::Result<Vec<usize>> {
    if !is_pool(shared)? {
        return Ok(vec![0]);
    }
    let mut claims = [0; 4 * POOL];
    shared.read_exact_at(&mut claims, offset(offset_of!(Directory, claims)))?;
    let used = (0..).zip(claims.as_chunks::<4>().0).filter(|(_, claim)| **claim != [0; 4]);
    Ok(used.map(|(number, _): (usize, _)| size_of::<Directory>() + number * RING_BYTES).collect())
}

fn offset(position: usize) -> u64 {
    u64::try_from(position).expect("positions fit 64 bits")
}

const _: () = assert!((RING_BYTES - RECORDS_AT).is_multiple_of(size_of::<Chunk>()));

#[cfg(test)]
mod tests {
    use std::{mem::size_of, os::unix::fs::MetadataExt, sync::atomic::Ordering};

    use super::{let_go, silence};
    use crate::source::preload::{
        clock::ProbeClock,
        file,
        layout::{Directory, PASSING, POOL_BYTES, RECORDING, RING_BYTES},
        ring::SharedRing,
    };

    #[test]
    fn a_ring_falls_silent_and_keeps_what_threads_use() {
        let shared = file::create(c"test").unwrap();
        shared.set_len(u64::try_from(RING_BYTES).unwrap()).unwrap();
        let ring = SharedRing::create(&shared, ProbeClock::choose().code(), u32::MAX).unwrap();
        ring.header().locks[0].last_holder.store(7, Ordering::Relaxed);
        (1..=100).for_each(|link| ring.chunk(link).unwrap().committed.store(1, Ordering::Relaxed));
        let before = shared.metadata().unwrap().blocks();
        silence(&shared).unwrap();
        let_go(&shared).unwrap();
        // In units of 512 bytes; reading would bring pages back.
        assert!(shared.metadata().unwrap().blocks() + 100 * 8 <= before);
        assert_eq!(ring.header().mode.load(Ordering::Relaxed), PASSING);
        assert_eq!(ring.header().locks[0].last_holder.load(Ordering::Relaxed), 7);
        assert_eq!(ring.chunk(1).unwrap().committed.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn so_do_the_rooms_of_a_pool_that_are_taken() {
        let shared = file::create(c"test").unwrap();
        shared.set_len(u64::try_from(POOL_BYTES).unwrap()).unwrap();
        let room = |number: usize| {
            let start = u64::try_from(size_of::<Directory>() + number * RING_BYTES).unwrap();
            let ring = SharedRing::map(&shared, start).unwrap();
            ring.record();
            ring
        };
        let (taken, free) = (room(3), room(4));
        let claims = u64::try_from(std::mem::offset_of!(Directory, claims)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&shared, &9_i32.to_ne_bytes(), claims + 4 * 3).unwrap();
        silence(&shared).unwrap();
        let_go(&shared).unwrap();
        let modes = [&taken, &free].map(|ring| ring.header().mode.load(Ordering::Relaxed));
        assert_eq!(modes, [PASSING, RECORDING]);
    }
}
