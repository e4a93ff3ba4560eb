//! Where the target lives, as far as that is not where the observer does: namespaces, root directory, numbers.

use std::collections::BTreeMap;

use crate::model::ids::{Pid, Tid};

/// What differs between the target's surroundings and the observer's; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// The kinds of namespace of which the target has its own, as `/proc` names them: `pid`, `mnt`, `user`, `net`, …
    pub namespaces: Vec<&'static str>,
    /// The directory that the target takes for the root; `None` when it is the observer's or could not be read.
    pub root: Option<String>,
    /// The target's own numbers for itself and its threads; `None` when they are the observer's.
    pub numbers: Option<InnerNumbers>,
}

/// Numbers in the target's own pid namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InnerNumbers {
    /// Of the process; `None` when it could not be read.
    pub pid: Option<i32>,
    /// Of its threads, as far as they were learned while these lived.
    pub tids: BTreeMap<Tid, i32>,
}

impl Surroundings {
    /// The number that the target itself has for `pid`; `None` when it is not known.
    pub fn inner_pid(&self, pid: Pid) -> Option<i32> {
        self.numbers.as_ref().map_or(Some(pid.raw()), |numbers| numbers.pid)
    }

    /// The number that the target itself has for its thread `tid`; `None` when it is not known.
    pub fn inner_tid(&self, tid: Tid) -> Option<i32> {
        self.numbers.as_ref().map_or(Some(tid.raw()), |numbers| numbers.tids.get(&tid).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::{InnerNumbers, Surroundings};
    use crate::model::ids::{Pid, Tid};

    #[test]
    fn numbers_are_the_same_unless_the_target_has_its_own() {
        let (pid, tid) = (Pid::from_raw(7).unwrap(), Tid::from_raw(8).unwrap());
        let same = Surroundings::default();
        assert_eq!((same.inner_pid(pid), same.inner_tid(tid)), (Some(7), Some(8)));
        let numbers = Some(InnerNumbers { pid: Some(1), tids: [(tid, 2)].into() });
        let own = Surroundings { numbers, ..Surroundings::default() };
        assert_eq!((own.inner_pid(pid), own.inner_tid(tid)), (Some(1), Some(2)));
        assert_eq!(own.inner_tid(pid.main_thread()), None);
    }
}
