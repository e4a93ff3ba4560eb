//! What happened between two looks where waits are taken exactly: each wait begins and ends at its own moment, everything else
//! half way between what is known before it and after it.
//!
//! ```text
//! look              wants            has it                  look
//!  │ inside ────┬────│ waiting ────────│ inside ────┬─────────│ outside
//!               half way                            half way
//! ```
//!
//! Invariant: as in the ledger, who gets the lock takes it from whoever was thought to own it.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    model::{
        event::{Event, LockStep, SeenRelation, What},
        ids::{LockId, Tid},
        time::{MonoNanos, Nanos},
    },
    source::poll::{
        look::{Look, Owner, Relation, ThreadSight},
        waits::WaitStep,
    },
};

/// PyPy has one lock.
const LOCK: LockId = LockId::from_index(0);

/// Who waits and who is where, as exactly as steps and looks tell together.
#[derive(Debug, Default)]
pub(super) struct Course {
    relations: FxHashMap<Tid, Option<SeenRelation>>,
    /// Threads of which a step was seen: whether they wait is known.
    known: FxHashSet<Tid>,
    /// Threads that no look has shown yet.
    unseen: FxHashSet<Tid>,
    last: Option<MonoNanos>,
}

/// When something was last known of each thread since the last look.
type Since = FxHashMap<Tid, MonoNanos>;

impl Course {
    /// Tells what the steps since the last look and the look itself say, and corrects the look by what steps say better.
    /// `exists` tells whether a thread lives.
    pub(super) fn tell(
        &mut self,
        steps: &[WaitStep],
        look: &mut Look,
        exists: impl Fn(Tid) -> bool,
        out: &mut Vec<Event>,
    ) {
        let start = self.last.replace(look.at);
        let mut since = Since::default();
        for step in steps {
            self.step(*step, (start, &mut since), out);
        }
        for owner in &mut look.owners {
            // Who gives way stays in the lock's word until the next one takes it.
            if owner.thread().is_some_and(|tid| self.waits(tid)) {
                *owner = Owner::Nobody;
            }
        }
        let begins = start.is_none();
        let half = |tid: Tid| half_way(since.get(&tid).copied().or(start), look.at);
        let is_lost = look.owners.contains(&Owner::Unknown);
        for sight in &mut look.seen {
            let told = self.corrected(sight, begins, is_lost);
            sight.relation = Relation::Settled(told);
            self.unseen.remove(&sight.tid);
            if self.relations.insert(sight.tid, told) != Some(told) {
                out.push(Event { at: half(sight.tid), tid: sight.tid, what: What::RelationSeen(told) });
            }
        }
        let ended: Vec<Tid> = self.unseen.iter().copied().filter(|tid| !exists(*tid)).collect();
        for tid in look.gone.iter().copied().chain(ended) {
            let at = half(tid);
            self.forget(tid);
            out.push(Event { at, tid, what: What::RelationSeen(Some(SeenRelation::Outside)) });
            out.push(Event { at, tid, what: What::Exited });
        }
    }

    /// Tells the steps after the last look.
    pub(super) fn finish(&mut self, steps: &[WaitStep], out: &mut Vec<Event>) {
        let mut since = Since::default();
        steps.iter().for_each(|step| self.step(*step, (self.last, &mut since), out));
    }

    /// Steps of this thread are missing: what it does is what the next look says.
    pub(super) fn lose(&mut self, tid: Tid) {
        self.known.remove(&tid);
        self.relations.insert(tid, None);
    }

    fn forget(&mut self, tid: Tid) {
        self.relations.remove(&tid);
        self.known.remove(&tid);
        self.unseen.remove(&tid);
    }

    fn step(&mut self, step: WaitStep, (start, since): (Option<MonoNanos>, &mut Since), out: &mut Vec<Event>) {
        let WaitStep { at, tid, step } = step;
        let before = self.relations.get(&tid).copied();
        if before.is_none() {
            self.unseen.insert(tid);
        }
        self.known.insert(tid);
        let mut tell = |at, relation| out.push(Event { at, tid, what: What::RelationSeen(Some(relation)) });
        let now = match (before.flatten(), step) {
            (Some(SeenRelation::Waiting(lock)), LockStep::Want | LockStep::Yielded) => SeenRelation::Waiting(lock),
            (relation, LockStep::Want | LockStep::Yielded) => {
                // It has let go some time before, unless it gives way just now.
                if matches!(relation, Some(SeenRelation::Inside(_))) && step == LockStep::Want {
                    tell(half_way(since.get(&tid).copied().or(start), at), SeenRelation::Outside);
                }
                tell(at, SeenRelation::Waiting(LOCK));
                SeenRelation::Waiting(LOCK)
            }
            (_, LockStep::Acquired | LockStep::Released) => {
                tell(at, SeenRelation::Inside(LOCK));
                self.vacate(tid, at, since);
                SeenRelation::Inside(LOCK)
            }
        };
        self.relations.insert(tid, Some(now));
        since.insert(tid, at);
    }

    /// Nobody else owns the lock from now on.
    fn vacate(&mut self, by: Tid, at: MonoNanos, since: &mut Since) {
        for (tid, relation) in &mut self.relations {
            if *tid != by && matches!(relation, Some(SeenRelation::Inside(_))) {
                *relation = Some(SeenRelation::Outside);
                since.insert(*tid, at);
            }
        }
    }

    fn waits(&self, tid: Tid) -> bool {
        self.known.contains(&tid) && matches!(self.relations.get(&tid), Some(Some(SeenRelation::Waiting(_))))
    }

    /// What a look says of a thread, and steps say better.
    fn corrected(&self, sight: &ThreadSight, begins: bool, is_lost: bool) -> Option<SeenRelation> {
        if self.waits(sight.tid) {
            return Some(SeenRelation::Waiting(LOCK));
        }
        let waited = matches!(self.relations.get(&sight.tid), Some(Some(SeenRelation::Waiting(_)) | None));
        match sight.relation {
            Relation::Settled(Some(SeenRelation::Inside(lock))) => Some(SeenRelation::Inside(lock)),
            // It began to before steps were taken, or some are missing.
            Relation::Settled(Some(SeenRelation::Waiting(lock))) if begins || waited => {
                Some(SeenRelation::Waiting(lock))
            }
            Relation::Settled(None) if is_lost => None,
            Relation::Settled(_) | Relation::Pending => Some(SeenRelation::Outside),
        }
    }
}

/// Half way from what was known last, if anything was, to `until`.
pub(super) fn half_way(from: Option<MonoNanos>, until: MonoNanos) -> MonoNanos {
    let gap = from.map_or(Nanos::ZERO, |from| until.saturating_since(from));
    until.earlier_by(Nanos::from_nanos(gap.as_nanos() / 2))
}

#[cfg(test)]
mod tests {
    use super::{Course, LOCK};
    use crate::{
        model::{
            event::{CpuSight, Event, LockStep, Pause, SeenCpu, SeenRelation, What},
            ids::Tid,
            time::MonoNanos,
        },
        source::poll::{
            look::{Look, Owner, Relation, ThreadSight},
            waits::WaitStep,
        },
    };

    const INSIDE: SeenRelation = SeenRelation::Inside(LOCK);
    const WAITING: SeenRelation = SeenRelation::Waiting(LOCK);

    fn tid(raw: i32) -> Tid {
        Tid::from_raw(raw).unwrap()
    }

    fn look(at: u64, owner: Owner, seen: &[(i32, SeenRelation)]) -> Look {
        let cpu = CpuSight { cpu: SeenCpu::Runnable, pause: Pause::Unknown, spent: None };
        let sight = |(raw, relation): &(i32, SeenRelation)| ThreadSight {
            tid: tid(*raw),
            relation: Relation::Settled(Some(*relation)),
            cpu,
            straight: false,
        };
        Look {
            at: MonoNanos::from_monotonic(at),
            owners: vec![owner],
            seen: seen.iter().map(sight).collect(),
            gone: Vec::new(),
            names: Vec::new(),
            seats: Vec::new(),
        }
    }

    fn step(at: u64, raw: i32, step: LockStep) -> WaitStep {
        WaitStep { at: MonoNanos::from_monotonic(at), tid: tid(raw), step }
    }

    fn told(course: &mut Course, steps: &[WaitStep], mut look: Look) -> Vec<(u64, i32, Option<SeenRelation>)> {
        let mut out = Vec::new();
        course.tell(steps, &mut look, |_| false, &mut out);
        out.sort_by_key(|event: &Event| event.at);
        let relation = |event: &Event| match event.what {
            What::RelationSeen(relation) => Some((event.at.as_nanos(), event.tid.raw(), relation)),
            _ => None,
        };
        out.iter().filter_map(relation).collect()
    }

    #[test]
    fn waits_have_their_own_moments_and_the_rest_lies_half_way() {
        let mut course = Course::default();
        let first = look(1_000, Owner::Thread(tid(1)), &[(1, INSIDE), (2, SeenRelation::Outside)]);
        let outside = SeenRelation::Outside;
        assert_eq!(told(&mut course, &[], first), [(1_000, 1, Some(INSIDE)), (1_000, 2, Some(outside))]);
        let steps = [
            step(1_100, 2, LockStep::Want),
            step(1_300, 1, LockStep::Yielded),
            step(1_310, 1, LockStep::Want),
            step(1_320, 2, LockStep::Acquired),
            step(1_600, 1, LockStep::Acquired),
        ];
        let second = look(2_000, Owner::Nobody, &[(1, outside), (2, outside)]);
        let expected = [
            (1_100, 2, Some(WAITING)),
            (1_300, 1, Some(WAITING)),
            (1_320, 2, Some(INSIDE)),
            // The second thread is out by then: whoever gets the lock takes it.
            (1_600, 1, Some(INSIDE)),
            (1_800, 1, Some(outside)),
        ];
        assert_eq!(told(&mut course, &steps, second), expected);
    }

    #[test]
    fn who_gives_way_is_no_owner_though_the_word_names_it() {
        let mut course = Course::default();
        told(&mut course, &[], look(1_000, Owner::Thread(tid(1)), &[(1, INSIDE)]));
        let mut second = look(2_000, Owner::Thread(tid(1)), &[(1, INSIDE)]);
        let mut out = Vec::new();
        course.tell(&[step(1_900, 1, LockStep::Yielded)], &mut second, |_| true, &mut out);
        assert_eq!((second.owners[0], second.seen[0].relation), (Owner::Nobody, Relation::Settled(Some(WAITING))));
    }

    #[test]
    fn a_thread_that_no_look_has_seen_ends() {
        let mut course = Course::default();
        told(&mut course, &[], look(1_000, Owner::Nobody, &[]));
        let steps = [step(1_200, 7, LockStep::Want), step(1_400, 7, LockStep::Acquired)];
        let events = told(&mut course, &steps, look(2_000, Owner::Nobody, &[]));
        let expected = [(1_200, 7, Some(WAITING)), (1_400, 7, Some(INSIDE)), (1_700, 7, Some(SeenRelation::Outside))];
        assert_eq!(events, expected);
        assert_eq!(told(&mut course, &[], look(3_000, Owner::Nobody, &[])), []);
    }
}
