//! Which opened event speaks for which thread. Pure.
//!
//! A thread is watched because events were opened on it (it is a root) or because it inherited them from its creator.
//! Around the moment at which events are opened on a creator, a new thread may inherit only those of some CPUs and must
//! be opened itself; then two sets of events report the same thread. Invariant: of the two only one is believed, so no
//! switch and no hit is counted twice.

use rustc_hash::FxHashMap;

use crate::model::{ids::Tid, time::MonoNanos};

/// A thread on which events were opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootId(usize);

/// The roots of one set of probes, and who descends from them.
#[derive(Debug, Default)]
pub struct Lineage {
    /// When a root's events were open on every CPU; `None` while they are being opened.
    complete: Vec<Option<MonoNanos>>,
    root_of: FxHashMap<Tid, RootId>,
}

impl Lineage {
    /// A root whose events are about to be opened.
    pub fn begin_root(&mut self) -> RootId {
        self.complete.push(None);
        RootId(self.complete.len() - 1)
    }

    /// The events of `root`, opened on `tid`, are complete from `at` on; they alone speak for it.
    pub fn complete_root(&mut self, root: RootId, tid: Tid, at: MonoNanos) {
        self.complete[root.0] = Some(at);
        self.root_of.insert(tid, root);
    }

    /// Whether `tid` is watched on every CPU.
    pub fn covers(&self, tid: Tid) -> bool {
        self.root_of.contains_key(&tid)
    }

    /// `parent` created `child` at `at`. What it inherits is complete only if its root's events were.
    pub fn on_fork(&mut self, parent: Tid, child: Tid, at: MonoNanos) {
        let opened_since = self.root_of.get(&child).is_some_and(|own| self.complete_after(*own, at));
        if opened_since {
            return;
        }
        match self.root_of.get(&parent).copied() {
            Some(root) if !self.complete_after(root, at) => self.root_of.insert(child, root),
            // The number may be that of an earlier thread whose end was lost.
            _ => self.root_of.remove(&child),
        };
    }

    /// The threads that each root speaks for.
    pub fn descendants(&self) -> FxHashMap<RootId, Vec<Tid>> {
        let mut threads: FxHashMap<RootId, Vec<Tid>> = FxHashMap::default();
        self.root_of.iter().for_each(|(tid, root)| threads.entry(*root).or_default().push(*tid));
        threads
    }

    /// `tid` ended; its number may be used again.
    pub fn on_exit(&mut self, tid: Tid) {
        self.root_of.remove(&tid);
    }

    /// A thread took over the number of the process's first and all others ended: nothing known about numbers holds.
    pub fn on_renumbered(&mut self) {
        self.root_of.clear();
    }

    /// Whether a record about `tid`, written by an event of `root`, is to be believed. For a thread whose birth was not
    /// seen every root is as good as another.
    pub fn believes(&self, root: RootId, tid: Tid) -> bool {
        self.root_of.get(&tid).is_none_or(|own| *own == root)
    }

    fn complete_after(&self, root: RootId, at: MonoNanos) -> bool {
        self.complete[root.0].is_none_or(|complete| complete > at)
    }
}

#[cfg(test)]
mod tests {
    use super::Lineage;
    use crate::model::{ids::Tid, time::MonoNanos};

    fn tid(raw: i32) -> Tid {
        Tid::from_raw(raw).unwrap()
    }

    fn at(nanos: u64) -> MonoNanos {
        MonoNanos::from_monotonic(nanos)
    }

    #[test]
    fn descendants_of_a_complete_root_are_covered_and_speak_through_it() {
        let mut lineage = Lineage::default();
        let root = lineage.begin_root();
        lineage.complete_root(root, tid(1), at(10));
        lineage.on_fork(tid(1), tid(2), at(11));
        lineage.on_exit(tid(1));
        lineage.on_fork(tid(2), tid(3), at(12));
        assert!(lineage.covers(tid(3)) && lineage.believes(root, tid(3)));
        let other = lineage.begin_root();
        assert!(!lineage.believes(other, tid(3)));
    }

    /// ```text
    /// root 1 opened on CPU 0 ──┬── on CPU 1, complete
    ///                     thread 2 created: inherits CPU 0 only
    /// ```
    #[test]
    fn a_thread_born_while_its_creator_is_being_opened_becomes_a_root() {
        let mut lineage = Lineage::default();
        let partial = lineage.begin_root();
        lineage.complete_root(partial, tid(1), at(10));
        lineage.on_fork(tid(1), tid(2), at(9));
        assert!(!lineage.covers(tid(2)));
        let own = lineage.begin_root();
        lineage.complete_root(own, tid(2), at(20));
        assert!(lineage.believes(own, tid(2)) && !lineage.believes(partial, tid(2)));
        lineage.on_fork(tid(2), tid(3), at(21));
        assert!(lineage.believes(own, tid(3)) && !lineage.believes(partial, tid(3)));
    }

    #[test]
    fn a_fork_read_after_its_child_was_opened_changes_nothing() {
        let mut lineage = Lineage::default();
        let first = lineage.begin_root();
        lineage.complete_root(first, tid(1), at(5));
        let own = lineage.begin_root();
        lineage.complete_root(own, tid(2), at(20));
        lineage.on_fork(tid(1), tid(2), at(15));
        assert!(lineage.believes(own, tid(2)) && !lineage.believes(first, tid(2)));
    }

    #[test]
    fn a_number_used_again_belongs_to_its_new_creator() {
        let mut lineage = Lineage::default();
        let first = lineage.begin_root();
        lineage.complete_root(first, tid(1), at(5));
        let stale = lineage.begin_root();
        lineage.complete_root(stale, tid(2), at(6));
        lineage.on_fork(tid(1), tid(2), at(30));
        assert!(lineage.believes(first, tid(2)) && !lineage.believes(stale, tid(2)));
    }
}
