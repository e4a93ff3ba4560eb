//! From looks to events: what changed between two looks is taken to have changed half way between them.
//!
//! So each look stands for the time around it, as long as it is, and a late one for more. Invariant: no event lies before the
//! look that was told last.

use rustc_hash::FxHashMap;

use crate::{
    estimate::book::{LockLook, LookBook, Seen, ThreadLook},
    model::{
        event::{Event, SeenCpu, SeenOwner, SeenRelation, What},
        ids::{LockId, Tid},
        state::{State, StateClass},
        time::{MonoNanos, Nanos},
    },
    source::poll::look::{Look, Owner, ThreadSight},
};

/// What the last look saw.
#[derive(Debug, Default)]
pub(super) struct Retelling {
    last: Option<MonoNanos>,
    threads: FxHashMap<Tid, Standing>,
    owners: Vec<Owner>,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    relation: Option<SeenRelation>,
    cpu: SeenCpu,
}

impl Retelling {
    /// Up to when everything has been told.
    pub(super) fn told_until(&self) -> Option<MonoNanos> {
        self.last
    }

    /// Appends what a look tells.
    pub(super) fn tell(&mut self, look: &Look, main: Tid, book: &mut LookBook, out: &mut Vec<Event>) {
        let gap = self.last.map_or(Nanos::ZERO, |last| look.at.saturating_since(last));
        let half = look.at.earlier_by(Nanos::from_nanos(gap.as_nanos() / 2));
        let event = |tid, what| Event { at: half, tid, what };
        let changed: Vec<&ThreadSight> = look.seen.iter().filter(|sight| self.is_new(sight)).collect();
        let was_inside = |sight: &&ThreadSight| {
            let before = self.threads.get(&sight.tid).and_then(|standing| standing.relation);
            matches!(before, Some(SeenRelation::Inside(_)))
        };
        // A lock is free before another thread has it.
        let (leaving, others): (Vec<&ThreadSight>, Vec<_>) = changed.into_iter().partition(was_inside);
        for (index, owner) in (0..).zip(&look.owners) {
            let lock = LockId::from_index(index);
            out.extend(self.owner_news(lock, *owner).map(|owner| event(main, What::OwnerSeen(lock, owner))));
        }
        for sight in leaving.into_iter().chain(others) {
            out.push(event(sight.tid, What::RelationSeen(sight.relation)));
        }
        for tid in &look.gone {
            self.threads.remove(tid);
            out.push(event(*tid, What::RelationSeen(Some(SeenRelation::Outside))));
            out.push(event(*tid, What::Exited));
        }
        for sight in &look.seen {
            out.push(Event { at: look.at, tid: sight.tid, what: What::CpuSeen(sight.cpu) });
            self.threads.insert(sight.tid, Standing { relation: sight.relation, cpu: sight.cpu.cpu });
        }
        out.extend(look.names.iter().map(|(tid, name)| Event { at: look.at, tid: *tid, what: What::Named(name.clone()) }));
        self.owners.clone_from(&look.owners);
        if self.last.replace(look.at).is_some() {
            self.enter(gap, book);
        }
    }

    fn is_new(&self, sight: &ThreadSight) -> bool {
        self.threads.get(&sight.tid).is_none_or(|standing| standing.relation != sight.relation)
    }

    /// That no known thread owns the lock any more.
    fn owner_news(&self, lock: LockId, owner: Owner) -> Option<SeenOwner> {
        let seen = match owner {
            Owner::Nobody => SeenOwner::Nobody,
            Owner::Unknown => SeenOwner::Unknown,
            Owner::Thread(_) => return None,
        };
        (self.owner_of(lock) != Some(owner)).then_some(seen)
    }

    fn enter(&self, gap: Nanos, book: &mut LookBook) {
        let threads: Vec<ThreadLook> =
            self.threads.iter().map(|(tid, standing)| ThreadLook { tid: *tid, seen: self.seen(*standing) }).collect();
        let lock = |(index, owner): (u32, &Owner)| {
            let lock = LockId::from_index(index);
            let waits = |standing: &&Standing| standing.relation == Some(SeenRelation::Waiting(lock));
            let waiters = self.threads.values().filter(waits).count();
            LockLook { lock, held: *owner != Owner::Nobody, waiters: u64::try_from(waiters).unwrap_or(u64::MAX) }
        };
        let locks: Vec<LockLook> = (0..).zip(&self.owners).map(lock).collect();
        book.enter(gap, &threads, &locks);
    }

    fn seen(&self, standing: Standing) -> Option<Seen> {
        let asleep = standing.cpu == SeenCpu::Asleep;
        Some(match standing.relation? {
            SeenRelation::Inside(_) if asleep => Seen::State(State::HeldBlocked),
            SeenRelation::Inside(_) => Seen::Class(StateClass::Inside),
            SeenRelation::Outside if asleep => Seen::State(State::OutsideBlocked),
            SeenRelation::Outside => Seen::Class(StateClass::Outside),
            SeenRelation::Waiting(lock) => match self.owner_of(lock) {
                Some(Owner::Thread(_)) => Seen::State(State::WaitQueued),
                Some(Owner::Nobody) => Seen::State(State::WaitHandoff),
                Some(Owner::Unknown) | None => Seen::Class(StateClass::Waiting),
            },
        })
    }

    fn owner_of(&self, lock: LockId) -> Option<Owner> {
        let index = usize::try_from(lock.index()).ok()?;
        self.owners.get(index).copied()
    }
}
