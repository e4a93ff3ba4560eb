//! The numbers that the target's threads have in their own pid namespace, learned while the threads live.
//!
//! Nothing is read for a target that shares ours.

use std::{cell::RefCell, rc::Rc};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    model::{
        ids::{Pid, Tid},
        surroundings::Surroundings,
    },
    source::renumber::SharedNumbers,
    target::{process::Status, surroundings},
};

/// More than this are forgotten, and those of living threads learned again.
const REMEMBERED: usize = 1 << 16;

/// Learns the numbers of one process's threads.
#[derive(Debug)]
pub(super) struct ThreadNumbers {
    pid: Pid,
    surroundings: Surroundings,
    known: SharedNumbers,
    /// Those that could not be asked: they had ended.
    gone: FxHashSet<Tid>,
}

impl ThreadNumbers {
    /// Of the threads of `pid`, beside what a source writes into `known`.
    pub(super) fn of(pid: Pid, known: SharedNumbers) -> Self {
        Self { pid, surroundings: surroundings::of_process(pid), known, gone: FxHashSet::default() }
    }

    /// Asks for the numbers of those threads of `live` that are new.
    pub(super) fn learn(&mut self, live: impl Iterator<Item = Tid>) {
        if self.surroundings.numbers.is_none() {
            return;
        }
        let mut known = self.known.borrow_mut();
        if known.len() + self.gone.len() > REMEMBERED {
            known.clear();
            self.gone.clear();
        }
        for tid in live {
            if known.contains_key(&tid) || self.gone.contains(&tid) {
                continue;
            }
            match Status::of_thread(self.pid, tid) {
                Ok(status) => drop(known.insert(tid, status.inner_id)),
                Err(_) => drop(self.gone.insert(tid)),
            }
        }
    }

    /// Everything learned so far.
    pub(super) fn known(&self) -> Surroundings {
        let mut known = self.surroundings.clone();
        if let Some(numbers) = &mut known.numbers {
            numbers.tids = self.known.borrow().iter().map(|(tid, inner)| (*tid, *inner)).collect();
        }
        known
    }
}

/// Nobody's numbers yet.
pub(super) fn none_known() -> SharedNumbers {
    Rc::new(RefCell::new(FxHashMap::default()))
}
