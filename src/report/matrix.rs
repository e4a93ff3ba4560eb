//! Waiters × holders of one lock. The invariant: whatever is summed up, all cells together are the lock's blame, each row
//! that of its waiter and each column that of its holder.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::model::{
    ids::{LockId, Tid},
    profile::{Blame, Profile},
    time::Nanos,
};

/// Who waited how long for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Matrix {
    /// The lock.
    pub(super) lock: LockId,
    /// One a row, longest waiting first; `None`, at the end: all others.
    pub(super) waiters: Vec<Option<Tid>>,
    /// One a column, longest waited for first; `None`, at the end: all others.
    pub(super) holders: Vec<Option<Tid>>,
    /// Row by row.
    pub(super) wait: Vec<Vec<Nanos>>,
}

impl Matrix {
    /// The matrix of `lock` with at most `most` named waiters and holders.
    pub(super) fn of(profile: &Profile, lock: LockId, most: usize) -> Self {
        let entries: Vec<&Blame> = profile.blame.iter().filter(|blame| blame.lock == lock).collect();
        let waiters = largest(entries.iter().map(|blame| (blame.waiter, blame.wait)), most);
        let holders = largest(entries.iter().map(|blame| (blame.holder, blame.wait)), most);
        let mut wait = vec![vec![Nanos::ZERO; holders.len()]; waiters.len()];
        for blame in entries {
            wait[place(&waiters, blame.waiter)][place(&holders, blame.holder)] += blame.wait;
        }
        Self { lock, waiters, holders, wait }
    }

    /// All waiting of the waiter in this row.
    pub(super) fn of_row(&self, row: usize) -> Nanos {
        self.wait[row].iter().copied().sum()
    }

    /// All waiting for the holder in this column.
    pub(super) fn of_column(&self, column: usize) -> Nanos {
        self.wait.iter().map(|row| row[column]).sum()
    }

    /// How many cells are not empty.
    pub(super) fn pairs(&self) -> usize {
        self.wait.iter().flatten().filter(|wait| **wait > Nanos::ZERO).count()
    }
}

/// The threads with the largest sums, at most `most` of them; then `None`, if any time is not theirs.
fn largest(parts: impl Iterator<Item = (Option<Tid>, Nanos)>, most: usize) -> Vec<Option<Tid>> {
    let mut sums: BTreeMap<Option<Tid>, Nanos> = BTreeMap::new();
    for (thread, time) in parts {
        *sums.entry(thread).or_default() += time;
    }
    let unnamed = sums.remove(&None).is_some();
    let mut named: Vec<_> = sums.into_iter().collect();
    named.sort_by_key(|(thread, time)| (Reverse(*time), *thread));
    let rest = unnamed || named.len() > most;
    let named = named.into_iter().take(most).map(|(thread, _)| thread);
    named.chain(rest.then_some(None)).collect()
}

/// Where the thread stands; among the others if it is not named.
fn place(threads: &[Option<Tid>], thread: Option<Tid>) -> usize {
    let found = threads.iter().position(|other| *other == thread);
    found.unwrap_or(threads.len().saturating_sub(1))
}
