//! The functions of one compilation unit, and those inlined into them, by address.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use gimli::{
    AttributeValue, DW_AT_abstract_origin, DW_AT_high_pc, DW_AT_low_pc, DW_AT_ranges, DW_TAG_inlined_subroutine,
    DW_TAG_subprogram, DebugInfoOffset, DebuggingInformationEntry, Dwarf, Unit,
};

use crate::native::symbols::{debug_info::Section, spans::Spans};

/// Ranges of addresses that are kept of a unit; many times what the largest real unit has.
const MOST_RANGES: usize = 1 << 20;

/// How long reading a unit may take, and how many of its entries are read between looks at the clock.
const LONGEST_READING: Duration = Duration::from_secs(1);
const ENTRIES: usize = 1 << 12;

/// Functions inlined into each other that are shown of one address.
const DEEPEST: usize = 64;

/// The functions of a unit.
#[derive(Debug, Default)]
pub struct Scopes {
    scopes: Vec<Scope>,
    /// Which function has each range, in the order of `spans`.
    owners: Vec<usize>,
    spans: Spans,
}

/// One function, or one place into which one was inlined.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Where in `.debug_info` it is described, which all places into which one function was inlined share.
    pub entry: usize,
    /// Whether it was inlined into the scope around it.
    pub inlined: bool,
    around: Option<usize>,
}

/// A range of a scope, with how deep in the tree the scope is.
type Placed = (Range<u64>, isize, usize);

impl Scopes {
    /// Reads the whole unit; of a damaged one, what comes before the damage.
    pub fn of(dwarf: &Dwarf<Section<'_>>, unit: &Unit<Section<'_>>) -> Self {
        let mut scopes = Vec::new();
        let mut placed: Vec<Placed> = Vec::new();
        let mut open: Vec<(isize, usize)> = Vec::new();
        let mut entries = unit.entries();
        let begun = Instant::now();
        let mut read = 0_usize;
        while let Ok(Some(entry)) = entries.next_dfs() {
            read += 1;
            if read.is_multiple_of(ENTRIES) && begun.elapsed() > LONGEST_READING {
                break;
            }
            while open.pop_if(|(depth, _)| *depth >= entry.depth()).is_some() {}
            let inlined = entry.tag() == DW_TAG_inlined_subroutine;
            if !inlined && entry.tag() != DW_TAG_subprogram || placed.len() >= MOST_RANGES {
                continue;
            }
            let before = placed.len();
            let room = MOST_RANGES - before;
            let number = scopes.len();
            placed.extend(ranges_of(dwarf, unit, entry).take(room).map(|range| (range, entry.depth(), number)));
            let Some(at) = described_at(unit, entry) else { continue };
            if placed.len() > before {
                scopes.push(Scope { entry: at, inlined, around: open.last().map(|(_, scope)| *scope) });
                open.push((entry.depth(), number));
            }
        }
        placed.sort_by_key(|(range, depth, _)| (range.start, *depth));
        let spans = Spans::of(placed.iter().map(|(range, ..)| range.clone()));
        Self { scopes, owners: placed.into_iter().map(|(.., scope)| scope).collect(), spans }
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// The scopes that have `address`, from the innermost to the function that was not inlined.
    pub fn at(&self, address: u64) -> impl Iterator<Item = Scope> {
        let innermost = self.spans.owner(address).and_then(|position| self.owners.get(position)).copied();
        let scope = |number: usize| self.scopes.get(number).copied();
        let next = move |inner: &Scope| inner.around.filter(|_| inner.inlined).and_then(scope);
        std::iter::successors(innermost.and_then(scope), next).take(DEEPEST)
    }
}

/// Where the function is described of which `entry` may be but one copy.
fn described_at(unit: &Unit<Section<'_>>, entry: &DebuggingInformationEntry<Section<'_>>) -> Option<usize> {
    match entry.attr_value(DW_AT_abstract_origin) {
        Some(AttributeValue::UnitRef(offset)) => Some(offset.to_debug_info_offset(&unit.header)?.0),
        Some(AttributeValue::DebugInfoRef(DebugInfoOffset(offset))) => Some(offset),
        _ => Some(entry.offset().to_debug_info_offset(&unit.header)?.0),
    }
}

/// The addresses that an entry is about.
pub fn ranges_of<'a>(
    dwarf: &Dwarf<Section<'a>>,
    unit: &Unit<Section<'a>>,
    entry: &DebuggingInformationEntry<Section<'a>>,
) -> impl Iterator<Item = Range<u64>> + use<'a> {
    let list = entry.attr_value(DW_AT_ranges).and_then(|value| dwarf.attr_ranges(unit, value).ok().flatten());
    let single = if list.is_none() { single_range(dwarf, unit, entry) } else { None };
    let mut list = list;
    let listed = std::iter::from_fn(move || list.as_mut()?.next().ok().flatten()).map(|range| range.begin..range.end);
    single.into_iter().chain(listed).filter(|range| !range.is_empty())
}

fn single_range(
    dwarf: &Dwarf<Section<'_>>,
    unit: &Unit<Section<'_>>,
    entry: &DebuggingInformationEntry<Section<'_>>,
) -> Option<Range<u64>> {
    let address = |value| dwarf.attr_address(unit, value).ok().flatten();
    let start = entry.attr_value(DW_AT_low_pc).and_then(address)?;
    let end = match entry.attr_value(DW_AT_high_pc)? {
        AttributeValue::Udata(length) => start.checked_add(length)?,
        value => address(value)?,
    };
    Some(start..end)
}
