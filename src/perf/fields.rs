//! Numbers inside a record's bytes, as the kernel of this machine writes them; `None` where the bytes end before.

use crate::model::ids::{Pid, Tid};

pub(super) fn pid_at(bytes: &[u8], at: usize) -> Option<Pid> {
    u32_at(bytes, at).and_then(|raw| Pid::from_raw(raw.cast_signed()))
}

pub(super) fn tid_at(bytes: &[u8], at: usize) -> Option<Tid> {
    u32_at(bytes, at).and_then(|raw| Tid::from_raw(raw.cast_signed()))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_ne_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.first_chunk().copied()
}
