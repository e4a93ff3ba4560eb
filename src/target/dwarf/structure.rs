//! C structures as DWARF describes them: offsets of members, sizes, values of enumerators.
//!
//! A name that is not there, and a form that is not understood, is `None`: the caller asks for many names of many
//! versions. A damaged file may have cycles and tables that lie over each other, so chains of types are followed a bounded
//! number of steps, and units are kept as places, to be parsed again when they are asked about.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
    rc::Rc,
    time::{Duration, Instant},
};

use gimli::{
    AttributeValue, DebugInfoOffset, DebuggingInformationEntry, Dwarf, DwarfSections, EndianSlice, LittleEndian,
    Section as _, SectionId, Unit, UnitHeader, UnitOffset, constants,
};

use crate::target::{
    dwarf::abbreviations::are_few,
    elf::{ElfError, ElfImage},
};

/// More qualifiers and aliases than any type has, and deeper nesting than any structure.
const MOST_STEPS: usize = 32;
/// No structure of the runtime is this large.
const LARGEST_OFFSET: u64 = 1 << 20;
/// Members of a structure; the largest of the runtime has some hundred.
const MOST_CHILDREN: usize = 4096;
/// Members that are looked at in search of one, nameless structures included.
const MOST_MEMBERS: usize = 1 << 16;
/// Units that are looked at, and how long.
const MOST_UNITS: usize = 1 << 20;
const LONGEST_INDEXING: Duration = Duration::from_secs(2);

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The bytes of a file's debug sections.
#[derive(Debug)]
pub struct DebugSections {
    sections: DwarfSections<Vec<u8>>,
}

/// The named types of a file.
#[derive(Debug)]
pub struct Structures<'a> {
    dwarf: Dwarf<Slice<'a>>,
    /// Where each unit begins, in that order.
    units: Vec<usize>,
    /// The unit that was asked about last, since the next question is mostly about the same.
    last: RefCell<Option<(usize, Rc<Unit<Slice<'a>>>)>>,
    named: HashMap<Vec<u8>, Place>,
}

/// A type's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Where its unit begins.
    unit: usize,
    entry: UnitOffset,
}

/// A member of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    offset: u64,
    bits: Option<u64>,
    kind: Place,
}

/// How much more of a search for a member there may be: nameless structures may be each other's members.
struct Search {
    members: usize,
    depth: usize,
}

impl Default for Search {
    fn default() -> Self {
        Self { members: MOST_MEMBERS, depth: MOST_STEPS }
    }
}

impl DebugSections {
    /// Reads the debug sections of a file; those it lacks are empty.
    pub fn read(elf: &ElfImage) -> Result<Self, ElfError> {
        let sections = DwarfSections::load(|id: SectionId| elf.section(id.name()).map(Option::unwrap_or_default))?;
        Ok(Self { sections })
    }

    /// Finds every type of the given names, as far as they are found soon; `None` when the sections are damaged.
    pub fn structures(&self, names: &[&str]) -> Option<Structures<'_>> {
        let dwarf = self.sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
        let mut structures = Structures { dwarf, units: Vec::new(), last: RefCell::default(), named: HashMap::new() };
        let mut headers = structures.dwarf.units();
        let begun = Instant::now();
        while structures.units.len() < MOST_UNITS
            && begun.elapsed() < LONGEST_INDEXING
            && let Some(header) = headers.next().ok()?
        {
            let Some(DebugInfoOffset(at)) = header.debug_info_offset() else { continue };
            let unit = unit_of(&structures.dwarf, header)?;
            structures.units.push(at);
            structures.index(at, &unit, names);
        }
        Some(structures)
    }
}

/// The unit of a header; `None` for a damaged one.
fn unit_of<'a>(dwarf: &Dwarf<Slice<'a>>, header: UnitHeader<Slice<'a>>) -> Option<Unit<Slice<'a>>> {
    let few = are_few(dwarf.debug_abbrev.reader().slice(), header.debug_abbrev_offset().0);
    few.then(|| dwarf.unit(header).ok())?
}

impl<'a> Structures<'a> {
    /// Notes the wanted types of the unit at `at`; a damaged unit is left at the damage.
    fn index(&mut self, at: usize, unit: &Unit<Slice<'a>>, names: &[&str]) {
        let mut entries = unit.entries();
        // The first entry is the unit itself, its children are what is global.
        if !matches!(entries.next_entry(), Ok(true)) || !matches!(entries.next_entry(), Ok(true)) {
            return;
        }
        let mut next = Ok(entries.current().cloned());
        while let Ok(Some(entry)) = next {
            if let Some(name) = self.wanted_name(unit, &entry, names) {
                let place = Place { unit: at, entry: entry.offset() };
                match self.named.entry(name) {
                    // An alias leads to the structure of the same name; the structure itself is better.
                    Entry::Occupied(mut known) if entry.tag() == constants::DW_TAG_structure_type => {
                        known.insert(place);
                    }
                    Entry::Occupied(_) => {}
                    Entry::Vacant(free) => {
                        free.insert(place);
                    }
                }
            }
            next = entries.next_sibling().map(|entry| entry.cloned());
        }
    }

    fn wanted_name(
        &self,
        unit: &Unit<Slice<'a>>,
        entry: &DebuggingInformationEntry<Slice<'a>>,
        names: &[&str],
    ) -> Option<Vec<u8>> {
        let is_type = matches!(
            entry.tag(),
            constants::DW_TAG_structure_type | constants::DW_TAG_typedef | constants::DW_TAG_enumeration_type
        );
        if !is_type || entry.attr(constants::DW_AT_declaration).is_some() {
            return None;
        }
        let name = self.dwarf.attr_string(unit, entry.attr_value(constants::DW_AT_name)?).ok()?;
        names.iter().any(|wanted| wanted.as_bytes() == name.slice()).then(|| name.slice().to_vec())
    }

    /// Offset of a member such as `interpreters.head` in the type called `structure`.
    pub fn offset(&self, structure: &str, path: &str) -> Option<u64> {
        self.member(structure, path).map(|member| member.offset).filter(|offset| *offset <= LARGEST_OFFSET)
    }

    /// The lowest bit of a bit field, counted from the start of the structure that directly has it.
    pub fn lowest_bit(&self, structure: &str, path: &str) -> Option<u64> {
        self.member(structure, path)?.bits
    }

    /// Size of the type in bytes.
    pub fn size(&self, structure: &str) -> Option<u64> {
        let place = self.structure(*self.named.get(structure.as_bytes())?)?;
        self.entry(place)?.attr(constants::DW_AT_byte_size)?.udata_value()
    }

    /// Values of the enumerators of a type whose name has one of the given parts.
    pub fn enumerators(&self, enumeration: &str, parts: &[&str]) -> Option<Vec<u8>> {
        let place = *self.named.get(enumeration.as_bytes())?;
        let mut values = Vec::new();
        for child in self.children(place)? {
            let name = self.name(place.unit, &child)?;
            let name = std::str::from_utf8(name).ok()?;
            if parts.iter().any(|part| name.contains(part)) {
                values.push(u8::try_from(child.attr(constants::DW_AT_const_value)?.udata_value()?).ok()?);
            }
        }
        Some(values)
    }

    fn member(&self, structure: &str, path: &str) -> Option<Member> {
        let kind = *self.named.get(structure.as_bytes())?;
        let mut found = Member { offset: 0, bits: None, kind };
        for name in path.split('.') {
            let inner = self.direct_member(found.kind, name, &mut Search::default())?;
            found = Member { offset: found.offset.checked_add(inner.offset)?, ..inner };
        }
        Some(found)
    }

    /// A member of this structure, or of a nameless one inside it.
    fn direct_member(&self, kind: Place, name: &str, search: &mut Search) -> Option<Member> {
        let place = self.structure(kind)?;
        for child in self.children(place)? {
            search.members = search.members.checked_sub(1)?;
            if child.tag() != constants::DW_TAG_member {
                continue;
            }
            let Some(member) = self.as_member(place.unit, &child) else { continue };
            match self.name(place.unit, &child) {
                Some(found) if found == name.as_bytes() => return Some(member),
                Some(_) => {}
                None => {
                    search.depth = search.depth.checked_sub(1)?;
                    let inner = self.direct_member(member.kind, name, search);
                    search.depth += 1;
                    if let Some(inner) = inner {
                        return Some(Member { offset: inner.offset.checked_add(member.offset)?, ..inner });
                    }
                }
            }
        }
        None
    }

    fn as_member(&self, unit: usize, entry: &DebuggingInformationEntry<Slice<'a>>) -> Option<Member> {
        let bits = entry.attr(constants::DW_AT_data_bit_offset).and_then(|attribute| attribute.udata_value());
        // Members of unions have no location, bit fields only their bit.
        let offset = match entry.attr(constants::DW_AT_data_member_location) {
            Some(attribute) => attribute.udata_value()?,
            None => bits.map_or(0, |bits| bits / 8),
        };
        Some(Member { offset, bits, kind: self.type_of(unit, entry)? })
    }

    /// The structure or union behind aliases and qualifiers.
    fn structure(&self, mut place: Place) -> Option<Place> {
        for _ in 0..MOST_STEPS {
            let entry = self.entry(place)?;
            match entry.tag() {
                constants::DW_TAG_structure_type | constants::DW_TAG_union_type => return Some(place),
                constants::DW_TAG_typedef
                | constants::DW_TAG_const_type
                | constants::DW_TAG_volatile_type
                | constants::DW_TAG_atomic_type => place = self.type_of(place.unit, &entry)?,
                _ => return None,
            }
        }
        None
    }

    fn type_of(&self, unit: usize, entry: &DebuggingInformationEntry<Slice<'a>>) -> Option<Place> {
        match entry.attr_value(constants::DW_AT_type)? {
            AttributeValue::UnitRef(entry) => Some(Place { unit, entry }),
            AttributeValue::DebugInfoRef(offset) => {
                let after = self.units.partition_point(|start| *start <= offset.0);
                let unit = *self.units.get(after.checked_sub(1)?)?;
                Some(Place { unit, entry: offset.to_unit_offset(&self.unit(unit)?.header)? })
            }
            _ => None,
        }
    }

    fn entry(&self, place: Place) -> Option<DebuggingInformationEntry<Slice<'a>>> {
        self.unit(place.unit)?.entry(place.entry).ok()
    }

    fn unit(&self, at: usize) -> Option<Rc<Unit<Slice<'a>>>> {
        if let Some((_, unit)) = self.last.borrow().as_ref().filter(|(known, _)| *known == at) {
            return Some(Rc::clone(unit));
        }
        let unit = Rc::new(unit_of(&self.dwarf, self.dwarf.unit_header(DebugInfoOffset(at)).ok()?)?);
        self.last.replace(Some((at, Rc::clone(&unit))));
        Some(unit)
    }

    fn children(&self, place: Place) -> Option<Vec<DebuggingInformationEntry<Slice<'a>>>> {
        let unit = self.unit(place.unit)?;
        let mut entries = unit.entries_at_offset(place.entry).ok()?;
        let has_children =
            entries.next_entry().ok()? && entries.current().is_some_and(DebuggingInformationEntry::has_children);
        if !has_children || !entries.next_entry().ok()? {
            return Some(Vec::new());
        }
        let mut children = Vec::new();
        let mut next = entries.current().cloned();
        while let Some(child) = next {
            if children.len() == MOST_CHILDREN {
                return None;
            }
            children.push(child);
            next = entries.next_sibling().ok()?.cloned();
        }
        Some(children)
    }

    fn name(&self, unit: usize, entry: &DebuggingInformationEntry<Slice<'a>>) -> Option<&'a [u8]> {
        let value = entry.attr_value(constants::DW_AT_name)?;
        let unit = self.unit(unit)?;
        Some(self.dwarf.attr_string(&unit, value).ok()?.slice())
    }
}

#[cfg(test)]
mod tests {
    use gimli::{DwarfSections, SectionId};

    use super::DebugSections;

    /// A structure `A` of four nameless members, each an `A`.
    #[test]
    fn a_structure_that_contains_itself_is_given_up() {
        let abbreviations = [1, 0x11, 1, 0, 0, 2, 0x13, 1, 3, 8, 0, 0, 3, 0x0d, 0, 0x49, 0x13, 0, 0, 0];
        let mut unit = vec![4, 0, 0, 0, 0, 0, 8, 1, 2, b'A', 0];
        (0..4).for_each(|_| unit.extend([3, 12, 0, 0, 0]));
        unit.extend([0, 0]);
        let info = [&u32::try_from(unit.len()).unwrap().to_le_bytes()[..], &unit].concat();
        let sections = DwarfSections::load(|id| {
            Ok::<_, gimli::Error>(match id {
                SectionId::DebugAbbrev => abbreviations.to_vec(),
                SectionId::DebugInfo => info.clone(),
                _ => Vec::new(),
            })
        });
        let sections = DebugSections { sections: sections.unwrap() };
        let types = sections.structures(&["A"]).unwrap();
        assert!(types.named.contains_key(&b"A"[..]));
        assert_eq!(types.offset("A", "x"), None);
    }
}
