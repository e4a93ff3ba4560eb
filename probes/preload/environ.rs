//! Reading the environment and removing our traces from it, in place and without allocating.
//!
//! Runs once, in the constructor, before the program's own code can look.

/// The environment's array of `NAME=value` strings, ended by null.
#[derive(Clone, Copy)]
pub struct Environment(*mut *mut u8);

/// The directory whose entries name our files.
const OWN_FILES: &[u8] = b"/proc/self/fd/";

impl Environment {
    /// The array at `entries`; `None` when there is none.
    ///
    /// # Safety
    /// `entries` is null or such an array, and nobody else uses it meanwhile.
    pub unsafe fn at(entries: *mut *mut u8) -> Option<Self> {
        (!entries.is_null()).then_some(Self(entries))
    }

    /// The decimal number that the entry starting with `prefix` holds.
    pub fn number(self, prefix: &[u8]) -> Option<usize> {
        let mut digits = self.value(prefix)?;
        let mut number = 0usize;
        // SAFETY: within the string, which ends in NUL.
        while let digit @ b'0'..=b'9' = unsafe { digits.read() } {
            number = number.checked_mul(10)?.checked_add(usize::from(digit - b'0'))?;
            // SAFETY: at most one past the last digit, which is the NUL.
            digits = unsafe { digits.add(1) };
        }
        // SAFETY: within the string.
        (unsafe { digits.read() } == 0).then_some(number)
    }

    /// Removes every entry that starts with `prefix`.
    pub fn remove(self, prefix: &[u8]) {
        let (mut from, mut to) = (self.0, self.0);
        loop {
            // SAFETY: `from` has not passed the null at the end.
            let entry = unsafe { from.read() };
            if entry.is_null() || after(entry, prefix).is_none() {
                // SAFETY: `to` never overtakes `from`.
                unsafe { to.write(entry) };
                // SAFETY: as above.
                to = unsafe { to.add(1) };
            }
            if entry.is_null() {
                return;
            }
            // SAFETY: that entry was not the null at the end.
            from = unsafe { from.add(1) };
        }
    }

    /// Removes our file number `file` from the list of paths that the entry starting with `prefix` holds, and the
    /// whole entry when nothing else is in the list.
    pub fn remove_path(self, prefix: &[u8], file: usize) {
        let Some(list) = self.value(prefix) else { return };
        let (mut from, mut to) = (list, list);
        loop {
            let length = path_length(from);
            // SAFETY: `path_length` stops at the NUL at the latest.
            let end = unsafe { from.add(length) };
            // SAFETY: as above.
            let separator = unsafe { end.read() };
            if !is_own(from, end, file) {
                to = copy(from, end, to);
                // SAFETY: `to` is at or before `end`: the path was moved towards the start, if at all.
                unsafe { to.write(separator) };
                // SAFETY: as above; one past the separator is still within the list's old bytes.
                to = unsafe { to.add(1) };
            }
            if separator == 0 {
                break;
            }
            // SAFETY: a separator is followed by at least the NUL.
            from = unsafe { end.add(1) };
        }
        self.end_list(prefix, list, to);
    }

    /// Ends the list just before `end`, or removes it when it is empty.
    fn end_list(self, prefix: &[u8], list: *mut u8, end: *mut u8) {
        if end == list {
            return self.remove(prefix);
        }
        // SAFETY: something was kept, so the byte before `end` is the last separator written.
        unsafe { end.sub(1).write(0) };
        // SAFETY: within the string.
        if unsafe { list.read() } == 0 {
            self.remove(prefix);
        }
    }

    fn value(self, prefix: &[u8]) -> Option<*mut u8> {
        let mut entries = self.0;
        loop {
            // SAFETY: `entries` has not passed the null at the end.
            let entry = unsafe { entries.read() };
            if entry.is_null() {
                return None;
            }
            if let Some(value) = after(entry, prefix) {
                return Some(value);
            }
            // SAFETY: that entry was not the null at the end.
            entries = unsafe { entries.add(1) };
        }
    }
}

/// What follows `prefix` in the string; `None` when it does not start so.
fn after(mut string: *mut u8, prefix: &[u8]) -> Option<*mut u8> {
    for expected in prefix {
        // SAFETY: all bytes before were equal to bytes that are not NUL.
        if unsafe { string.read() } != *expected {
            return None;
        }
        // SAFETY: that byte was not NUL.
        string = unsafe { string.add(1) };
    }
    Some(string)
}

/// Bytes up to the next separator of `LD_PRELOAD` or the end.
fn path_length(path: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: not past the NUL.
    while !matches!(unsafe { path.add(length).read() }, 0 | b':' | b' ') {
        length += 1;
    }
    length
}

/// Whether the path from `start` to `end` is that of our file number `file`.
fn is_own(start: *mut u8, end: *mut u8, file: usize) -> bool {
    let Some(mut digits) = after(start, OWN_FILES) else { return false };
    let mut number = 0usize;
    while digits < end {
        // SAFETY: before the end.
        let digit = unsafe { digits.read() };
        number = number.wrapping_mul(10).wrapping_add(usize::from(digit.wrapping_sub(b'0')));
        // SAFETY: at most the end.
        digits = unsafe { digits.add(1) };
    }
    number == file
}

/// Moves the bytes from `start` to `end` down to `to` and returns the end of the copy.
fn copy(mut start: *mut u8, end: *mut u8, mut to: *mut u8) -> *mut u8 {
    while start < end {
        // SAFETY: both are within the list, `to` not after `start`.
        unsafe { to.write(start.read()) };
        // SAFETY: at most the end.
        start = unsafe { start.add(1) };
        // SAFETY: not after `start`.
        to = unsafe { to.add(1) };
    }
    to
}
