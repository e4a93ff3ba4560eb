//! An object file of BPF programs, read: its maps, its programs, and where the programs refer to the maps.

use std::ffi::CString;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex};

use crate::bpf::error::BpfError;

/// The section of map definitions, five words each: type, size of a key, size of a value, entries, flags.
const MAPS: &str = "maps";
const MAP_DEFINITION: usize = 5 * 4;
const LICENCE: &str = "license";
/// Bytes of an instruction.
const INSTRUCTION: u64 = 8;

/// The kinds of programs, named after the sections they are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProgramKind {
    /// Runs at probes of user space.
    Uprobes,
    /// Runs when a perf event overflows.
    PerfEvent,
    /// Runs at a place that the kernel itself has marked, with what it tells there as it is.
    RawTracepoint,
}

/// A map as the object defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapDefinition {
    /// Its name.
    pub name: String,
    /// Its type, in the kernel's numbering.
    pub map_type: u32,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// The most entries, or the bytes of a ring.
    pub entries: u32,
    /// Flags in the kernel's numbering.
    pub flags: u32,
}

/// A program as the object defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramDefinition {
    /// Its name.
    pub name: String,
    /// What it runs at.
    pub kind: ProgramKind,
    /// Its instructions, with the references to maps still open.
    pub code: Vec<u8>,
    /// Byte position of an instruction, and the name of the map that it refers to.
    pub references: Vec<(u64, String)>,
}

/// Everything in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Under which terms it comes; the kernel reserves some helpers for those it knows.
    pub licence: CString,
    /// Its maps.
    pub maps: Vec<MapDefinition>,
    /// Its programs.
    pub programs: Vec<ProgramDefinition>,
}

impl Image {
    /// Reads an object.
    pub fn parse(bytes: &[u8]) -> Result<Self, BpfError> {
        let file = object::File::parse(bytes)?;
        let licence = section(&file, LICENCE)?;
        let licence = CString::new(licence.split(|byte| *byte == 0).next().unwrap_or_default());
        let licence = licence.map_err(|_| malformed(LICENCE))?;
        let kinds = [
            ("uprobe.multi", ProgramKind::Uprobes),
            ("perf_event", ProgramKind::PerfEvent),
            ("uprobe.park", ProgramKind::Uprobes),
            ("uprobe.unpark", ProgramKind::Uprobes),
            ("uprobe.metered", ProgramKind::Uprobes),
            ("raw_tp.switch", ProgramKind::RawTracepoint),
            ("raw_tp.exit", ProgramKind::RawTracepoint),
        ];
        let programs = kinds.map(|(name, kind)| program(&file, name, kind)).into_iter().collect::<Result<_, _>>()?;
        Ok(Self { licence, maps: maps(&file)?, programs })
    }
}

fn section<'a>(file: &object::File<'a>, name: &str) -> Result<&'a [u8], BpfError> {
    Ok(file.section_by_name(name).ok_or_else(|| malformed(name))?.data()?)
}

fn maps(file: &object::File<'_>) -> Result<Vec<MapDefinition>, BpfError> {
    let index = file.section_by_name(MAPS).ok_or_else(|| malformed(MAPS))?.index();
    let bytes = section(file, MAPS)?;
    let symbols = file.symbols().filter(|symbol| symbol.section_index() == Some(index) && is_named(symbol));
    let define = |symbol: object::Symbol<'_, '_>| {
        let name = symbol.name()?.to_owned();
        let start = usize::try_from(symbol.address()).unwrap_or(usize::MAX);
        let definition = bytes.get(start..).and_then(|rest| rest.get(..MAP_DEFINITION));
        let words: Vec<u32> = definition.ok_or_else(|| malformed(&name))?.chunks_exact(4).map(word).collect();
        let [map_type, key, value, entries, flags] = words[..] else { return Err(malformed(&name)) };
        Ok(MapDefinition { name, map_type, key, value, entries, flags })
    };
    symbols.map(define).collect()
}

/// The one program of a section: it begins with it.
fn program(file: &object::File<'_>, section_name: &str, kind: ProgramKind) -> Result<ProgramDefinition, BpfError> {
    let section = file.section_by_name(section_name).ok_or_else(|| malformed(section_name))?;
    let starts_section = |symbol: &object::Symbol<'_, '_>| {
        symbol.section_index() == Some(section.index()) && symbol.address() == 0 && symbol.is_global()
    };
    let symbol = file.symbols().find(starts_section).ok_or_else(|| malformed(section_name))?;
    let code = section.data()?.to_owned();
    let mut references = Vec::new();
    for (at, relocation) in section.relocations() {
        let whole = at % INSTRUCTION == 0 && at + 2 * INSTRUCTION <= code.len() as u64;
        let map = map_name(file, relocation.target()).filter(|_| whole);
        references.push((at, map.ok_or_else(|| malformed(section_name))?));
    }
    Ok(ProgramDefinition { name: symbol.name()?.to_owned(), kind, code, references })
}

fn map_name(file: &object::File<'_>, target: RelocationTarget) -> Option<String> {
    let RelocationTarget::Symbol(index) = target else { return None };
    let symbol = file.symbol_by_index(index).ok()?;
    let maps: SectionIndex = file.section_by_name(MAPS)?.index();
    (symbol.section_index() == Some(maps)).then(|| symbol.name().ok().map(str::to_owned)).flatten()
}

fn is_named(symbol: &object::Symbol<'_, '_>) -> bool {
    symbol.is_global() && symbol.name().is_ok_and(|name| !name.is_empty())
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().copied().map_or(0, u32::from_le_bytes)
}

fn malformed(what: &str) -> BpfError {
    BpfError::Malformed(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Image, ProgramKind};
    use crate::bpf::error::BpfError;

    #[test]
    fn nonsense_is_refused() {
        assert!(matches!(Image::parse(b"no object"), Err(BpfError::Object(_))));
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(matches!(Image::parse(&own), Err(BpfError::Malformed(_))));
    }

    #[test]
    fn the_embedded_object_has_seven_programs_that_refer_to_its_maps() {
        let image = Image::parse(include_bytes!("../../probes/bpf/gilscope.bpf.o")).unwrap();
        let kinds: Vec<_> = image.programs.iter().map(|program| (program.name.as_str(), program.kind)).collect();
        let expected = [
            ("on_call", ProgramKind::Uprobes),
            ("on_tick", ProgramKind::PerfEvent),
            ("on_park", ProgramKind::Uprobes),
            ("on_unpark", ProgramKind::Uprobes),
            ("on_metered_call", ProgramKind::Uprobes),
            ("on_switch", ProgramKind::RawTracepoint),
            ("on_exit", ProgramKind::RawTracepoint),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(image.licence.to_str(), Ok("Dual MIT/GPL"));
        for (_, map) in image.programs.iter().flat_map(|program| &program.references) {
            assert!(image.maps.iter().any(|known| known.name == *map), "{map}");
        }
    }
}
