//! Who descends from whom, asked of `/proc` every so often, where the kernel does not tell of births.
//!
//! What begins and ends between two looks is not seen. A number with another start time is another process.

use std::fs;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    model::{
        ids::Pid,
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    source::kin::{Turn, TurnKind},
};

/// Between two looks.
const PAUSE: Nanos = Nanos::from_millis(20);

/// The descendants seen at the last look, each with its start time as the kernel counts it.
#[derive(Debug)]
pub(super) struct Births {
    known: FxHashMap<Pid, u64>,
    looked: MonoNanos,
}

impl Default for Births {
    fn default() -> Self {
        Self { known: FxHashMap::default(), looked: MonoNanos::from_monotonic(0) }
    }
}

impl Births {
    /// What has changed among the descendants of `first` since the last look, if another is due.
    pub(super) fn look(&mut self, first: Pid) -> Vec<Turn> {
        let at = clock::now();
        if at.saturating_since(self.looked) < PAUSE {
            return Vec::new();
        }
        self.looked = at;
        let mut turns = Vec::new();
        let mut present = FxHashSet::default();
        for (pid, parent) in descendants(first) {
            let Some(start) = start_time(pid) else { continue };
            present.insert(pid);
            if self.known.insert(pid, start) != Some(start) {
                turns.push(Turn { at, pid, life: None, what: TurnKind::Born { parent } });
            }
        }
        self.known.retain(|pid, _| {
            let there = present.contains(pid) || is_alive(*pid);
            if !there {
                turns.push(Turn { at, pid: *pid, life: None, what: TurnKind::Ended });
            }
            there
        });
        turns
    }
}

/// All living descendants of `first` with their parents, parents first.
pub(in crate::session) fn descendants(first: Pid) -> Vec<(Pid, Pid)> {
    let mut found: Vec<(Pid, Pid)> = Vec::new();
    let mut next = vec![first];
    // A number may be used again while we read: nobody is visited twice.
    let mut visited = FxHashSet::from_iter([first]);
    while let Some(parent) = next.pop() {
        for child in children(parent) {
            if visited.insert(child) {
                found.push((child, parent));
                next.push(child);
            }
        }
    }
    found
}

fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let numbers = |list: String| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<i32>>();
    lists.flat_map(numbers).filter_map(Pid::from_raw).collect()
}

/// Whether the process has a program still: of one that ended there is a number at most.
pub(super) fn is_alive(pid: Pid) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// The field `starttime` of `/proc/P/stat`: behind the name, which may hold anything, the twentieth.
fn start_time(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind) = text.rsplit_once(')')?;
    behind.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Births, descendants, start_time};
    use crate::{model::ids::Pid, source::kin::TurnKind};

    #[test]
    fn a_child_is_found_once_and_missed_when_it_is_gone() {
        let own = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        assert!(descendants(own).contains(&(pid, own)));
        assert!(start_time(pid) >= start_time(own));
        let mut births = Births::default();
        let born = births.look(own);
        assert!(born.iter().any(|turn| turn.pid == pid && turn.what == TurnKind::Born { parent: own }));
        child.kill().unwrap();
        child.wait().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        let turns = births.look(own);
        assert!(turns.iter().any(|turn| turn.pid == pid && turn.what == TurnKind::Ended), "{turns:?}");
    }
}
