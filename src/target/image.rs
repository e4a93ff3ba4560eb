//! Mapped ELF files of the target: opened from outside whatever mount namespace the target lives in, and placed
//! in its address space.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    model::{address::LiveAddress, ids::Pid},
    target::{
        elf::{ElfError, ElfImage, Symbol},
        maps::{FileIdentity, Mapping, MemoryMap},
        regular,
    },
};

/// An ELF file that the target maps.
#[derive(Debug)]
pub struct Image {
    /// The file's contents.
    pub elf: ElfImage,
    /// Which file.
    pub file: FileIdentity,
    /// The path in the target's mount namespace, for people.
    pub shown_path: String,
    /// What the loader added to the file's addresses.
    bias: u64,
}

/// Why a mapped file could not be used as an ELF image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No path leads to the file.
    #[error("cannot open {path}")]
    Open {
        /// The path in the target's mount namespace.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The path leads to another file than the one mapped.
    #[error("{path} was replaced since the process mapped it")]
    Replaced {
        /// The path in the target's mount namespace.
        path: String,
    },
    /// The file is mapped in a way that no segment explains.
    #[error("{path} is mapped at {at} where no segment belongs")]
    Unplaced {
        /// The path in the target's mount namespace.
        path: String,
        /// The mapping.
        at: LiveAddress,
    },
    /// The file is no ELF file, or a damaged one.
    #[error(transparent)]
    Elf(#[from] ElfError),
}

impl Image {
    /// Opens the file behind `mapping` and finds out where the loader put it.
    pub fn open(pid: Pid, map: &MemoryMap, mapping: &Mapping) -> Result<Self, ImageError> {
        let (path, file) = open_mapped(pid, mapping)?;
        let elf = ElfImage::new(&path, file)?;
        let placed = map.of(mapping.file).map(|part| elf.bias_when_mapped(part.start, part.offset));
        let bias = placed
            .flatten()
            .next()
            .ok_or_else(|| ImageError::Unplaced { path: mapping.path.clone(), at: mapping.start })?;
        Ok(Self { elf, file: mapping.file, shown_path: mapping.path.clone(), bias })
    }

    /// Where the target sees this symbol.
    pub fn live(&self, symbol: Symbol) -> LiveAddress {
        LiveAddress::in_target(symbol.address.raw()).plus(self.bias)
    }
}

/// Opens the file of a mapping: through the mapping itself, which needs a capability but never fails to be the right
/// file; or through the target's root directory, after comparing identities; or, when it has no name any more but is the
/// program itself, through the link to that.
pub fn open_mapped(pid: Pid, mapping: &Mapping) -> Result<(PathBuf, File), ImageError> {
    let direct = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start.raw(), mapping.end.raw());
    if let Ok(file) = regular::open(Path::new(&direct)) {
        return Ok((PathBuf::from(direct), file));
    }
    let named = Path::new(&format!("/proc/{pid}/root")).join(mapping.path.trim_start_matches('/'));
    let program = PathBuf::from(format!("/proc/{pid}/exe"));
    open_same(named, mapping).or_else(|error| open_same(program, mapping).map_err(|_| error))
}

fn open_same(path: PathBuf, mapping: &Mapping) -> Result<(PathBuf, File), ImageError> {
    let open = |source| ImageError::Open { path: mapping.path.clone(), source };
    let file = regular::open(&path).map_err(open)?;
    let seen = file.metadata().map_err(open)?;
    // Overlay and btrfs files report another device to `stat` than to the memory map, so only the inode decides.
    if seen.ino() != mapping.file.inode {
        return Err(ImageError::Replaced { path: mapping.path.clone() });
    }
    Ok((path, file))
}
