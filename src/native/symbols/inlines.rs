//! Functions that have no code of their own: which were inlined where, according to the debug information.
//!
//! An index of units is made at the first question, and one of functions for each unit that is asked about; both hold
//! numbers only. Names are read when they are asked for.

use std::time::{Duration, Instant};

use gimli::{
    AttributeValue, DW_AT_abstract_origin, DW_AT_linkage_name, DW_AT_name, DW_AT_specification, DebugInfoOffset, Dwarf,
    Section as _, Unit, UnitHeader,
};
use rustc_hash::FxHashMap;

use crate::{
    native::symbols::{
        debug_info::{DebugInfo, Section},
        name,
        scopes::{Scopes, ranges_of},
        spans::Spans,
    },
    target::dwarf::abbreviations::are_few,
};

/// How long making the index of units may take. Units of damaged files may share tables in ways that multiply the work;
/// the largest libraries take half a second.
const LONGEST_INDEXING: Duration = Duration::from_secs(3);

/// Units, and ranges of all of them, in the index; the largest libraries have a tenth of it.
const MOST_UNITS: usize = 4 << 20;

/// Ranges of the functions that are kept at the same time, beside those of the unit asked for last.
const MOST_KEPT: usize = 1 << 20;

/// Names that are kept.
const MOST_NAMES: usize = 1 << 15;

/// Steps from an inlined function to the place that names it; compilers take two.
const MOST_STEPS: usize = 8;

/// The inlined functions of one object.
#[derive(Debug)]
pub struct Inlines {
    sections: DebugInfo,
    /// Where each unit begins, in that order.
    units: Vec<usize>,
    /// Where the unit begins that has each range, in the order of `spans`.
    owners: Vec<usize>,
    spans: Spans,
    scopes: FxHashMap<usize, Scopes>,
    names: FxHashMap<usize, Option<String>>,
}

/// A function at an address; its name may not be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Its name, demangled.
    pub name: Option<String>,
    /// Whether it was inlined.
    pub inlined: bool,
}

impl Inlines {
    /// Makes the index of units.
    pub fn of(sections: DebugInfo) -> Self {
        let dwarf = sections.reader();
        let (mut units, mut ranges) = (Vec::new(), Vec::new());
        let mut headers = dwarf.units();
        let begun = Instant::now();
        while let Ok(Some(header)) = headers.next() {
            if begun.elapsed() > LONGEST_INDEXING || units.len() >= MOST_UNITS || ranges.len() >= MOST_UNITS {
                break;
            }
            let Some(DebugInfoOffset(at)) = header.debug_info_offset() else { continue };
            units.push(at);
            let Some(unit) = unit_of(&dwarf, header) else { continue };
            let Ok(root) = unit.entry(unit.header.root_offset()) else { continue };
            let room = MOST_UNITS - ranges.len();
            ranges.extend(ranges_of(&dwarf, &unit, &root).take(room).map(|range| (range, at)));
        }
        ranges.sort_by_key(|(range, _)| range.start);
        let spans = Spans::of(ranges.iter().map(|(range, _)| range.clone()));
        let owners = ranges.into_iter().map(|(_, at)| at).collect();
        Self { sections, units, owners, spans, scopes: FxHashMap::default(), names: FxHashMap::default() }
    }

    /// The functions at `address`, innermost first; the last is the one with code of its own.
    pub fn at(&mut self, address: u64) -> Vec<Level> {
        let Some(at) = self.spans.owner(address).and_then(|position| self.owners.get(position)).copied() else {
            return Vec::new();
        };
        let dwarf = self.sections.reader();
        if !self.scopes.contains_key(&at) && self.scopes.values().map(Scopes::len).sum::<usize>() >= MOST_KEPT {
            self.scopes.clear();
        }
        if self.names.len() >= MOST_NAMES {
            self.names.clear();
        }
        let scopes = self.scopes.entry(at).or_insert_with(|| match unit_at(&dwarf, at) {
            Some(unit) => Scopes::of(&dwarf, &unit),
            None => Scopes::default(),
        });
        let levels = scopes.at(address).map(|scope| {
            let name = self.names.entry(scope.entry).or_insert_with(|| name_of(&dwarf, &self.units, scope.entry));
            Level { name: name.clone(), inlined: scope.inlined }
        });
        levels.collect()
    }
}

fn unit_at<'a>(dwarf: &Dwarf<Section<'a>>, at: usize) -> Option<Unit<Section<'a>>> {
    unit_of(dwarf, dwarf.unit_header(DebugInfoOffset(at)).ok()?)
}

fn unit_of<'a>(dwarf: &Dwarf<Section<'a>>, header: UnitHeader<Section<'a>>) -> Option<Unit<Section<'a>>> {
    let abbreviations = dwarf.debug_abbrev.reader().slice();
    are_few(abbreviations, header.debug_abbrev_offset().0).then(|| dwarf.unit(header).ok())?
}

/// The name of the function described at `at` of `.debug_info`, which may refer to another description of it, even in
/// another of the `units`.
fn name_of(dwarf: &Dwarf<Section<'_>>, units: &[usize], at: usize) -> Option<String> {
    let (mut at, mut plain) = (at, None);
    for _ in 0..MOST_STEPS {
        let after = units.partition_point(|start| *start <= at);
        let unit = unit_at(dwarf, *units.get(after.checked_sub(1)?)?)?;
        let entry = unit.entry(DebugInfoOffset(at).to_unit_offset(&unit.header)?).ok()?;
        let text = |value| Some(dwarf.attr_string(&unit, value).ok()?.slice());
        if let Some(linkage) = entry.attr_value(DW_AT_linkage_name).and_then(text) {
            return name::shown(linkage);
        }
        plain = plain.or_else(|| entry.attr_value(DW_AT_name).and_then(text).and_then(name::shown));
        let origin = entry.attr_value(DW_AT_abstract_origin).or_else(|| entry.attr_value(DW_AT_specification));
        at = match origin {
            Some(AttributeValue::UnitRef(offset)) => offset.to_debug_info_offset(&unit.header)?.0,
            Some(AttributeValue::DebugInfoRef(DebugInfoOffset(offset))) => offset,
            _ => return plain,
        };
    }
    plain
}
