//! The symbol tables of an object and of what belongs to it, as one: which symbol has an address.
//!
//! An address after the end of a symbol is not that symbol's. A symbol without a size reaches to the next symbol of its
//! section, but over no function that the unwind table knows. Where one begins inside another, the inner one wins; a label
//! without a size does not, since hand-written functions are full of them.
//!
//! Of several names for one address, the first by these rules is shown: a function's before a label's; one with a size;
//! one that other objects can see before a local one; the one with fewer leading underscores (mangled names have none); a strong one
//! before a weak one; the shorter; the alphabetically first.

use std::ops::Range;

use object::{
    SymbolIndex,
    elf::{
        SHF_EXECINSTR, SHN_ABS, SHN_COMMON, SHN_UNDEF, STB_GLOBAL, STB_LOCAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC,
        STT_NOTYPE,
    },
    read::elf::{SectionHeader, Sym, SymbolTable},
};

use crate::{
    native::{
        bytes::SharedBytes,
        object::Elf,
        symbols::{name, plt, spans::Spans, unwind_table::UnwindTable},
    },
    target::elf,
};

/// Symbols of one table that are looked at. The largest libraries there are have some two million.
const MOST_SYMBOLS: usize = 8 << 20;
/// Names of one address that are compared, and how much of each.
const MOST_NAMES: usize = 64;
const COMPARED: usize = 256;

type Symbols<'a> = SymbolTable<'a, object::elf::FileHeader64<object::Endianness>>;

/// Symbols by address.
#[derive(Debug)]
pub struct Table {
    entries: Vec<Entry>,
    /// The bytes of which names are parts, and which part of them.
    strings: Vec<(SharedBytes, Range<usize>)>,
    spans: Spans,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    start: u64,
    size: u64,
    /// Where in `strings` and where in there its name is.
    strings: u8,
    name: u32,
    kind: Kind,
    binding: Binding,
}

/// What a symbol stands for, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Function,
    /// A jump to a function of another object.
    Stub,
    Label,
}

/// How a symbol is bound, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Strong,
    Weak,
    Local,
}

impl Table {
    /// The symbols of `files`, of which the first is the object itself and the others are made from the same build.
    pub fn of(files: &[SharedBytes], unwind_table: &UnwindTable) -> Self {
        let mut table = Self { entries: Vec::new(), strings: Vec::new(), spans: Spans::default() };
        let Some(Ok(object)) = files.first().map(|object| elf::parse(&**object)) else { return table };
        for file in files {
            table.add_file(file);
        }
        let sections = sections_with_code(&object);
        table.entries.retain(|entry| section_of(&sections, entry.start).is_some());
        table.keep_best_names();
        table.drop_labels_inside();
        let ranges: Vec<_> = table.ranges(&sections, unwind_table).collect();
        table.spans = Spans::of(ranges);
        table
    }

    /// The name at `address`, demangled.
    pub fn name(&self, address: u64) -> Option<String> {
        let entry = self.entries.get(self.spans.owner(address)?)?;
        let shown = name::shown(self.raw_name(entry))?;
        Some(if entry.kind == Kind::Stub { format!("{shown}@plt") } else { shown })
    }

    fn add_file(&mut self, file: &SharedBytes) {
        let Ok(elf) = elf::parse(&**file) else { return };
        self.add_table(&elf, file, elf.elf_symbol_table());
        let dynamic = elf.elf_dynamic_symbol_table();
        let Some(strings) = self.add_table(&elf, file, dynamic) else { return };
        let stubs = plt::stubs(&elf).into_iter().filter_map(|stub| {
            let symbol = dynamic.symbol(SymbolIndex(usize::try_from(stub.symbol).ok()?)).ok()?;
            let name = symbol.st_name(elf.endian());
            let (start, size) = (stub.start, stub.size);
            Some(Entry { start, size, strings, name, kind: Kind::Stub, binding: Binding::Local })
        });
        self.entries.extend(stubs);
    }

    /// Takes the functions of one symbol table; returns the number of its strings.
    fn add_table(&mut self, elf: &Elf<'_>, file: &SharedBytes, symbols: &Symbols<'_>) -> Option<u8> {
        let endian = elf.endian();
        let section = elf.elf_section_table().section(symbols.string_section()).ok()?;
        let (offset, length) = section.file_range(endian)?;
        let start = usize::try_from(offset).ok()?;
        let range = start..start.checked_add(usize::try_from(length).ok()?)?;
        file.get(range.clone())?;
        let strings = u8::try_from(self.strings.len()).ok()?;
        self.strings.push((file.clone(), range));
        let symbols = symbols.iter().take(MOST_SYMBOLS);
        self.entries.extend(symbols.filter_map(|symbol| Entry::of(symbol, endian, strings)));
        Some(strings)
    }

    fn raw_name(&self, entry: &Entry) -> &[u8] {
        self.beginning_of_name(entry, name::LONGEST_MANGLED)
    }

    /// The name, or as much of it as `most` bytes.
    fn beginning_of_name(&self, entry: &Entry, most: usize) -> &[u8] {
        let (bytes, range) = &self.strings[usize::from(entry.strings)];
        let strings = bytes.get(range.clone()).unwrap_or_default();
        let rest = usize::try_from(entry.name).ok().and_then(|at| strings.get(at..)).unwrap_or_default();
        let beginning = &rest[..rest.len().min(most)];
        let end = beginning.iter().position(|byte| *byte == 0).unwrap_or(beginning.len());
        &beginning[..end]
    }

    /// One symbol for each address, as long as the longest of those that begin there.
    fn keep_best_names(&mut self) {
        let mut all = std::mem::take(&mut self.entries);
        all.retain(|entry| !is_noise(entry, self.beginning_of_name(entry, 2)));
        all.sort_unstable_by_key(|entry| (entry.start, entry.kind));
        let best = all.chunk_by(|one, other| one.start == other.start).filter_map(|same| {
            let best =
                same.iter().take(MOST_NAMES).min_by(|one, other| self.preference(one).cmp(&self.preference(other)))?;
            let size = same.iter().filter(|entry| entry.kind <= best.kind).map(|entry| entry.size).max()?;
            Some(Entry { size, ..*best })
        });
        self.entries = best.collect();
    }

    /// Smaller is better.
    fn preference(&self, entry: &Entry) -> impl Ord {
        let name = self.beginning_of_name(entry, COMPARED);
        let underscores =
            if name::is_mangled(name) { 0 } else { name.iter().take_while(|byte| **byte == b'_').count() };
        (
            entry.kind,
            entry.size == 0,
            entry.binding == Binding::Local,
            underscores,
            entry.binding,
            name.len(),
            name.to_vec(),
        )
    }

    fn drop_labels_inside(&mut self) {
        let mut covered = 0;
        self.entries.retain(|entry| {
            covered = covered.max(entry.start.saturating_add(entry.size));
            entry.size > 0 || entry.start >= covered
        });
    }

    /// What each symbol reaches over, in the order of the entries.
    fn ranges(&self, sections: &[Range<u64>], unwind_table: &UnwindTable) -> impl Iterator<Item = Range<u64>> {
        self.entries.iter().enumerate().map(move |(position, entry)| {
            let end_of_section = section_of(sections, entry.start).map_or(entry.start, |section| section.end);
            let end = match entry.size {
                0 => {
                    let next = self.entries.get(position + 1).map_or(u64::MAX, |next| next.start);
                    next.min(unwind_table.function(entry.start).map_or(u64::MAX, |function| function.end))
                        .min(unwind_table.next_start(entry.start).unwrap_or(u64::MAX))
                }
                size => entry.start.saturating_add(size),
            };
            entry.start..end.min(end_of_section)
        })
    }
}

impl Entry {
    /// `None` for what is not defined here, or no code.
    fn of(symbol: &impl Sym<Endian = object::Endianness>, endian: object::Endianness, strings: u8) -> Option<Self> {
        if [SHN_UNDEF, SHN_ABS, SHN_COMMON].contains(&symbol.st_shndx(endian)) {
            return None;
        }
        let kind = match symbol.st_type() {
            STT_FUNC | STT_GNU_IFUNC => Kind::Function,
            STT_NOTYPE => Kind::Label,
            _ => return None,
        };
        let binding = match symbol.st_bind() {
            STB_LOCAL => Binding::Local,
            STB_WEAK => Binding::Weak,
            // Also the unique ones of GNU, which C++ makes of its inline functions' variables.
            STB_GLOBAL.. => Binding::Strong,
        };
        let (start, size) = (symbol.st_value(endian).into(), symbol.st_size(endian).into());
        Some(Self { start, size, strings, name: symbol.st_name(endian), kind, binding })
    }
}

/// Labels that compilers and assemblers leave, and symbols without a name.
fn is_noise(entry: &Entry, name: &[u8]) -> bool {
    name.is_empty() || entry.kind == Kind::Label && (name.starts_with(b"$") || name.starts_with(b".L"))
}

/// The addresses of sections with code, in ascending order.
fn sections_with_code(elf: &Elf<'_>) -> Vec<Range<u64>> {
    let endian = elf.endian();
    let sections = elf.elf_section_table().iter();
    let code = sections.filter(|section| section.sh_flags(endian) & u64::from(SHF_EXECINSTR) != 0);
    let ranges = code.map(|section| {
        let start = section.sh_addr(endian);
        start..start.saturating_add(section.sh_size(endian))
    });
    let mut ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    ranges
}

fn section_of(sections: &[Range<u64>], address: u64) -> Option<&Range<u64>> {
    let after = sections.partition_point(|section| section.start <= address);
    sections.get(after.checked_sub(1)?).filter(|section| section.contains(&address))
}
