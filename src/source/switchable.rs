//! Steps with a lock that can be turned off: that of a free-threaded build, which is in use only while something has enabled it.
//!
//! Whoever waits for it when it is turned off comes away without it, and passes the signal on that woke it up. That looks like a
//! release by a thread that owns nothing. Invariant: what leaves here are releases by owners only, and each wait ends.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{
    event::LockStep,
    ids::{LockId, Tid},
};

/// What a call on such a lock stands for: nothing, a step, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps([Option<LockStep>; 2]);

impl Steps {
    /// Just this one.
    pub(super) const fn one(step: LockStep) -> Self {
        Self([Some(step), None])
    }

    /// Each of them, turned into something else.
    pub(super) fn map<Other>(self, into: impl FnMut(LockStep) -> Other) -> impl Iterator<Item = Other> {
        self.0.into_iter().flatten().map(into)
    }
}

/// Who owns such locks and who wants them.
#[derive(Debug, Default)]
pub(super) struct Switchable {
    /// The owner; no entry before the first acquisition, when it may be anybody.
    owners: FxHashMap<LockId, Option<Tid>>,
    wanting: FxHashSet<(Tid, LockId)>,
}

impl Switchable {
    /// What the step of `tid` with `lock` that a call stands for elsewhere stands for here.
    pub(super) fn steps(&mut self, tid: Tid, lock: LockId, step: LockStep) -> Steps {
        match step {
            LockStep::Want => drop(self.wanting.insert((tid, lock))),
            LockStep::Acquired => {
                self.wanting.remove(&(tid, lock));
                self.owners.insert(lock, Some(tid));
            }
            LockStep::Released => return self.release(tid, lock),
            LockStep::Yielded => {}
        }
        Steps::one(step)
    }

    fn release(&mut self, tid: Tid, lock: LockId) -> Steps {
        let owner = self.owners.get(&lock).copied();
        match owner {
            // While another owns it, it is libc that passes a signal on, and the wait goes on.
            Some(Some(owner)) if owner != tid => Steps([None, None]),
            // It finds the lock free, and would have had it in this moment: a wait that ends in a hold of no length.
            _ if self.wanting.remove(&(tid, lock)) => Steps([Some(LockStep::Acquired), Some(LockStep::Released)]),
            Some(None) => Steps([None, None]),
            _ => {
                self.owners.insert(lock, None);
                Steps::one(LockStep::Released)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Steps, Switchable};
    use crate::model::{
        event::LockStep::{self, Acquired, Released, Want},
        ids::{LockId, Tid},
    };

    const NOTHING: Steps = Steps([None, None]);

    fn steps(taken: &[(i32, LockStep)]) -> Vec<Steps> {
        let mut locks = Switchable::default();
        taken
            .iter()
            .map(|(tid, step)| locks.steps(Tid::from_raw(*tid).unwrap(), LockId::from_index(0), *step))
            .collect()
    }

    #[test]
    fn a_lock_that_stays_on_is_like_any_other() {
        let taken = [(1, Acquired), (2, Want), (1, Released), (2, Acquired), (2, Released)];
        assert_eq!(steps(&taken), taken.map(|(_, step)| Steps::one(step)));
    }

    /// ```text
    /// 1 ├── owns ──┤ turned off
    /// 2    wants ────┤ comes away     3 comes away, too, and never waited
    /// ```
    #[test]
    fn who_comes_away_without_it_has_waited_and_releases_nothing() {
        let taken = [(1, Acquired), (2, Want), (1, Released), (2, Released), (3, Released)];
        let away = Steps([Some(Acquired), Some(Released)]);
        let expected = [Steps::one(Acquired), Steps::one(Want), Steps::one(Released), away, NOTHING];
        assert_eq!(steps(&taken), expected);
    }

    #[test]
    fn a_signal_passed_on_inside_a_wait_ends_no_wait() {
        let expected = [Steps::one(Acquired), Steps::one(Want), NOTHING, Steps::one(Released), Steps::one(Acquired)];
        assert_eq!(steps(&[(1, Acquired), (2, Want), (2, Released), (1, Released), (2, Acquired)]), expected);
    }

    #[test]
    fn the_owner_at_the_start_is_not_known_and_may_release() {
        assert_eq!(steps(&[(1, Released), (1, Released)]), [Steps::one(Released), NOTHING]);
    }
}
