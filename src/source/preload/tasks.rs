//! Which threads of the target still exist, as far as that can be known from here.

use std::{fs, path::PathBuf};

use crate::model::ids::{Pid, Tid};

/// The threads of one process.
#[derive(Debug)]
pub struct Tasks {
    directory: PathBuf,
    numbering: Numbering,
}

/// Whose thread numbers the probe writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbering {
    /// Ours: a number that `/proc` does not show has ended.
    Shared,
    /// Those of another pid namespace: nothing can be concluded from `/proc`.
    Foreign,
}

impl Tasks {
    /// The threads of `pid`.
    pub fn of(pid: Pid) -> Self {
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
        let same = namespace("self") == namespace(&pid.to_string());
        let numbering = if same { Numbering::Shared } else { Numbering::Foreign };
        Self { directory: PathBuf::from(format!("/proc/{pid}/task")), numbering }
    }

    /// Whether the thread has certainly ended.
    pub fn has_ended(&self, tid: Tid) -> bool {
        self.numbering == Numbering::Shared && !self.directory.join(tid.to_string()).exists()
    }
}

#[cfg(test)]
mod tests {
    use super::Tasks;
    use crate::model::ids::{Pid, Tid};

    #[test]
    fn our_own_main_thread_exists_and_an_impossible_one_has_ended() {
        let pid = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw).unwrap();
        let tasks = Tasks::of(pid);
        assert!(!tasks.has_ended(pid.main_thread()));
        assert!(tasks.has_ended(Tid::from_raw(i32::MAX).unwrap()));
    }
}
