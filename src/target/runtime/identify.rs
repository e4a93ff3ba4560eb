//! Whether an image is CPython, which version, and where that version keeps things.
//!
//! The order of belief: what the running interpreter publishes, then the file of its version, then debug information; and
//! in the end the lock itself must look like one.

use crate::{
    model::{address::LiveAddress, ids::Pid},
    target::{
        catalog::{OLDEST_MINOR, layout_on_file},
        debug_offsets::{DebugOffsets, DebugOffsetsError},
        dwarf::described_layout,
        elf::ElfError,
        image::Image,
        layout::PythonLayout,
        libc::pthread_tid_offset,
        maps::MemoryMap,
        memory::{Memory, MemoryError, ProcessMemory},
        runtime::{cpython::CPython, pypy::PyPyError},
        version::{Build, PythonVersion},
    },
};

/// The first minor version that exports its version number.
const FIRST_WITH_NUMBER: u8 = 11;
/// The first minor version that publishes its offsets.
const FIRST_WITH_OFFSETS: u8 = 13;

/// As in `3.10.10rc1`, with some room.
const LONGEST_VERSION: usize = 12;

/// A process as the identification needs it.
#[derive(Debug, Clone, Copy)]
pub struct Looked<'a> {
    /// The process.
    pub pid: Pid,
    /// What it maps.
    pub map: &'a MemoryMap,
    /// Its memory.
    pub memory: &'a ProcessMemory,
}

/// Why an image that is CPython cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    /// Its version is older than every layout known.
    #[error("Python {version} is too old, 3.{OLDEST_MINOR} is the oldest supported version")]
    TooOld {
        /// Its version.
        version: PythonVersion,
    },
    /// Its version is newer than every layout known, and the build has no debug information.
    #[error("Python {version} is newer than this gilscope knows, and has no debug information to learn from")]
    TooNew {
        /// Its version.
        version: PythonVersion,
    },
    /// It does not say which version it is.
    #[error("{path} is a Python of unknown version")]
    UnknownVersion {
        /// The image.
        path: String,
    },
    /// What it publishes about itself is wrong.
    #[error(transparent)]
    Published(#[from] DebugOffsetsError),
    /// Its lock is not where its version has it, and the build has no debug information.
    #[error(
        "this build of Python {version} keeps its lock elsewhere than the version does, and has no debug information"
    )]
    OddBuild {
        /// Its version.
        version: PythonVersion,
    },
    /// The loader has mapped its image, but not yet all of it; or the process is ending.
    #[error("its interpreter is just starting or ending")]
    Starting,
    /// It is a PyPy that cannot be observed.
    #[error(transparent)]
    PyPy(#[from] PyPyError),
    /// The image is damaged.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// Its memory cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// The CPython in `image`; `None` when there is none.
pub fn identify(looked: Looked<'_>, image: &Image) -> Result<Option<CPython>, IdentifyError> {
    // A damaged file among the many that a process maps is no reason to give up on the others.
    let Some(symbol) = image.elf.symbol("_PyRuntime").unwrap_or_default() else {
        return older_than_runtime(image).map_or(Ok(None), |version| Err(IdentifyError::TooOld { version }));
    };
    let runtime = image.live(symbol);
    let version = version_of(looked.memory, image)?;
    if (version.major, version.minor) < (3, OLDEST_MINOR) {
        return Err(IdentifyError::TooOld { version });
    }
    let (build, believed) = believed_layout(looked.memory, runtime, version)?;
    let unknown =
        if believed.is_some() { IdentifyError::OddBuild { version } } else { IdentifyError::TooNew { version } };
    let found = |layout| CPython { version, build, layout, runtime, pthread_tid: None };
    let on_file = believed.map(found).filter(|python| has_sound_locks(python, looked));
    let mut python = match on_file {
        Some(python) => python,
        None => {
            // Debug information takes long to read; memory that is not there (yet, or any more) has a simpler reason.
            looked.memory.read_u64(runtime).map_err(|_| IdentifyError::Starting)?;
            let described = described_layout(looked.pid, image, version).map(found);
            described.filter(|python| has_sound_locks(python, looked)).ok_or(unknown)?
        }
    };
    if python.layout.thread.native_thread_id.is_none() {
        python.pthread_tid = pthread_tid_offset(looked.pid, looked.map, looked.memory)
            .or_else(|| python.searched_pthread_tid(looked.pid, looked.memory));
    }
    Ok(Some(python))
}

/// Whether what the layout calls locks looks like locks. Where it leads nowhere at all, it is as wrong.
fn has_sound_locks(python: &CPython, looked: Looked<'_>) -> bool {
    python.has_sound_locks(looked.memory).unwrap_or(false)
}

/// The version of a Python that has no `_PyRuntime` yet, as up to 3.6, but the same programming interface.
fn older_than_runtime(image: &Image) -> Option<PythonVersion> {
    image.elf.symbol("Py_GetVersion").ok()??;
    version_in_text(image).ok()?
}

/// The layout by what the interpreter publishes and by its version's file.
fn believed_layout(
    memory: &dyn Memory,
    runtime: LiveAddress,
    version: PythonVersion,
) -> Result<(Build, Option<PythonLayout>), IdentifyError> {
    if (version.major, version.minor) < (3, FIRST_WITH_OFFSETS) {
        return Ok((Build::Default, layout_on_file(version, Build::Default)));
    }
    let published = DebugOffsets::read(memory, runtime)?;
    let on_file = layout_on_file(published.version, published.build);
    Ok((published.build, on_file.map(|layout| published.over(layout)).transpose()?))
}

fn version_of(memory: &dyn Memory, image: &Image) -> Result<PythonVersion, IdentifyError> {
    let number = match image.elf.symbol("Py_Version")? {
        Some(symbol) => PythonVersion::from_hex(memory.read_u32(image.live(symbol))?),
        None => version_in_text(image)?,
    };
    number.ok_or_else(|| IdentifyError::UnknownVersion { path: image.shown_path.clone() })
}

/// The version by the constant text that every build has among its read-only data. Linkers merge it with any longer text
/// that ends the same, such as the installation's path, so a text of its own goes first; and another component may have
/// left its own version there, so one that fits the file's name goes before that.
fn version_in_text(image: &Image) -> Result<Option<PythonVersion>, ElfError> {
    let texts = image.elf.section(".rodata")?.unwrap_or_default();
    let named = named_minor(&image.shown_path);
    let rank = |(whole, version): &(bool, PythonVersion)| (Some((version.major, version.minor)) == named, *whole);
    let found = texts.split(|byte| *byte == 0).filter_map(version_at_end);
    Ok(found.max_by_key(rank).map(|(_, version)| version))
}

/// The version, of a Python that exports no number, at the end of a text, and whether the text is nothing else.
fn version_at_end(text: &[u8]) -> Option<(bool, PythonVersion)> {
    let end = text.get(text.len().saturating_sub(LONGEST_VERSION + 1)..)?;
    let start = end.iter().rposition(|byte| !byte.is_ascii_alphanumeric() && *byte != b'.').map_or(0, |at| at + 1);
    let number = std::str::from_utf8(end.get(start..)?).ok()?;
    let version = PythonVersion::from_text(number).filter(|version| version.to_string() == number)?;
    let known = matches!((version.major, version.minor), (2, 6..=7) | (3, 3..FIRST_WITH_NUMBER));
    known.then_some((number.len() == text.len(), version))
}

/// The numbers in names such as `libpython3.8m.so.1.0` and `python3.8`.
fn named_minor(path: &str) -> Option<(u8, u8)> {
    let (_, numbers) = path.rsplit('/').next()?.split_once("python")?;
    let (major, minor) = numbers.split_once('.')?;
    let end = minor.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(minor.len());
    Some((major.parse().ok()?, minor.get(..end)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{named_minor, version_at_end};

    #[test]
    fn names_tell_the_version() {
        assert_eq!(named_minor("/usr/lib/libpython3.8.so.1.0"), Some((3, 8)));
        assert_eq!(named_minor("/usr/lib/libpython3.7m.so.1.0 (deleted)"), Some((3, 7)));
        assert_eq!(named_minor("/usr/bin/python3.10"), Some((3, 10)));
        assert_eq!(named_minor("/usr/bin/uwsgi"), None);
        assert_eq!(named_minor("/usr/bin/python3"), None);
    }

    #[test]
    fn a_version_ends_a_text_or_is_one() {
        let found = |text: &[u8]| version_at_end(text).map(|(whole, version)| (whole, version.to_string()));
        assert_eq!(found(b"3.8.18"), Some((true, "3.8.18".to_owned())));
        assert_eq!(found(b"/opt/versions/2.7.18"), Some((false, "2.7.18".to_owned())));
        for other in [&b""[..], b"3.34.1", b"3.8.18 (", b"3.8", b"1.2.11", b"3.08.1", b"\xff", b"x3.8.18", b"1.3.8.18"]
        {
            assert_eq!(found(other), None);
        }
    }
}
