//! Where functions begin and end according to the unwind table, which stripped objects keep.
//!
//! The sorted table of `.eh_frame_hdr` serves where there is one; else all of `.eh_frame` is read once.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use gimli::{BaseAddresses, CieOrFde, EhFrame, EhFrameHdr, EhFrameOffset, NativeEndian, Pointer, UnwindSection};
use object::read::{Object as _, ObjectSection};

use crate::{native::bytes::SharedBytes, target::elf};

type Bytes<'a> = gimli::EndianSlice<'a, NativeEndian>;

const ADDRESS_SIZE: u8 = 8;
/// Functions of one object; past that many, the others have none.
const MOST_FUNCTIONS: usize = 4 << 20;
/// How long reading a table without a header may take: entries of damaged files may share parts in ways that multiply the
/// work.
const LONGEST_READING: Duration = Duration::from_secs(1);

/// The functions of the unwind table, by address.
#[derive(Debug)]
pub struct UnwindTable {
    /// Where each begins, with the position of its entry in `.eh_frame`.
    starts: Vec<(u64, usize)>,
    bytes: SharedBytes,
    entries: Range<usize>,
    bases: BaseAddresses,
}

impl UnwindTable {
    /// Reads where functions begin; empty without a table.
    pub fn of(bytes: &SharedBytes) -> Self {
        Self::read(bytes).unwrap_or_else(|| Self {
            starts: Vec::new(),
            bytes: bytes.clone(),
            entries: 0..0,
            bases: BaseAddresses::default(),
        })
    }

    fn read(bytes: &SharedBytes) -> Option<Self> {
        let elf = elf::parse(&**bytes).ok()?;
        let section = |name| {
            let section = elf.section_by_name(name)?;
            let (offset, length) = section.file_range()?;
            let start = usize::try_from(offset).ok()?;
            let range = start..start.checked_add(usize::try_from(length).ok()?)?;
            bytes.get(range.clone())?;
            Some((section.address(), range))
        };
        let (address, entries) = section(".eh_frame")?;
        let mut bases = BaseAddresses::default().set_eh_frame(address);
        bases = section(".text").map_or(bases.clone(), |(text, _)| bases.set_text(text));
        let mut table = Self { starts: Vec::new(), bytes: bytes.clone(), entries, bases };
        let header = section(".eh_frame_hdr").and_then(|(at, range)| table.starts_of_header(at, range, address));
        table.starts = header.unwrap_or_else(|| table.starts_of_entries());
        table.starts.sort_unstable();
        Some(table)
    }

    /// The starts that the header lists; `None` when it has no table.
    fn starts_of_header(&self, at: u64, header: Range<usize>, entries_at: u64) -> Option<Vec<(u64, usize)>> {
        let bases = self.bases.clone().set_eh_frame_hdr(at);
        let header = EhFrameHdr::new(self.bytes.get(header)?, NativeEndian).parse(&bases, ADDRESS_SIZE).ok()?;
        let table = header.table()?;
        let mut rows = table.iter(&bases);
        let mut starts = Vec::new();
        while starts.len() < MOST_FUNCTIONS
            && let Ok(Some((Pointer::Direct(start), Pointer::Direct(entry)))) = rows.next()
        {
            starts.extend(entry.checked_sub(entries_at).and_then(|at| Some((start, usize::try_from(at).ok()?))));
        }
        (!starts.is_empty()).then_some(starts)
    }

    fn starts_of_entries(&self) -> Vec<(u64, usize)> {
        let section = self.section();
        let mut rows = section.entries(&self.bases);
        let mut starts = Vec::new();
        let begun = Instant::now();
        while starts.len() < MOST_FUNCTIONS
            && begun.elapsed() < LONGEST_READING
            && let Ok(Some(row)) = rows.next()
        {
            let CieOrFde::Fde(entry) = row else { continue };
            let entry = entry.parse(|section, bases, offset| section.cie_from_offset(bases, offset));
            starts.extend(entry.map(|entry| (entry.initial_address(), entry.offset())));
        }
        starts
    }

    fn section(&self) -> EhFrame<Bytes<'_>> {
        EhFrame::new(self.bytes.get(self.entries.clone()).unwrap_or_default(), NativeEndian)
    }

    /// The range of the function that has `address`.
    pub fn function(&self, address: u64) -> Option<Range<u64>> {
        let after = self.starts.partition_point(|(start, _)| *start <= address);
        let (_, entry) = self.starts.get(after.checked_sub(1)?)?;
        let section = self.section();
        let entry = section.fde_from_offset(&self.bases, EhFrameOffset(*entry), EhFrame::cie_from_offset).ok()?;
        let range = entry.initial_address()..entry.initial_address().checked_add(entry.len())?;
        range.contains(&address).then_some(range)
    }

    /// Where the first function after `address` begins.
    pub fn next_start(&self, address: u64) -> Option<u64> {
        let after = self.starts.partition_point(|(start, _)| *start <= address);
        self.starts.get(after).map(|(start, _)| *start)
    }
}
