//! One 64-bit ELF file: dynamic symbols, segments, sections, build id.
//!
//! Nothing in the file is trusted: every read is checked against the file's real length, what is read is bounded, and a
//! file longer than [`LONGEST_FILE`], or with more headers than [`MOST_HEADERS`], is refused.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::{Path, PathBuf},
};

use object::{
    Endianness, SectionIndex,
    elf::{ET_EXEC, FileHeader64, PT_INTERP, PT_LOAD, SHN_UNDEF},
    read::{
        Object, ObjectSection, ReadRef,
        elf::{ElfFile64, FileHeader, ProgramHeader, SectionHeader, Sym},
    },
};

use crate::{
    model::address::{ElfAddress, FileOffset, LiveAddress},
    target::{
        frugal::{FrugalFile, MOST_KEPT},
        packed::unpacked,
    },
};

/// No interpreter or library comes near this size; larger files are refused rather than read.
pub const LONGEST_FILE: u64 = 4 << 30;

/// Section headers, and program headers, that a file may have; linked ones have some dozen. Questions look at all of them.
pub const MOST_HEADERS: usize = 4096;

const PAGE: u64 = 4096;

/// The parsed view of a file.
pub type Elf<'a> = ElfFile64<'a, Endianness, &'a FrugalFile>;

/// A defined symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// Its address in the file's terms.
    pub address: ElfAddress,
    /// Its size in bytes; 0 when the file does not say.
    pub size: u64,
}

/// An open ELF file.
#[derive(Debug)]
pub struct ElfImage {
    path: PathBuf,
    bytes: FrugalFile,
    segments: Vec<Segment>,
    program: bool,
}

/// A `PT_LOAD` segment: how a part of the file appears in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    address: u64,
    offset: u64,
    file_size: u64,
}

/// Why a file could not be read as ELF.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file is too long to be a program.
    #[error("{path} is {length} bytes long, too long for a program", path = path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
    /// It is no 64-bit ELF file, or damaged.
    #[error("{path} is not a sound 64-bit ELF file", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: FormatError,
    },
}

/// What is wrong with the bytes of a file.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The parser's finding.
    #[error(transparent)]
    Parser(#[from] object::Error),
    /// More headers than any linked file has.
    #[error("{count} headers are too many")]
    Headers {
        /// How many.
        count: usize,
    },
}

impl ElfImage {
    /// Checks that `file` is an ELF file; `path` names it in messages.
    pub fn new(path: &Path, file: File) -> Result<Self, ElfError> {
        let length = file.metadata().map_or(u64::MAX, |metadata| metadata.len());
        if length > LONGEST_FILE {
            return Err(ElfError::TooLong { path: path.to_owned(), length });
        }
        let mut image =
            Self { path: path.to_owned(), bytes: FrugalFile::new(file), segments: Vec::new(), program: false };
        let elf = image.parse()?;
        let endian = elf.endian();
        let segments = elf.elf_program_headers().iter().filter(|header| header.p_type(endian) == PT_LOAD);
        let segments = segments
            .map(|header| Segment {
                address: header.p_vaddr(endian),
                offset: header.p_offset(endian),
                file_size: header.p_filesz(endian),
            })
            .collect();
        let program = elf.elf_header().e_type(endian) == ET_EXEC
            || elf.elf_program_headers().iter().any(|header| header.p_type(endian) == PT_INTERP)
            || elf.elf_dynamic_symbol_table().len() <= 1;
        image.segments = segments;
        image.program = program;
        Ok(image)
    }

    /// The path under which the observer opened the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The dynamic loader through which the kernel starts the program, if it does.
    pub fn loader(&self) -> Option<PathBuf> {
        let elf = self.parse().ok()?;
        let path =
            elf.elf_program_headers().iter().find_map(|header| header.interpreter(elf.endian(), &self.bytes).ok()?);
        path.map(|path| PathBuf::from(OsStr::from_bytes(path)))
    }

    /// The parsed headers and tables.
    pub fn parse(&self) -> Result<Elf<'_>, ElfError> {
        parse(&self.bytes).map_err(|source| self.damaged(source))
    }

    fn damaged(&self, source: impl Into<FormatError>) -> ElfError {
        ElfError::Damaged { path: self.path.clone(), source: source.into() }
    }

    /// The default version of a dynamic symbol; old, hidden versions of it are passed over.
    fn find_dynamic(&self, elf: &Elf<'_>, name: &[u8]) -> object::Result<Option<Symbol>> {
        let endian = elf.endian();
        let symbols = elf.elf_dynamic_symbol_table();
        if symbols.is_empty() {
            return Ok(None);
        }
        let sections = elf.elf_section_table();
        let names = section_bytes(elf, &self.bytes, symbols.string_section())?;
        let versions = sections.versions(endian, &self.bytes)?;
        for (index, symbol) in symbols.enumerate() {
            if symbol.st_shndx(endian) == SHN_UNDEF || !name_at(names, symbol.st_name(endian), name) {
                continue;
            }
            let hidden = versions.as_ref().is_some_and(|table| table.version_index(endian, index).is_hidden());
            if !hidden {
                let address = ElfAddress::from_file(symbol.st_value(endian));
                return Ok(Some(Symbol { address, size: symbol.st_size(endian) }));
            }
        }
        Ok(None)
    }

    /// The symbol called `name`: dynamic, or in a program (which need not export what it is made of) of the full table.
    pub fn symbol(&self, name: &str) -> Result<Option<Symbol>, ElfError> {
        let elf = self.parse()?;
        let found = match self.find_dynamic(&elf, name.as_bytes()) {
            Ok(None) if self.program => self.find_static(&elf, name.as_bytes()),
            found => found,
        };
        found.map_err(|source| self.damaged(source))
    }

    fn find_static(&self, elf: &Elf<'_>, name: &[u8]) -> object::Result<Option<Symbol>> {
        let endian = elf.endian();
        let symbols = elf.elf_symbol_table();
        if symbols.is_empty() {
            return Ok(None);
        }
        let names = section_bytes(elf, &self.bytes, symbols.string_section())?;
        let found = symbols
            .iter()
            .find(|symbol| symbol.st_shndx(endian) != SHN_UNDEF && name_at(names, symbol.st_name(endian), name));
        Ok(found.map(|symbol| Symbol {
            address: ElfAddress::from_file(symbol.st_value(endian)),
            size: symbol.st_size(endian),
        }))
    }

    /// The address of a section; `None` when there is none of that name.
    pub fn section_address(&self, name: &str) -> Result<Option<ElfAddress>, ElfError> {
        let elf = self.parse()?;
        Ok(elf.section_by_name(name).map(|section| ElfAddress::from_file(section.address())))
    }

    /// The bytes of a section, decompressed; `None` when there is no such section, it occupies no file space, or what is
    /// packed cannot be unpacked within bounds.
    pub fn section(&self, name: &str) -> Result<Option<Vec<u8>>, ElfError> {
        let elf = self.parse()?;
        let Some(section) = elf.section_by_name(name) else { return Ok(None) };
        let data = section.compressed_data().map_err(|source| self.damaged(source))?;
        Ok(unpacked(data, MOST_KEPT))
    }

    /// The bytes of a section that is not packed, read at once and not kept; `None` as above, and when the file is too short.
    pub fn whole_section(&self, name: &str) -> Result<Option<Vec<u8>>, ElfError> {
        let elf = self.parse()?;
        let range = elf.section_by_name(name).and_then(|section| section.file_range());
        let Some((offset, length)) = range.filter(|(_, length)| *length <= MOST_KEPT) else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(&mut bytes, offset));
        Ok(read.ok().map(|()| bytes))
    }

    /// The identity that the linker gave the build.
    pub fn build_id(&self) -> Result<Option<Vec<u8>>, ElfError> {
        let elf = self.parse()?;
        Ok(elf.build_id().map_err(|source| self.damaged(source))?.map(<[u8]>::to_vec))
    }

    /// The name of the file that the image's debug information was split off into.
    pub fn debug_link(&self) -> Result<Option<String>, ElfError> {
        let elf = self.parse()?;
        let link = elf.gnu_debuglink().map_err(|source| self.damaged(source))?;
        Ok(link.map(|(name, _)| String::from_utf8_lossy(name).into_owned()))
    }

    /// Where the byte at `address` lies in the file.
    pub fn file_offset(&self, address: ElfAddress) -> Option<FileOffset> {
        self.segments.iter().find_map(|segment| {
            let into = address.raw().checked_sub(segment.address)?;
            (into < segment.file_size).then(|| FileOffset::from_start(segment.offset.wrapping_add(into)))
        })
    }

    /// What the loader added to the file's addresses, given one mapping of the file; `None` when no segment has that
    /// part of the file.
    pub fn bias_when_mapped(&self, start: LiveAddress, offset: FileOffset) -> Option<u64> {
        let page = |number: u64| number & !(PAGE - 1);
        self.segments.iter().find_map(|segment| {
            let first = page(segment.offset);
            let after = segment.offset.checked_add(segment.file_size)?;
            (first..after).contains(&offset.raw()).then(|| {
                let address = page(segment.address).wrapping_add(offset.raw() - first);
                start.raw().wrapping_sub(address)
            })
        })
    }
}

/// The headers and tables in `bytes`, unless there are too many headers.
pub fn parse<'a, R: ReadRef<'a>>(bytes: R) -> Result<ElfFile64<'a, Endianness, R>, FormatError> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let count = header.shnum(endian, bytes)?.max(header.phnum(endian, bytes)?);
    if count > MOST_HEADERS {
        return Err(FormatError::Headers { count });
    }
    Ok(ElfFile64::parse(bytes)?)
}

fn section_bytes<'a>(elf: &Elf<'a>, bytes: &'a FrugalFile, index: SectionIndex) -> object::Result<&'a [u8]> {
    elf.elf_section_table().section(index)?.data(elf.endian(), bytes)
}

/// Whether the string table has `name`, and nothing more, at `offset`.
fn name_at(names: &[u8], offset: u32, name: &[u8]) -> bool {
    let Some(rest) = usize::try_from(offset).ok().and_then(|offset| names.get(offset..)) else { return false };
    rest.strip_prefix(name).is_some_and(|after| after.first() == Some(&0))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, path::Path};

    use super::ElfImage;
    use crate::model::address::{ElfAddress, FileOffset, LiveAddress};

    /// An ELF file of exactly these bytes.
    fn image(bytes: &[u8]) -> Option<ElfImage> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        ElfImage::new(file.path(), file.reopen().unwrap()).ok()
    }

    /// Asks everything that can be asked; the answers do not matter, only that there is one.
    fn interrogate(bytes: &[u8]) {
        let Some(image) = image(bytes) else { return };
        let _ = image.symbol("pthread_cond_signal");
        let _ = image.build_id();
        let _ = image.debug_link();
        for section in [".rodata", ".note.stapsdt", ".debug_info"] {
            let _ = image.section(section);
        }
        let _ = image.file_offset(ElfAddress::from_file(0x1000));
        let _ = image.bias_when_mapped(LiveAddress::in_target(0x7000_0000), FileOffset::from_start(0x1000));
    }

    /// A small real library.
    fn library() -> Option<Vec<u8>> {
        let paths = ["/lib/x86_64-linux-gnu/libdl.so.2", "/lib/aarch64-linux-gnu/libdl.so.2", "/usr/lib/libdl.so.2"];
        let found = paths.iter().find_map(|path| std::fs::read(path).ok());
        if found.is_none() {
            eprintln!("skipped: no libdl.so.2 in its usual places");
        }
        found
    }

    #[test]
    fn truncated_files_are_survived() {
        let Some(bytes) = library() else { return };
        for length in (0..bytes.len()).step_by(61) {
            interrogate(&bytes[..length]);
        }
    }

    #[test]
    fn damaged_headers_are_survived() {
        let Some(bytes) = library() else { return };
        let sections = usize::try_from(u64::from_le_bytes(*bytes[40..].first_chunk().unwrap())).unwrap();
        for at in (16..0x2a0).chain(sections..bytes.len()).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[at] = !damaged[at];
            interrogate(&damaged);
        }
    }

    #[test]
    fn a_text_is_no_program() {
        assert!(image(b"#!/bin/sh\n").is_none());
        assert!(ElfImage::new(Path::new("/dev/null"), File::open("/dev/null").unwrap()).is_err());
    }
}
