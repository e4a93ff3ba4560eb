//! Reading the environment and removing our traces from it, in place and without allocating.
//!
//! Runs once, in the constructor, before the program's own code can look.

use core::{cell::Cell, ptr::null_mut, slice};

/// The directory whose entries name our files.
const OWN_FILES: &[u8] = b"/proc/self/fd/";

/// The environment's array of `NAME=value` strings.
#[derive(Clone, Copy)]
pub struct Environment<'memory> {
    entries: &'memory [Cell<*mut u8>],
}

impl<'memory> Environment<'memory> {
    /// The array at `entries`; `None` when there is none.
    ///
    /// # Safety
    /// `entries` is null or an array of pointers to strings that end in NUL, ended itself by null; all are writable,
    /// live as long as `'memory`, and nobody else uses them meanwhile.
    pub unsafe fn at(entries: *mut *mut u8) -> Option<Self> {
        if entries.is_null() {
            return None;
        }
        // SAFETY: the array ends in null.
        let length = unsafe { length_to(entries, null_mut()) };
        // SAFETY: so many entries come before the end.
        let entries = unsafe { slice::from_raw_parts(entries.cast::<Cell<*mut u8>>(), length) };
        Some(Self { entries })
    }

    /// The decimal number that the entry starting with `prefix` holds.
    pub fn number(self, prefix: &[u8]) -> Option<usize> {
        decimal(self.value(prefix)?)
    }

    /// The three decimal numbers that the entry starting with `prefix` holds, each with a full stop behind it.
    #[allow(dead_code, reason = "only the variant for families uses it")]
    pub fn numbers(self, prefix: &[u8]) -> Option<[u64; 3]> {
        let mut parts = self.value(prefix)?.split(|byte| byte.get() == b'.');
        let mut next = || parts.next().and_then(decimal).map(|number| number as u64);
        Some([next()?, next()?, next()?])
    }

    /// Removes the files of the process `observer` from the list of paths that the entry starting with `prefix` holds, and
    /// the whole entry when nothing else is in the list.
    #[allow(dead_code, reason = "only the variant for families uses it")]
    pub fn remove_observed(self, prefix: &[u8], observer: u64) {
        self.remove_paths(prefix, |path| is_observed(path, observer));
    }

    /// Removes every entry that starts with `prefix`.
    pub fn remove(self, prefix: &[u8]) {
        let mut places = self.entries.iter();
        for entry in self.entries {
            if after(string(entry), prefix).is_none() {
                places.next().into_iter().for_each(|place| place.set(entry.get()));
            }
        }
        places.for_each(|place| place.set(null_mut()));
    }

    /// Removes our file number `file` from the list of paths that the entry starting with `prefix` holds, and the
    /// whole entry when nothing else is in the list.
    pub fn remove_path(self, prefix: &[u8], file: usize) {
        self.remove_paths(prefix, |path| is_own(path, file));
    }

    fn remove_paths(self, prefix: &[u8], is_ours: impl Fn(&[Cell<u8>]) -> bool) {
        let Some(list) = self.value(prefix) else { return };
        // What is kept moves towards the start, never past what is still to be read.
        let mut places = list.iter();
        let mut keep = |byte| places.next().into_iter().for_each(|place| place.set(byte));
        let is_separator = |byte: &Cell<u8>| matches!(byte.get(), b':' | b' ');
        for (before, path) in list.split(is_separator).filter(|path| !is_ours(path)).enumerate() {
            if before > 0 {
                keep(b':');
            }
            path.iter().for_each(|byte| keep(byte.get()));
        }
        keep(0);
        if self.value(prefix).is_some_and(<[_]>::is_empty) {
            self.remove(prefix);
        }
    }

    fn value(self, prefix: &[u8]) -> Option<&'memory [Cell<u8>]> {
        self.entries.iter().find_map(|entry| after(string(entry), prefix))
    }
}

/// The bytes of an entry, without the NUL.
fn string<'memory>(entry: &Cell<*mut u8>) -> &'memory [Cell<u8>] {
    let start = entry.get();
    if start.is_null() {
        return &[];
    }
    // SAFETY: `Environment::at` was promised that entries end in NUL.
    let length = unsafe { length_to(start, 0) };
    // SAFETY: so many bytes come before the NUL.
    unsafe { slice::from_raw_parts(start.cast::<Cell<u8>>(), length) }
}

/// How many items come before `end`.
///
/// # Safety
/// There is such an item, and all before it are readable.
unsafe fn length_to<Item: Copy + PartialEq>(mut start: *const Item, end: Item) -> usize {
    let mut length = 0;
    // SAFETY: not past the end.
    while unsafe { start.read() } != end {
        // SAFETY: that was not the end.
        start = unsafe { start.add(1) };
        length += 1;
    }
    length
}

/// What follows `prefix` in the string; `None` when it does not start so.
fn after<'memory>(string: &'memory [Cell<u8>], prefix: &[u8]) -> Option<&'memory [Cell<u8>]> {
    let (start, rest) = string.split_at_checked(prefix.len())?;
    start.iter().zip(prefix).all(|(byte, expected)| byte.get() == *expected).then_some(rest)
}

fn decimal(digits: &[Cell<u8>]) -> Option<usize> {
    let mut number: Option<usize> = None;
    for digit in digits {
        let digit = digit.get().checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(usize::from(digit))?);
    }
    number
}

fn is_own(path: &[Cell<u8>], file: usize) -> bool {
    after(path, OWN_FILES).and_then(decimal) == Some(file)
}

#[allow(dead_code, reason = "only the variant for families uses it")]
fn is_observed(path: &[Cell<u8>], observer: u64) -> bool {
    let Some(rest) = after(path, b"/proc/") else { return false };
    let mut parts = rest.split(|byte| byte.get() == b'/');
    parts.next().and_then(decimal) == usize::try_from(observer).ok()
}
