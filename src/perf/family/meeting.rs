//! From one set of groups to the next, so that what both have counted counts once.
//!
//! An old group and the new ones of its threads are read together while both count; then the old one is stopped, whenever that comes.
//! What it has counted in between, the new ones have counted, too. So what they said when it stopped is known, however long we were kept
//! from stopping it. Where an old group was that of several threads, the sum is exact, and each one's part goes by what it has counted by the
//! end. Invariant: a new group is said to have begun between its reading and what it says later.

use rustc_hash::FxHashMap;

use super::{Family, GroupEnd};
use crate::{
    model::ids::Tid,
    perf::{cpu::OpenEvent, lineage::RootId, reading::GroupReading},
};

/// How often groups are read until the old one has not counted meanwhile. One whose thread runs always has, a little.
const ATTEMPTS: usize = 3;

/// A thread and the place of a CPU, and what the thread's own group said there.
pub(in crate::perf) type ThreadSaid = (Tid, usize, GroupReading);

/// What an old group and the new ones of its threads said at one moment.
#[derive(Debug)]
pub(in crate::perf) struct Meeting {
    root: RootId,
    place: usize,
    old: GroupReading,
    new: Vec<(Tid, GroupReading)>,
}

impl Family {
    /// Reads its groups together with those of `old`, which is about to end.
    pub(in crate::perf) fn meet(&self, old: &Self) -> Vec<Meeting> {
        let own = self.events.iter().filter(|opened| opened.event.leads());
        let own: FxHashMap<(Tid, usize), &OpenEvent> =
            own.map(|opened| ((opened.tid, opened.place), &opened.event)).collect();
        let threads = old.lineage.descendants();
        let olds = old.events.iter().filter(|opened| opened.event.leads());
        let meetings = olds.filter_map(|opened| {
            let threads = threads.get(&opened.root)?.iter();
            let new: Vec<(Tid, &OpenEvent)> =
                threads.filter_map(|tid| Some((*tid, *own.get(&(*tid, opened.place))?))).collect();
            let (old, new) = read_together(|| opened.event.read_group(), || readings(&new))?;
            Some(Meeting { root: opened.root, place: opened.place, old, new })
        });
        meetings.collect()
    }
}

/// What each of the new groups said when the old one it had met ended; of one that has met none, what it says in the end. `later` is
/// what they say now that all old ones have ended.
pub(in crate::perf) fn begun(meetings: &[Meeting], ends: &[GroupEnd], later: Vec<ThreadSaid>) -> Vec<ThreadSaid> {
    let ends: FxHashMap<(RootId, usize), &GroupReading> =
        ends.iter().map(|end| ((end.root, end.place), &end.said)).collect();
    let said: FxHashMap<(Tid, usize), GroupReading> =
        later.iter().map(|(tid, place, said)| ((*tid, *place), *said)).collect();
    let (mut met, mut ran) = (FxHashMap::default(), FxHashMap::<Tid, u64>::default());
    for meeting in meetings {
        let Some(end) = ends.get(&(meeting.root, meeting.place)) else { continue };
        let both = end.beyond(&meeting.old);
        for (key, before, part) in meeting.parts(&both, &said) {
            *ran.entry(key.0).or_default() += part.running;
            met.insert(key, (before, part));
        }
    }
    let begun = later.into_iter().map(|(tid, place, later)| {
        let Some((before, part)) = met.get(&(tid, place)) else { return (tid, place, later) };
        let mut begun: GroupReading = before.zip(part, u64::saturating_add);
        // This clock goes whenever the thread runs, the other one on the group's own CPU alone.
        let ran = ran.get(&tid).copied().unwrap_or(0);
        begun.enabled = before.enabled.saturating_add(ran).min(later.enabled.max(before.enabled));
        (tid, place, begun)
    });
    begun.collect()
}

impl Meeting {
    /// What each new group said, and its part of what `both` have counted: divided by what the new ones have counted since.
    fn parts(
        &self,
        both: &GroupReading,
        later: &FxHashMap<(Tid, usize), GroupReading>,
    ) -> Vec<((Tid, usize), GroupReading, GroupReading)> {
        let since = |(tid, said): &(Tid, GroupReading)| {
            let key = (*tid, self.place);
            Some((key, *said, later.get(&key)?.beyond(said)))
        };
        let new: Vec<_> = self.new.iter().filter_map(since).collect();
        let mut all = GroupReading::default();
        new.iter().for_each(|(.., since)| all.add(since));
        let ratio = both.zip(&all, parts_in);
        new.into_iter().map(|(key, said, since)| (key, said, since.zip(&ratio, part_of))).collect()
    }
}

/// A whole, for ratios.
const ONE: u64 = 1 << 32;

/// The ratio of two numbers, at most one.
fn parts_in(part: u64, whole: u64) -> u64 {
    let ratio = (u128::from(part.min(whole)) << 32).checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(ratio).unwrap_or(ONE)
}

/// Rounded, so that a ratio of two small numbers gives the first one again.
fn part_of(whole: u64, ratio: u64) -> u64 {
    let part = (u128::from(whole) * u128::from(ratio) + u128::from(ONE / 2)) >> 32;
    u64::try_from(part).unwrap_or(whole)
}

fn readings(groups: &[(Tid, &OpenEvent)]) -> Vec<(Tid, GroupReading)> {
    groups.iter().filter_map(|(tid, event)| Some((*tid, event.read_group()?))).collect()
}

/// Both as of one moment; `None` for an old group that cannot be read.
fn read_together<T>(
    mut old: impl FnMut() -> Option<GroupReading>,
    mut new: impl FnMut() -> T,
) -> Option<(GroupReading, T)> {
    let mut best: Option<(u64, GroupReading, T)> = None;
    let mut before = old()?;
    for _ in 0..ATTEMPTS {
        let said = new();
        let after = old()?;
        let doubt = after.beyond(&before).values.iter().fold(0, |sum: u64, value| sum.saturating_add(*value));
        if best.as_ref().is_none_or(|(least, ..)| doubt < *least) {
            best = Some((doubt, before.on_the_way_to(&after, 0.5), said));
        }
        if doubt == 0 {
            break;
        }
        before = after;
    }
    best.map(|(_, old, new)| (old, new))
}

#[cfg(test)]
mod tests;
