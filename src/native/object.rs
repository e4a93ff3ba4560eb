//! One ELF file that the target has mapped, or its vDSO: the bytes, and where in the target they are.
//!
//! The file is opened as the target's other images are, so that it is the very file that is mapped. Its bytes are mapped,
//! not read. The bias is the one that explains most segments: a process may map a library's file once more, to read it or,
//! as libffi does with its trampolines, to run a page of it elsewhere.

use std::{
    fs::{self, File},
    io,
    ops::Range,
};

use object::{
    Endianness,
    elf::{PF_X, PT_LOAD},
    read::{
        Object as _,
        elf::{ElfFile64, ProgramHeader},
    },
};

use crate::{
    model::{address::LiveAddress, ids::Pid},
    native::bytes::SharedBytes,
    target::{
        elf::{self, FormatError, LONGEST_FILE},
        image::{self, ImageError},
        maps::{Mapping, MemoryMap},
        memory::{Memory, MemoryError, ProcessMemory},
    },
};

const PAGE: u64 = 4096;

/// Segments that are looked at; a real file has a dozen.
const MOST_SEGMENTS: usize = 64;

/// Executable parts of one file that are tried; a loaded one has one or two.
const MOST_CANDIDATES: usize = 16;

const VDSO: &str = "[vdso]";

/// The vDSO has two pages, or a few more with larger pages.
const LONGEST_VDSO: u64 = 1 << 20;

/// The parsed headers of an object.
pub type Elf<'a> = ElfFile64<'a, Endianness, &'a [u8]>;

/// A mapped ELF file.
#[derive(Debug)]
pub struct Object {
    path: String,
    bytes: SharedBytes,
    bias: u64,
    ranges: Vec<Range<u64>>,
    build_id: Option<Vec<u8>>,
}

/// Why a mapping is no object with code.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The mapped file cannot be opened.
    #[error(transparent)]
    Open(#[from] ImageError),
    /// The file cannot be mapped by gilscope.
    #[error("cannot map {path}")]
    Map {
        /// The path in the target's mount namespace.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file is too long to be a program.
    #[error("{path} is {length} bytes long, too long for a program")]
    TooLong {
        /// The path in the target's mount namespace.
        path: String,
        /// Its length in bytes.
        length: u64,
    },
    /// It is no 64-bit ELF file, or damaged.
    #[error("{path} is not a sound 64-bit ELF file")]
    Damaged {
        /// The path in the target's mount namespace.
        path: String,
        /// What is wrong.
        source: FormatError,
    },
    /// No segment with code belongs where the file is mapped.
    #[error("{path} is mapped at {at} where no code belongs")]
    Unplaced {
        /// The path in the target's mount namespace.
        path: String,
        /// The mapping.
        at: LiveAddress,
    },
    /// The process has no vDSO, or is gone.
    #[error("cannot find the vDSO of process {pid}")]
    NoVdso {
        /// The process.
        pid: Pid,
    },
    /// The memory that holds the vDSO cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl Object {
    /// Opens the file behind `mapping`, which may be any of the file's mappings.
    pub fn open(pid: Pid, map: &MemoryMap, mapping: &Mapping) -> Result<Self, ObjectError> {
        let path = mapping.path.strip_suffix(" (deleted)").unwrap_or(&mapping.path);
        let (_, file) = image::open_mapped(pid, mapping)?;
        let bytes = mapped(path, &file)?;
        let elf = parse(path, &bytes)?;
        let parts: Vec<&Mapping> = map.of(mapping.file).collect();
        let bias = bias_of_all(&elf, &parts)
            .ok_or_else(|| ObjectError::Unplaced { path: path.to_owned(), at: mapping.start })?;
        let code = parts.iter().filter(|part| part.executable && bias_of(&elf, part) == Some(bias));
        let ranges = code.map(|part| part.start.raw()..part.end.raw()).collect();
        let build_id = elf.build_id().ok().flatten().map(<[u8]>::to_vec);
        Ok(Self { path: path.to_owned(), bytes, bias, ranges, build_id })
    }

    /// The code that the kernel gives to the process, which is no file: reading clocks is done there.
    pub fn vdso(pid: Pid) -> Result<Self, ObjectError> {
        let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        let maps = String::from_utf8_lossy(&maps);
        let range = maps.lines().find_map(vdso_of_line).ok_or(ObjectError::NoVdso { pid })?;
        let length = usize::try_from(range.end - range.start).map_err(|_| ObjectError::NoVdso { pid })?;
        let mut bytes = vec![0; length];
        ProcessMemory::open(pid)?.read(LiveAddress::in_target(range.start), &mut bytes)?;
        let elf = parse(VDSO, &bytes)?;
        let endian = elf.endian();
        let first = elf.elf_program_headers().iter().find(|header| header.p_type(endian) == PT_LOAD);
        let stated = first.map_or(0, |header| header.p_vaddr(endian).wrapping_sub(header.p_offset(endian)));
        let build_id = elf.build_id().ok().flatten().map(<[u8]>::to_vec);
        let bias = range.start.wrapping_sub(stated);
        Ok(Self { path: VDSO.to_owned(), bytes: SharedBytes::of_memory(bytes), bias, ranges: vec![range], build_id })
    }

    /// An object that is no file's, for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of_bytes(bytes: Vec<u8>, bias: u64, code: Range<u64>) -> Result<Self, ObjectError> {
        parse("bytes", &bytes)?;
        let bytes = SharedBytes::of_memory(bytes);
        Ok(Self { path: "bytes".to_owned(), bytes, bias, ranges: vec![code], build_id: None })
    }

    /// The path as the target names it; that the file has been deleted is not part of it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole file, for an owner of its own.
    pub fn shared_bytes(&self) -> SharedBytes {
        self.bytes.clone()
    }

    /// What the loader added to the addresses that the file states; subtract it, wrapping, from a live address.
    pub fn bias(&self) -> u64 {
        self.bias
    }

    /// The live addresses of its code.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The `length` bytes of code at a live address.
    pub fn code_at(&self, address: u64, length: u64) -> Option<&[u8]> {
        let elf = elf::parse(self.bytes()).ok()?;
        let (endian, stated) = (elf.endian(), address.wrapping_sub(self.bias));
        elf.elf_program_headers().iter().find_map(|header| {
            let into = stated.checked_sub(header.p_vaddr(endian))?;
            let fits = header.p_type(endian) == PT_LOAD && into.checked_add(length)? <= header.p_filesz(endian);
            let start = usize::try_from(header.p_offset(endian).checked_add(into)?).ok().filter(|_| fits)?;
            self.bytes().get(start..start.checked_add(usize::try_from(length).ok()?)?)
        })
    }

    /// The `length` bytes of code before a live address.
    pub fn code_before(&self, address: u64, length: u64) -> Option<&[u8]> {
        self.code_at(address.checked_sub(length)?, length)
    }

    /// The id that the linker gave the build, if any.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }
}

/// The range of a line of the memory map, if it is the vDSO's.
pub(crate) fn vdso_of_line(line: &str) -> Option<Range<u64>> {
    let (start, end) = line.strip_suffix(VDSO)?.split_whitespace().next()?.split_once('-')?;
    let range = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
    (1..=LONGEST_VDSO).contains(&range.end.checked_sub(range.start)?).then_some(range)
}

fn mapped(path: &str, file: &File) -> Result<SharedBytes, ObjectError> {
    let map = |source| ObjectError::Map { path: path.to_owned(), source };
    let length = file.metadata().map_err(map)?.len();
    if length > LONGEST_FILE {
        return Err(ObjectError::TooLong { path: path.to_owned(), length });
    }
    SharedBytes::of_file(file).map_err(map)
}

fn parse<'a>(path: &str, bytes: &'a [u8]) -> Result<Elf<'a>, ObjectError> {
    elf::parse(bytes).map_err(|source| ObjectError::Damaged { path: path.to_owned(), source })
}

/// Of the biases that each executable part suggests, the one by which most segments are where the loader puts them.
fn bias_of_all(elf: &Elf<'_>, parts: &[&Mapping]) -> Option<u64> {
    let endian = elf.endian();
    let placed = |bias: u64| {
        let segments = elf.elf_program_headers().iter().take(MOST_SEGMENTS);
        let segments = segments.filter(|header| header.p_type(endian) == PT_LOAD);
        let found = segments.filter(|header| {
            let at = page(header.p_vaddr(endian)).wrapping_add(bias);
            parts.iter().any(|part| maps(part, at, page(header.p_offset(endian))))
        });
        found.count()
    };
    let candidates = parts.iter().filter(|part| part.executable).filter_map(|part| bias_of(elf, part));
    // Of equals the last is taken, which is the first by address.
    candidates.take(MOST_CANDIDATES).collect::<Vec<_>>().into_iter().rev().max_by_key(|bias| placed(*bias))
}

/// Whether `part` has the byte of the file at `offset` at the live address `at`.
fn maps(part: &Mapping, at: u64, offset: u64) -> bool {
    (part.start.raw()..part.end.raw()).contains(&at) && part.offset.raw().wrapping_add(at - part.start.raw()) == offset
}

fn page(number: u64) -> u64 {
    number & !(PAGE - 1)
}

/// What was added to the addresses of the segment with code that has the first byte of `part`.
fn bias_of(elf: &Elf<'_>, part: &Mapping) -> Option<u64> {
    let endian = elf.endian();
    elf.elf_program_headers()
        .iter()
        .filter(|header| header.p_type(endian) == PT_LOAD && header.p_flags(endian) & PF_X != 0)
        .find_map(|header| {
            let first = page(header.p_offset(endian));
            let after = header.p_offset(endian).checked_add(header.p_filesz(endian))?;
            let into = (first..after).contains(&part.offset.raw()).then(|| part.offset.raw() - first)?;
            Some(part.start.raw().wrapping_sub(page(header.p_vaddr(endian)).wrapping_add(into)))
        })
}
