//! Overlapping ranges of addresses made disjoint: of all ranges that have an address, the one that begins last wins.

use std::ops::Range;

/// Which range an address belongs to, for ranges numbered by their position.
#[derive(Debug, Default)]
pub struct Spans {
    /// Where another range (or none) begins to win.
    boundaries: Vec<Boundary>,
}

#[derive(Debug, Clone, Copy)]
struct Boundary {
    start: u64,
    owner: Option<u32>,
}

/// The ranges that have the address the sweep has reached, and what it has left behind.
#[derive(Default)]
struct Sweep {
    open: Vec<(u64, u32)>,
    boundaries: Vec<Boundary>,
}

impl Spans {
    /// Takes ranges in order of their start; of those with the same start the later one wins.
    pub fn of(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut sweep = Sweep::default();
        for (owner, range) in (0..u32::MAX).zip(ranges) {
            if range.start < range.end {
                sweep.close_until(range.start);
                sweep.open.push((range.end, owner));
                sweep.begin(range.start, Some(owner));
            }
        }
        sweep.close_until(u64::MAX);
        sweep.boundaries.shrink_to_fit();
        Self { boundaries: sweep.boundaries }
    }

    /// The position of the range that wins `address`.
    pub fn owner(&self, address: u64) -> Option<usize> {
        let after = self.boundaries.partition_point(|boundary| boundary.start <= address);
        let owner = self.boundaries.get(after.checked_sub(1)?)?.owner?;
        usize::try_from(owner).ok()
    }
}

impl Sweep {
    fn close_until(&mut self, address: u64) {
        while let Some((end, _)) = self.open.last().copied().filter(|(end, _)| *end <= address) {
            // Ranges below may have ended before, where they overlap without being nested.
            while self.open.last().is_some_and(|(other, _)| *other <= end) {
                self.open.pop();
            }
            self.begin(end, self.open.last().map(|(_, owner)| *owner));
        }
    }

    fn begin(&mut self, start: u64, owner: Option<u32>) {
        match self.boundaries.last_mut() {
            Some(last) if last.start == start => last.owner = owner,
            _ => self.boundaries.push(Boundary { start, owner }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::{prop, proptest};

    use super::Spans;

    fn owner_by_search(ranges: &[Range<u64>], address: u64) -> Option<usize> {
        ranges.iter().rposition(|range| range.contains(&address))
    }

    #[test]
    fn nested_ranges_win_inside_and_give_back() {
        //  0 |-------------------| 10
        //  1    |-------| 6
        //  2       |-| 4
        let spans = Spans::of([0..10, 2..6, 3..4]);
        let owners: Vec<_> = (0..11).map(|address| spans.owner(address)).collect();
        let expected = [0, 0, 1, 2, 1, 1, 0, 0, 0, 0].map(Some);
        assert_eq!(owners[..10], expected);
        assert_eq!(owners[10], None);
    }

    proptest! {
        #[test]
        fn any_ranges_are_owned_as_a_search_would_find(bounds in prop::collection::vec((0u64..40, 0u64..40), 0..12)) {
            let mut ranges: Vec<_> = bounds.iter().map(|(start, length)| *start..start + length).collect();
            ranges.sort_by_key(|range| range.start);
            let spans = Spans::of(ranges.iter().cloned());
            for address in 0..90 {
                assert_eq!(spans.owner(address), owner_by_search(&ranges, address), "{address} in {ranges:?}");
            }
        }
    }
}
