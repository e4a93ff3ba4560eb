//! The C library of a process: where its condition-variable calls lie, and where it keeps a thread's kernel id.
//!
//! A probe must sit on the default version of each function: glibc also has old, hidden ones at other addresses. All
//! four functions must come from one file, or no site is given.

use std::{io, path::PathBuf};

use crate::{
    model::{
        address::{FileOffset, LiveAddress},
        event::LockStep,
        ids::Pid,
    },
    target::{
        image::Image,
        maps::{FileIdentity, Mapping, MemoryMap},
        memory::Memory,
        site::{CondFunction, Register, Site, SiteMeaning, SleepFunction, SleepSite},
    },
};

/// The observed functions and their names.
const FUNCTIONS: [(CondFunction, &str); 4] = [
    (CondFunction::Signal, "pthread_cond_signal"),
    (CondFunction::TimedWait, "pthread_cond_timedwait"),
    (CondFunction::Wait, "pthread_cond_wait"),
    (CondFunction::Init, "pthread_cond_init"),
];

/// The functions in which a parked thread of a free-threaded build sleeps. No libc lacks the first two.
const SLEEPS: [(SleepFunction, &str); 3] = [
    (SleepFunction::Unlimited, "sem_wait"),
    (SleepFunction::Limited, "sem_timedwait"),
    (SleepFunction::Limited, "sem_clockwait"),
];

/// The calls by which a thread queues at a mutex, gets on, and signals a condition, with what they mean for PyPy's lock.
const QUEUE_FUNCTIONS: [(LockStep, &str); 3] = [
    (LockStep::Want, "pthread_mutex_lock"),
    (LockStep::Acquired, "pthread_mutex_unlock"),
    (LockStep::Yielded, "pthread_cond_signal"),
];

/// Names of files to look into before all others, by priority. Before 2.34, glibc's `libc.so.6` only forwards these
/// functions, and the real ones are in its `libpthread`; since then the latter is an empty shell.
const FIRST_CHOICES: [&str; 4] = ["libpthread", "libc.so", "libc-2", "ld-musl"];

/// No thread descriptor is this large.
const LARGEST_DESCRIPTOR: u32 = 1 << 16;

/// The file of a process that has its condition variables, and the places of the calls in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CondLibrary {
    /// Which file.
    pub file: FileIdentity,
    /// One site for each observed function.
    pub sites: Vec<Site>,
}

/// Why the condition-variable calls could not be located.
#[derive(Debug, thiserror::Error)]
pub enum LibcError {
    /// The memory map could not be read.
    #[error("cannot read the memory map of process {pid}")]
    Map {
        /// The process.
        pid: Pid,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No mapped file has the four functions.
    #[error("process {pid} maps no C library with pthread_cond_signal")]
    Missing {
        /// The process.
        pid: Pid,
    },
}

impl CondLibrary {
    /// Locates the calls in the files that `pid` maps now.
    pub fn of_process(pid: Pid) -> Result<Self, LibcError> {
        let map = MemoryMap::read(pid).map_err(|source| LibcError::Map { pid, source })?;
        Self::among(pid, &map).ok_or(LibcError::Missing { pid })
    }

    /// Locates the calls in this process's own C library: what a child will most likely map, known before it does.
    pub fn of_self() -> Result<Self, LibcError> {
        let own = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw);
        Self::of_process(own.expect("the kernel's pids are positive 32-bit numbers"))
    }

    fn among(pid: Pid, map: &MemoryMap) -> Option<Self> {
        likely_first(map).into_iter().find_map(|mapping| Self::in_file(&Image::open(pid, map, mapping).ok()?))
    }

    fn in_file(image: &Image) -> Option<Self> {
        let sites = sites_in(image, FUNCTIONS.map(|(function, name)| (SiteMeaning::Libc(function), name)))?;
        Some(Self { file: image.file, sites })
    }

    /// Where threads of `pid` sleep that wait for a semaphore; none if that cannot be told.
    pub fn sleeps_of(pid: Pid) -> Vec<SleepSite> {
        let map = MemoryMap::read(pid).unwrap_or_default();
        let sleeps = |mapping: &Mapping| {
            let image = Image::open(pid, &map, mapping).ok()?;
            let found: Vec<_> =
                SLEEPS.iter().filter_map(|(function, name)| sleep_in(&image, *function, name)).collect();
            // As with the other functions: one file has them all.
            (found.len() > 1).then_some(found)
        };
        likely_first(&map).into_iter().find_map(sleeps).unwrap_or_default()
    }

    /// Whether `pid` maps this very file; `None` when that cannot be seen (it ended, or maps nothing yet).
    pub fn is_mapped_by(&self, pid: Pid) -> Option<bool> {
        let map = MemoryMap::read(pid).ok()?;
        (!map.is_empty()).then(|| map.of(self.file).next().is_some())
    }
}

fn sleep_in(image: &Image, function: SleepFunction, name: &str) -> Option<SleepSite> {
    let (file, offset) = entry(image, name)?;
    Some(SleepSite { file, offset, function })
}

/// Where `pid` queues for PyPy's lock, as for any mutex and condition: whether a call is about the lock tells its argument.
pub fn queue_sites(pid: Pid) -> Result<Vec<Site>, LibcError> {
    let map = MemoryMap::read(pid).map_err(|source| LibcError::Map { pid, source })?;
    let wanted = QUEUE_FUNCTIONS.map(|(step, name)| (SiteMeaning::Step(step), name));
    let in_file = |mapping: &Mapping| sites_in(&Image::open(pid, &map, mapping).ok()?, wanted);
    likely_first(&map).into_iter().find_map(in_file).ok_or(LibcError::Missing { pid })
}

/// Where the function of that name begins.
fn entry(image: &Image, name: &str) -> Option<(PathBuf, FileOffset)> {
    let symbol = image.elf.symbol(name).ok()??;
    Some((image.elf.path().to_owned(), image.elf.file_offset(symbol.address)?))
}

/// The entries of functions of one file, all or none.
fn sites_in<const N: usize>(image: &Image, functions: [(SiteMeaning, &str); N]) -> Option<Vec<Site>> {
    let site = |(meaning, name)| {
        let (file, offset) = entry(image, name)?;
        Some(Site { file, offset, meaning, argument: Register::FIRST_ARGUMENT })
    };
    functions.into_iter().map(site).collect()
}

/// Every mapped file once, the C library's by its usual names first.
fn likely_first(map: &MemoryMap) -> Vec<&Mapping> {
    let mut files = map.programs();
    files.sort_by_key(|file| {
        let rank = FIRST_CHOICES.iter().position(|name| file.file_name().starts_with(name));
        rank.unwrap_or(FIRST_CHOICES.len())
    });
    files
}

/// Where libc's thread descriptor (to which `pthread_self()` points) has the kernel's thread id, as libc publishes it
/// for debuggers: a word of three numbers {size in bits, count, offset}. `None` when it does not, as with musl.
pub fn pthread_tid_offset(pid: Pid, map: &MemoryMap, memory: &dyn Memory) -> Option<u64> {
    for mapping in likely_first(map).into_iter().take_while(|file| is_first_choice(file)) {
        let Ok(image) = Image::open(pid, map, mapping) else { continue };
        if let Ok(Some(symbol)) = image.elf.symbol("_thread_db_pthread_tid") {
            return described_offset(memory, image.live(symbol));
        }
    }
    None
}

fn is_first_choice(file: &Mapping) -> bool {
    FIRST_CHOICES.iter().any(|name| file.file_name().starts_with(name))
}

fn described_offset(memory: &dyn Memory, at: LiveAddress) -> Option<u64> {
    let bits = memory.read_u32(at).ok()?;
    let offset = memory.read_u32(at.plus(8)).ok()?;
    (bits == 32 && offset < LARGEST_DESCRIPTOR).then_some(u64::from(offset))
}

#[cfg(test)]
mod tests {
    use super::{CondLibrary, pthread_tid_offset};
    use crate::{
        model::ids::Pid,
        target::{maps::MemoryMap, memory::ProcessMemory},
    };

    fn own_pid() -> Pid {
        Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    #[test]
    fn the_own_library_has_three_sites_and_is_mapped() {
        let library = CondLibrary::of_self().unwrap();
        assert_eq!(library.sites.len(), 4);
        assert_eq!(library.is_mapped_by(own_pid()), Some(true));
    }

    /// The test binary imports the default version itself, so the linker's choice is the truth to compare with.
    #[test]
    fn the_site_is_the_function_that_the_linker_binds() {
        let library = CondLibrary::of_self().unwrap();
        let bound = libc::pthread_cond_signal as *const () as u64;
        let map = MemoryMap::read(own_pid()).unwrap();
        let part = map.of(library.file).find(|part| (part.start.raw()..part.end.raw()).contains(&bound)).unwrap();
        assert_eq!(library.sites[0].offset.raw(), bound - part.start.raw() + part.offset.raw());
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn libc_publishes_where_the_thread_id_is() {
        let map = MemoryMap::read(own_pid()).unwrap();
        let offset = pthread_tid_offset(own_pid(), &map, &ProcessMemory::open(own_pid()).unwrap());
        assert!(offset.is_some_and(|offset| offset % 4 == 0 && offset > 0), "{offset:?}");
    }
}
