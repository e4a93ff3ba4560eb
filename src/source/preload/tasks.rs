//! Which threads of the target still exist, as far as that can be known from here.

use std::{collections::HashMap, path::PathBuf};

use crate::{
    model::ids::{Pid, Tid},
    target::{
        process::Status,
        runtime::threads::{Numbering, inner_ids, numbering},
    },
};

/// The threads of one process, by the numbers that the probe writes: those of the process's own pid namespace.
#[derive(Debug)]
pub struct Tasks {
    pid: Pid,
    directory: PathBuf,
    numbering: Numbering,
    /// Our numbers of those seen alive, by theirs, where they differ.
    seen: HashMap<i32, Tid>,
}

impl Tasks {
    /// The threads of `pid`.
    pub fn of(pid: Pid) -> Self {
        let directory = PathBuf::from(format!("/proc/{pid}/task"));
        Self { pid, directory, numbering: numbering(pid), seen: HashMap::new() }
    }

    /// Whether the thread, which has existed, has certainly ended.
    pub fn has_ended(&mut self, tid: Tid) -> bool {
        match self.numbering {
            Numbering::Shared => !self.directory.join(tid.to_string()).exists(),
            Numbering::Foreign => !(self.is_still_there(tid) || self.is_listed(tid)),
        }
    }

    fn is_still_there(&self, inner: Tid) -> bool {
        let outer = self.seen.get(&inner.raw());
        let status = outer.and_then(|outer| Status::of_thread(self.pid, *outer).ok());
        status.is_some_and(|status| status.inner_id == inner.raw())
    }

    /// Two listings: one may miss a thread when another ends under its hands.
    fn is_listed(&mut self, inner: Tid) -> bool {
        (0..2).any(|_| {
            self.seen = inner_ids(self.pid);
            self.seen.contains_key(&inner.raw())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Tasks;
    use crate::{
        model::ids::{Pid, Tid},
        target::runtime::threads::Numbering,
    };

    #[test]
    fn our_own_main_thread_exists_and_an_impossible_one_has_ended() {
        let pid = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw).unwrap();
        let mut tasks = Tasks::of(pid);
        for numbering in [Numbering::Shared, Numbering::Foreign] {
            tasks.numbering = numbering;
            assert!(!tasks.has_ended(pid.main_thread()));
            assert!(tasks.has_ended(Tid::from_raw(i32::MAX).unwrap()));
        }
    }
}
