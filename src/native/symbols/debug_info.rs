//! The DWARF sections of an object, kept as bytes: readers borrow them for one question at a time.
//!
//! Sections stay where they are mapped, so that only what is read takes memory. Packed ones are unpacked once, and only
//! when what they unpack to is bounded. More than [`MOST`] is left alone: the index of an object's units takes about a
//! second for each gigabyte, and names of inlined functions are not worth more than that.

use std::ops::Range;

use gimli::{Dwarf, EndianSlice, NativeEndian, SectionId};
use object::{
    CompressionFormat,
    read::{Object as _, ObjectSection},
};

use crate::{
    native::{bytes::SharedBytes, object::Elf},
    target::{elf, packed::unpacked},
};

/// Bytes of all sections together that are worth reading.
const MOST: u64 = 1 << 30;

/// Bytes that one packed section may become in memory.
const MOST_UNPACKED: u64 = 256 << 20;

/// Bytes of all sections together that are read while somebody waits for the answer.
const MOST_AT_ONCE: u64 = 48 << 20;

/// Bytes of a section, as readers take them.
pub type Section<'a> = EndianSlice<'a, NativeEndian>;

/// All that finding functions takes.
const NEEDED: &[SectionId] = &[
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];

/// The sections of one file.
#[derive(Debug)]
pub struct DebugInfo {
    sections: Vec<(SectionId, SharedBytes, Range<usize>)>,
}

impl DebugInfo {
    /// The sections of the first of `files` that has any; `None` when none has, or too much.
    pub fn of(files: &[SharedBytes]) -> Option<Self> {
        files.iter().find_map(|file| {
            let elf = elf::parse(&**file).ok()?;
            elf.section_by_name(".debug_info").filter(|section| !section.data().unwrap_or_default().is_empty())?;
            Self::of_file(file, &elf)
        })
    }

    fn of_file(file: &SharedBytes, elf: &Elf<'_>) -> Option<Self> {
        let named = NEEDED.iter().filter_map(|id| Some((*id, elf.section_by_name(id.name())?)));
        let sections: Vec<_> = named.filter_map(|(id, section)| Some((id, bytes_of(file, &section)?))).collect();
        let total: usize = sections.iter().map(|(_, (_, range))| range.len()).sum();
        let sections = sections.into_iter().map(|(id, (bytes, range))| (id, bytes, range)).collect();
        (u64::try_from(total).ok()? <= MOST).then_some(Self { sections })
    }

    /// Whether [`DebugInfo::of`] and an index of what it gives take some twenty milliseconds at the most: nothing is packed,
    /// and there is not much of it.
    pub fn is_soon_read(files: &[SharedBytes]) -> bool {
        let elves = files.iter().filter_map(|file| elf::parse(&**file).ok());
        let Some(elf) = elves.into_iter().find(|elf| elf.section_by_name(".debug_info").is_some()) else { return true };
        let sections = NEEDED.iter().filter_map(|id| elf.section_by_name(id.name()));
        let sizes = sections.map(|section| {
            let data = section.compressed_data().ok()?;
            (data.format == CompressionFormat::None).then_some(data.uncompressed_size)
        });
        sizes.sum::<Option<u64>>().is_some_and(|size| size <= MOST_AT_ONCE)
    }

    /// A reader of the sections.
    pub fn reader(&self) -> Dwarf<Section<'_>> {
        let read = |id| {
            let section = self.sections.iter().find(|(other, ..)| *other == id);
            let bytes = section.and_then(|(_, bytes, range)| bytes.get(range.clone())).unwrap_or_default();
            Ok::<_, std::convert::Infallible>(EndianSlice::new(bytes, NativeEndian))
        };
        match Dwarf::load(read) {
            Ok(dwarf) => dwarf,
            Err(never) => match never {},
        }
    }
}

/// Where the bytes of a section are, unpacked.
fn bytes_of<'a>(file: &SharedBytes, section: &impl ObjectSection<'a>) -> Option<(SharedBytes, Range<usize>)> {
    let place = section.compressed_file_range().ok()?;
    let data = section.compressed_data().ok()?;
    if data.format == CompressionFormat::None {
        let start = usize::try_from(place.offset).ok()?;
        return Some((file.clone(), start..start.checked_add(data.data.len())?));
    }
    let unpacked = unpacked(data, MOST_UNPACKED)?;
    let length = unpacked.len();
    Some((SharedBytes::of_memory(unpacked), 0..length))
}
