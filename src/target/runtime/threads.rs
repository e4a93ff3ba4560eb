//! Thread ids across pid namespaces: a target in a container numbers its threads otherwise than the observer.

use std::collections::HashMap;

use crate::{
    model::ids::{Pid, Tid},
    target::process::{self, Status},
};

/// Whose numbers a process gives its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Numbering {
    /// The observer's.
    Shared,
    /// Those of a pid namespace inside the observer's.
    Foreign,
}

/// How `pid` numbers its threads.
pub fn numbering(pid: Pid) -> Numbering {
    let nested = Status::of_process(pid).is_ok_and(|status| status.namespaces > 1);
    if nested { Numbering::Foreign } else { Numbering::Shared }
}

/// From the target's own thread ids to the observer's.
#[derive(Debug)]
pub struct Translation {
    /// `None` when both live in the same namespace.
    outer: Option<HashMap<i32, Tid>>,
}

impl Translation {
    /// The translation for the threads that `pid` has now.
    pub fn of(pid: Pid) -> Self {
        Self { outer: (numbering(pid) == Numbering::Foreign).then(|| inner_ids(pid)) }
    }

    /// The observer's id of the thread that the target calls `inner`; `None` when there is no such thread now.
    pub fn outer(&self, inner: Tid) -> Option<Tid> {
        match &self.outer {
            None => Some(inner),
            Some(outer) => outer.get(&inner.raw()).copied(),
        }
    }
}

/// The threads that `pid` has now, by their ids in its own pid namespace.
pub fn inner_ids(pid: Pid) -> HashMap<i32, Tid> {
    let tids = process::threads(pid).unwrap_or_default();
    tids.into_iter().filter_map(|tid| Some((Status::of_thread(pid, tid).ok()?.inner_id, tid))).collect()
}
