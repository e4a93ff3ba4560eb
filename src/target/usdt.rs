//! USDT probes of the toy VM, read from the `.note.stapsdt` section of its executable.
//!
//! All four probes with an argument in a register, or none: a probe that is missing or keeps its argument elsewhere
//! leaves the caller to the libc calls.

use crate::{
    model::{address::ElfAddress, event::LockStep},
    target::{
        elf::{ElfError, ElfImage},
        site::{Register, Site, SiteMeaning},
    },
};

const PROVIDER: &str = "gilscope_toyvm";

/// Notes of a file that are looked at, and those of them that may be the VM's: a probe may stand in several places.
const MOST_NOTES: usize = 1 << 16;
const MOST_SITES: usize = 64;

/// The probes and what a hit means.
const PROBES: [(&str, LockStep); 4] = [
    ("lock__wait", LockStep::Want),
    ("lock__acquired", LockStep::Acquired),
    ("lock__released", LockStep::Released),
    ("lock__yield", LockStep::Yielded),
];

/// Registers as the notes call them, with their number in the kernel's `perf_regs.h`.
#[cfg(target_arch = "x86_64")]
const REGISTERS: [(&str, u8); 15] = [
    ("%rax", 0),
    ("%rbx", 1),
    ("%rcx", 2),
    ("%rdx", 3),
    ("%rsi", 4),
    ("%rdi", 5),
    ("%rbp", 6),
    ("%r8", 16),
    ("%r9", 17),
    ("%r10", 18),
    ("%r11", 19),
    ("%r12", 20),
    ("%r13", 21),
    ("%r14", 22),
    ("%r15", 23),
];

/// One note: a probe's place as linked, and what describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note<'a> {
    place: u64,
    base: u64,
    semaphore: u64,
    provider: &'a str,
    name: &'a str,
    arguments: &'a str,
}

/// The sites of the four probes; empty unless every one of them is usable.
pub fn toyvm_sites(elf: &ElfImage) -> Result<Vec<Site>, ElfError> {
    let Some(section) = elf.section(".note.stapsdt")? else { return Ok(Vec::new()) };
    let base = elf.section_address(".stapsdt.base")?;
    let own: Vec<Note<'_>> = notes(&section).into_iter().filter(|note| note.provider == PROVIDER).collect();
    let all: Option<Vec<Site>> = own.iter().map(|note| site(elf, note, base)).collect();
    let complete = PROBES.iter().all(|(name, _)| own.iter().any(|note| note.name == *name));
    Ok(all.filter(|all| complete && all.len() <= MOST_SITES).unwrap_or_default())
}

fn site(elf: &ElfImage, note: &Note<'_>, base: Option<ElfAddress>) -> Option<Site> {
    let (_, step) = PROBES.iter().find(|(name, _)| *name == note.name)?;
    if note.semaphore != 0 {
        return None;
    }
    // A prelinked file keeps the addresses of before; the base section tells how far it was moved.
    let moved = base.map_or(0, |base| base.raw().wrapping_sub(note.base));
    Some(Site {
        file: elf.path().to_owned(),
        offset: elf.file_offset(ElfAddress::from_file(note.place.wrapping_add(moved)))?,
        meaning: SiteMeaning::Step(*step),
        argument: register(note.arguments)?,
    })
}

/// The register of an argument such as `8@%rdi`; `None` for several arguments and for any other place.
fn register(arguments: &str) -> Option<Register> {
    let (size, place) = arguments.split_once('@')?;
    if size.trim_start_matches('-') != "8" {
        return None;
    }
    #[cfg(target_arch = "x86_64")]
    let number = REGISTERS.iter().find(|(name, _)| *name == place)?.1;
    #[cfg(target_arch = "aarch64")]
    let number = place.strip_prefix('x')?.parse().ok().filter(|number: &u8| *number <= 30)?;
    Register::from_perf_number(number)
}

/// Every well-formed note of the section; reading ends at the first that is not.
fn notes(section: &[u8]) -> Vec<Note<'_>> {
    let mut rest = section;
    let mut notes = Vec::new();
    for _ in 0..MOST_NOTES {
        let Some((description, after)) = next_note(rest) else { break };
        notes.extend(Note::parse(description));
        rest = after;
    }
    notes
}

/// Splits off the first note: its description and what follows it.
fn next_note(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = |at: usize| {
        let number = bytes.get(at..at + 4)?.first_chunk().copied().map(u32::from_le_bytes)?;
        usize::try_from(number).ok()
    };
    let description = 12_usize.checked_add(length(0)?.checked_next_multiple_of(4)?)?;
    let end = description.checked_add(length(4)?)?;
    let next = end.checked_next_multiple_of(4)?.min(bytes.len());
    Some((bytes.get(description..end)?, bytes.get(next..)?))
}

impl<'a> Note<'a> {
    fn parse(description: &'a [u8]) -> Option<Self> {
        let word = |at: usize| description.get(at..at + 8)?.first_chunk().copied().map(u64::from_le_bytes);
        let mut texts = description.get(24..)?.split(|byte| *byte == 0).map(std::str::from_utf8);
        let mut text = || texts.next()?.ok();
        let (provider, name, arguments) = (text()?, text()?, text()?);
        Some(Self { place: word(0)?, base: word(8)?, semaphore: word(16)?, provider, name, arguments })
    }
}

#[cfg(test)]
mod tests {
    use super::{notes, register};

    fn note(arguments: &str) -> Vec<u8> {
        let mut description: Vec<u8> = [0x1000_u64, 0x2000, 0].into_iter().flat_map(u64::to_le_bytes).collect();
        description.extend_from_slice(format!("gilscope_toyvm\0lock__wait\0{arguments}\0").as_bytes());
        let mut bytes: Vec<u8> =
            [8, u32::try_from(description.len()).unwrap(), 3].into_iter().flat_map(u32::to_le_bytes).collect();
        bytes.extend_from_slice(b"stapsdt\0");
        bytes.extend_from_slice(&description);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn two_notes_in_a_row() {
        let section = [note("8@%rdi"), note("8@%rax")].concat();
        let found = notes(&section);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name, found[0].arguments, found[1].arguments), ("lock__wait", "8@%rdi", "8@%rax"));
        assert_eq!((found[0].place, found[0].base), (0x1000, 0x2000));
    }

    #[test]
    fn every_truncation_is_survived() {
        let section = note("8@%rdi");
        for length in 0..section.len() {
            assert!(notes(&section[..length]).len() <= 1);
        }
        let mut huge = section.clone();
        huge[4..8].fill(0xff);
        assert!(notes(&huge).is_empty());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn only_whole_registers_are_arguments() {
        assert_eq!(register("8@%rdi").map(|register| register.perf_number()), Some(5));
        assert_eq!(register("-8@%r15").map(|register| register.perf_number()), Some(23));
        for other in ["", "8@8(%rsp)", "4@%edi", "8@$1", "8@%rdi 8@%rsi", "8@%xmm0"] {
            assert_eq!(register(other), None, "{other}");
        }
    }
}
