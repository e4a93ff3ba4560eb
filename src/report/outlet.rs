//! The output file. Opening it is tried before the target starts, so that a bad path fails in the first second; it is made,
//! or emptied, only when a finished report is ready to go in. However a recording ends, even by SIGKILL, an existing file
//! keeps its content till then and a new one leaves no trace.
//!
//! The file is written in place rather than replaced, so that its owner, its mode and any link to it stay, and so that
//! `/dev/stdout` and pipes work. Room for the new content is made before the old goes; a report for which there is none is
//! kept elsewhere.
#![expect(unsafe_code, reason = "the standard library cannot reserve room for a file")]

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    model::{family::Family, profile::Profile},
    report::{Report, ReportError, rescue},
};

/// Where a report goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// gilscope's own standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// An opened destination that has not received its report yet.
#[derive(Debug)]
pub struct Outlet {
    place: Place,
}

#[derive(Debug)]
enum Place {
    Stdout,
    File(OpenFile),
}

/// A file that can be written.
#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    /// `None` when there was none: making one has been tried, and it will be made when the report is complete.
    existing: Option<File>,
}

/// Why a report could not be put where it was to go.
#[derive(Debug, Error)]
pub enum OutletError {
    /// The path names a folder.
    #[error("write to `{}`: it is a folder", path.display())]
    IsFolder {
        /// The path as given.
        path: PathBuf,
    },
    /// The folder that should hold the file does not exist.
    #[error("create `{}`: the folder `{}` does not exist", path.display(), folder.display())]
    NoFolder {
        /// The path as given.
        path: PathBuf,
        /// The part of it that is missing.
        folder: PathBuf,
    },
    /// The system refused to open the file.
    #[error("open `{}` for writing", path.display())]
    Open {
        /// The path as given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The report could not be produced.
    #[error("make the report for {to}")]
    Render {
        /// The path, or `standard output`.
        to: String,
        /// Why.
        source: ReportError,
    },
    /// The system refused the finished report.
    #[error("write the report to {to}")]
    Write {
        /// The path, or `standard output`.
        to: String,
        /// Where it is instead; `None`: nowhere.
        kept: Option<PathBuf>,
        /// Why.
        source: io::Error,
    },
}

impl OutletError {
    /// Whether it is a matter of permission.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl Outlet {
    /// Opens `destination` without touching what it may already hold.
    pub fn open(destination: &Destination) -> Result<Self, OutletError> {
        let place = match destination {
            Destination::Stdout => Place::Stdout,
            Destination::File(path) => Place::File(OpenFile::open(path)?),
        };
        Ok(Self { place })
    }

    /// Writes `report` of `profile`. The old content, if any, goes only once the new one is complete in memory.
    pub fn fill(self, report: &dyn Report, profile: &Profile) -> Result<(), OutletError> {
        self.fill_with(|bytes| report.write(profile, bytes))
    }

    /// The same of several processes.
    pub fn fill_family(self, report: &dyn Report, family: &Family) -> Result<(), OutletError> {
        self.fill_with(|bytes| report.write_family(family, bytes))
    }

    fn fill_with(self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), ReportError>) -> Result<(), OutletError> {
        let mut bytes = Vec::new();
        write(&mut bytes).map_err(|source| OutletError::Render { to: self.name(), source })?;
        self.put(&bytes)
    }

    /// Writes a finished report.
    pub fn put(self, bytes: &[u8]) -> Result<(), OutletError> {
        let (to, wanted) = (self.name(), self.path().map(Path::to_owned));
        let written = match self.place {
            Place::Stdout => written_to_stdout(bytes),
            Place::File(file) => file.replace_content(bytes),
        };
        written.map_err(|source| OutletError::Write { to, kept: rescue::keep(bytes, wanted.as_deref()), source })
    }

    fn name(&self) -> String {
        self.path().map_or_else(|| "standard output".to_owned(), |path| format!("`{}`", path.display()))
    }

    fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Stdout => None,
            Place::File(file) => Some(&file.path),
        }
    }
}

impl OpenFile {
    fn open(path: &Path) -> Result<Self, OutletError> {
        if path.is_dir() {
            return Err(OutletError::IsFolder { path: path.to_owned() });
        }
        let existed = path.exists();
        let file = for_writing(path).map_err(|error| refusal(path, error))?;
        if existed {
            return Ok(Self { path: path.to_owned(), existing: Some(file) });
        }
        remove_if_ours(path, &file);
        Ok(Self { path: path.to_owned(), existing: None })
    }

    fn replace_content(self, bytes: &[u8]) -> io::Result<()> {
        match self.existing {
            Some(file) => write_whole(&file, bytes),
            None => {
                let file = for_writing(&self.path)?;
                write_whole(&file, bytes).inspect_err(|_| remove_if_ours(&self.path, &file))
            }
        }
    }
}

/// Opens or makes the file; the path may be a link whose target does not exist yet.
fn for_writing(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}

fn write_whole(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    let (found, length) = (file.metadata()?, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    if !found.is_file() {
        return file.write_all(bytes).and_then(|()| file.flush());
    }
    reserve(file, length).inspect_err(|_| {
        // What was reserved in part goes; the content is as it was.
        let _ = file.set_len(found.len());
    })?;
    file.write_all(bytes)?;
    file.set_len(length)?;
    file.flush()
}

/// Makes sure that the file's first `length` bytes can be written, without changing any.
fn reserve(file: &File, length: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(length).map_err(io::Error::other)?;
    if length == 0 {
        return Ok(());
    }
    // SAFETY: the descriptor is open as long as `file` is borrowed; the call reserves room and touches no memory.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            // Such a file system cannot promise.
            error if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => Ok(()),
            error => Err(error),
        },
    }
}

/// Removes the file unless another program has put its own in its place; links that lead to it stay. Failing to tidy up
/// must not hide the failure that led here.
fn remove_if_ours(path: &Path, file: &File) {
    let Ok(path) = path.canonicalize() else { return };
    let ours = match (file.metadata(), fs::symlink_metadata(&path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    };
    if ours {
        let _ = fs::remove_file(path);
    }
}

/// A reader that has gone away, as `head` does, has what it wanted.
fn written_to_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn refusal(path: &Path, source: io::Error) -> OutletError {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if source.kind() == io::ErrorKind::NotFound && !folder.exists() {
        return OutletError::NoFolder { path: path.to_owned(), folder: folder.to_owned() };
    }
    OutletError::Open { path: path.to_owned(), source }
}
