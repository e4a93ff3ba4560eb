//! Programs that a process of the family executes or spawns: they are given the probe by their environment.
//!
//! The program's own environment never has our variables: they are added to a copy on the stack, for the one call, and
//! only while gilscope is there to be reached. Invariant: whatever is missing or has no room, the call is passed on as it
//! was made. All of this may run in a child of `vfork`, which shares its parent's memory: nothing is written but the stack.

use core::{
    ffi::{c_int, c_void},
    mem::{MaybeUninit, transmute},
    ptr::null,
    sync::atomic::Ordering,
};

use crate::{
    family::{self, FilePath, decimal},
    layout::Directory,
    real::{self, Real},
    system,
};

/// Variables beside which ours find room.
const MOST_ENTRIES: usize = 1000;
/// Bytes of our variables, and of the user's `LD_PRELOAD`.
const MOST_BYTES: usize = 4096;
/// What the probe's file is called, as far as a link tells it.
const PROBE_NAME: &[u8] = b"/memfd:gilscope-probe";

/// The variable that lists what is loaded first.
pub const PRELOAD_VARIABLE: &[u8] = b"LD_PRELOAD=";
/// The variable that leads to the pool: gilscope's process, its number for the pool, and the nonce.
pub const FAMILY_VARIABLE: &[u8] = b"GILSCOPE_FAMILY=";

type Strings = *const *const u8;
type Execute = unsafe extern "C" fn(*const u8, Strings, Strings) -> c_int;
type ExecuteFile = unsafe extern "C" fn(c_int, Strings, Strings) -> c_int;
type Spawn = unsafe extern "C" fn(*mut c_int, *const u8, *const c_void, *const c_void, Strings, Strings) -> c_int;

static EXECVE: Real = Real::versioned(c"execve", c"GLIBC_2.2.5");
static EXECVPE: Real = Real::versioned(c"execvpe", c"GLIBC_2.11");
static FEXECVE: Real = Real::versioned(c"fexecve", c"GLIBC_2.2.5");
static SPAWN: Real = Real::versioned(c"posix_spawn", c"GLIBC_2.15");
static SPAWNP: Real = Real::versioned(c"posix_spawnp", c"GLIBC_2.15");

/// Returned by an execution for which libc has no function.
const FAILED: c_int = -1;
/// Returned by a spawning for which libc has no function: `ENOSYS`.
const NOT_FOUND: c_int = 38;

/// Looks all functions up, so that no child of `vfork` has to.
pub fn find_functions() {
    for function in [&EXECVE, &EXECVPE, &FEXECVE, &SPAWN, &SPAWNP] {
        function.find();
    }
}

/// Room for a copy of an environment; never cleared.
struct Room {
    entries: MaybeUninit<[*const u8; MOST_ENTRIES + 3]>,
    bytes: MaybeUninit<[u8; MOST_BYTES]>,
    entered: usize,
    written: usize,
}

impl Room {
    const fn new() -> Self {
        Self { entries: MaybeUninit::uninit(), bytes: MaybeUninit::uninit(), entered: 0, written: 0 }
    }

    /// The environment at `entries` with our variables, or as it is when it cannot have them.
    fn extend(&mut self, entries: Strings) -> Strings {
        let extended = family::directory().and_then(|directory| self.copy(entries, directory));
        extended.map_or(entries, |()| self.entries.as_ptr().cast())
    }

    fn copy(&mut self, entries: Strings, directory: &Directory) -> Option<()> {
        let of = &directory.family;
        let [observer, pool, probe] =
            [&of.observer, &of.pool_file, &of.probe_file].map(|word| word.load(Ordering::Relaxed));
        let probe = FilePath::of(observer, probe);
        if directory.open.load(Ordering::Relaxed) == 0 || !is_probe(&probe) {
            return None;
        }
        let mut preload = null();
        let mut next = entries;
        // SAFETY: null, or an array of strings that ends in null, as libc demands.
        while let Some(entry) = unsafe { next.as_ref() }.copied().filter(|entry| !entry.is_null()) {
            match after(entry, PRELOAD_VARIABLE) {
                Some(list) => preload = list,
                None => self.enter(entry)?,
            }
            // SAFETY: that was not the end.
            next = unsafe { next.add(1) };
        }
        let begun = self.written;
        PRELOAD_VARIABLE.iter().try_for_each(|byte| self.write(*byte))?;
        self.write_list(preload)?;
        probe.bytes().iter().try_for_each(|byte| self.write(*byte))?;
        self.close_string(begun)?;
        let begun = self.written;
        FAMILY_VARIABLE.iter().try_for_each(|byte| self.write(*byte))?;
        for number in [observer as u64, pool as u64, of.nonce.load(Ordering::Relaxed)] {
            let mut fits = Some(());
            decimal(number, |digit| fits = fits.and_then(|()| self.write(digit)));
            fits?;
            self.write(b'.')?;
        }
        self.close_string(begun)?;
        self.enter(null())
    }

    /// What the user has loaded, and a separator if that is anything.
    fn write_list(&mut self, mut list: *const u8) -> Option<()> {
        if list.is_null() {
            return Some(());
        }
        let begun = self.written;
        loop {
            // SAFETY: the string ends in NUL, which is not passed.
            match unsafe { list.read() } {
                0 if self.written == begun => return Some(()),
                0 => return self.write(b':'),
                byte => self.write(byte)?,
            }
            // SAFETY: that was not the end.
            list = unsafe { list.add(1) };
        }
    }

    fn close_string(&mut self, begun: usize) -> Option<()> {
        self.write(0)?;
        // SAFETY: inside the room.
        let string = unsafe { self.bytes.as_ptr().cast::<u8>().add(begun) };
        self.enter(string)
    }

    fn enter(&mut self, entry: *const u8) -> Option<()> {
        if self.entered >= MOST_ENTRIES + 3 {
            return None;
        }
        // SAFETY: inside the room.
        unsafe { self.entries.as_mut_ptr().cast::<*const u8>().add(self.entered).write(entry) };
        self.entered += 1;
        Some(())
    }

    fn write(&mut self, byte: u8) -> Option<()> {
        if self.written >= MOST_BYTES {
            return None;
        }
        // SAFETY: inside the room.
        unsafe { self.bytes.as_mut_ptr().cast::<u8>().add(self.written).write(byte) };
        self.written += 1;
        Some(())
    }
}

/// Whether the path leads to the probe: gilscope is alive and may be reached from here, and the number is still its own.
fn is_probe(path: &FilePath) -> bool {
    let mut link = MaybeUninit::<[u8; PROBE_NAME.len()]>::zeroed();
    let length = system::read_link(path.start(), link.as_mut_ptr().cast(), PROBE_NAME.len());
    // SAFETY: zeroed, and any bytes are valid.
    let link = unsafe { link.assume_init() };
    length == PROBE_NAME.len() && link.iter().zip(PROBE_NAME).all(|(byte, expected)| byte == expected)
}

/// What follows `prefix` in the string; `None` when it does not start so.
fn after(mut string: *const u8, prefix: &[u8]) -> Option<*const u8> {
    for expected in prefix {
        // SAFETY: not past the NUL, which no prefix has.
        if unsafe { string.read() } != *expected {
            return None;
        }
        // SAFETY: that was not the end.
        string = unsafe { string.add(1) };
    }
    Some(string)
}

fn environment() -> Strings {
    let variable = real::environ();
    // SAFETY: null or libc's variable.
    unsafe { variable.as_ref() }.map_or(null(), |entries| entries.cast_const().cast())
}

/// Passes the call on with our variables.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execve(path: *const u8, arguments: Strings, variables: Strings) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { execute(&EXECVE, path, arguments, variables) }
}

/// Passes the call on with our variables.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execv(path: *const u8, arguments: Strings) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { execute(&EXECVE, path, arguments, environment()) }
}

/// Passes the call on with our variables.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvp(file: *const u8, arguments: Strings) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { execute(&EXECVPE, file, arguments, environment()) }
}

/// Passes the call on with our variables.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execvpe(file: *const u8, arguments: Strings, variables: Strings) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { execute(&EXECVPE, file, arguments, variables) }
}

/// Passes the call on with our variables.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fexecve(file: c_int, arguments: Strings, variables: Strings) -> c_int {
    let real = FEXECVE.get();
    if real.is_null() {
        return FAILED;
    }
    let mut room = Room::new();
    // SAFETY: `real` is libc's function of this name and type.
    let real = unsafe { transmute::<*mut c_void, ExecuteFile>(real) };
    // SAFETY: the caller's arguments, with more variables.
    unsafe { real(file, arguments, room.extend(variables)) }
}

/// Passes the call on with our variables.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawn(
    pid: *mut c_int,
    path: *const u8,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: Strings,
    variables: Strings,
) -> c_int {
    let real = SPAWN.get();
    if real.is_null() {
        return NOT_FOUND;
    }
    let mut room = Room::new();
    // SAFETY: `real` is libc's function of this name and type.
    let real = unsafe { transmute::<*mut c_void, Spawn>(real) };
    // SAFETY: the caller's arguments, with more variables.
    unsafe { real(pid, path, actions, attributes, arguments, room.extend(variables)) }
}

/// Passes the call on with our variables.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_spawnp(
    pid: *mut c_int,
    file: *const u8,
    actions: *const c_void,
    attributes: *const c_void,
    arguments: Strings,
    variables: Strings,
) -> c_int {
    let real = SPAWNP.get();
    if real.is_null() {
        return NOT_FOUND;
    }
    let mut room = Room::new();
    // SAFETY: `real` is libc's function of this name and type.
    let real = unsafe { transmute::<*mut c_void, Spawn>(real) };
    // SAFETY: the caller's arguments, with more variables.
    unsafe { real(pid, file, actions, attributes, arguments, room.extend(variables)) }
}

/// # Safety
/// As libc demands of the function that `real` stands for.
unsafe fn execute(real: &Real, path: *const u8, arguments: Strings, variables: Strings) -> c_int {
    let real = real.get();
    if real.is_null() {
        return FAILED;
    }
    let mut room = Room::new();
    // SAFETY: `real` is libc's function, of this type.
    let real = unsafe { transmute::<*mut c_void, Execute>(real) };
    // SAFETY: the caller's arguments, with more variables.
    unsafe { real(path, arguments, room.extend(variables)) }
}
