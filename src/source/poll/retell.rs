//! From looks to events: what changed between two looks is taken to have changed half way between them.
//!
//! So each look stands for the time around it, as long as it is, and a late one for more. Invariant: no event lies before the
//! look that was told last.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::{
    estimate::book::{LockLook, LookBook, Seen, ThreadLook},
    model::{
        event::{Event, SeenCpu, SeenOwner, SeenRelation, What},
        ids::{LockId, Tid},
        state::{State, StateClass},
        time::{MonoNanos, Nanos},
    },
    source::poll::{
        course::half_way,
        look::{Look, Owner, Relation, ThreadSight},
    },
};

/// Looks held back for one that has not settled yet: at a thousand a second, half a second.
const MOST_PENDING: usize = 500;

/// What the last look saw.
#[derive(Debug, Default)]
pub(super) struct Retelling {
    /// Looks that are not told yet because of a thread that is not settled.
    pending: VecDeque<Look>,
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

    /// Takes a look, and appends what is settled by now.
    pub(super) fn take(&mut self, look: Look, main: Tid, book: &mut LookBook, out: &mut Vec<Event>) {
        self.settle_by(&look);
        self.pending.push_back(look);
        while let Some(look) = self.pending.pop_front() {
            if is_pending(&look) && self.pending.len() < MOST_PENDING {
                self.pending.push_front(look);
                return;
            }
            self.tell(&look, main, book, out);
        }
    }

    /// Takes a look of which [`crate::source::poll::course::Course`] has told the relations; appends the rest.
    pub(super) fn take_told(&mut self, look: &Look, main: Tid, book: &mut LookBook, out: &mut Vec<Event>) {
        for (index, owner) in (0..).zip(&look.owners) {
            let lock = LockId::from_index(index);
            // That a thread has let go is its own relation.
            let known = matches!(self.owner_of(lock), Some(Owner::Thread(_) | Owner::Nobody));
            let news = self.owner_news(lock, *owner).filter(|owner| !known || *owner == SeenOwner::Unknown);
            out.extend(news.map(|owner| Event { at: look.at, tid: main, what: What::OwnerSeen(lock, owner) }));
        }
        self.tell_rest(look, book, out);
    }

    /// Appends what is left.
    pub(super) fn finish(&mut self, main: Tid, book: &mut LookBook, out: &mut Vec<Event>) {
        while let Some(look) = self.pending.pop_front() {
            self.tell(&look, main, book, out);
        }
    }

    /// A thread that waits, or has the lock again, without having run for long in between wanted it all along.
    fn settle_by(&mut self, look: &Look) {
        for sight in &look.seen {
            let Relation::Settled(relation) = sight.relation else { continue };
            let meant = match relation {
                Some(SeenRelation::Waiting(lock)) if sight.straight => Some(SeenRelation::Waiting(lock)),
                Some(SeenRelation::Inside(lock)) => Some(SeenRelation::Waiting(lock)),
                Some(SeenRelation::Outside) => Some(SeenRelation::Outside),
                // It may have gone its own way for a while.
                Some(SeenRelation::Waiting(_)) | None => None,
            };
            let earlier = self.pending.iter_mut().flat_map(|look| &mut look.seen).filter(|seen| seen.tid == sight.tid);
            for seen in earlier.filter(|seen| seen.relation == Relation::Pending) {
                seen.relation = Relation::Settled(meant);
            }
        }
    }

    /// Appends what a look tells.
    fn tell(&mut self, look: &Look, main: Tid, book: &mut LookBook, out: &mut Vec<Event>) {
        let half = half_way(self.last, look.at);
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
            out.push(event(sight.tid, What::RelationSeen(told(sight))));
        }
        for tid in &look.gone {
            out.push(event(*tid, What::RelationSeen(Some(SeenRelation::Outside))));
            out.push(event(*tid, What::Exited));
        }
        self.tell_rest(look, book, out);
    }

    /// Appends what has nothing to do with locks, and enters the look.
    fn tell_rest(&mut self, look: &Look, book: &mut LookBook, out: &mut Vec<Event>) {
        let gap = self.last.map_or(Nanos::ZERO, |last| look.at.saturating_since(last));
        for tid in &look.gone {
            self.threads.remove(tid);
        }
        for sight in &look.seen {
            out.push(Event { at: look.at, tid: sight.tid, what: What::CpuSeen(sight.cpu) });
            self.threads.insert(sight.tid, Standing { relation: told(sight), cpu: sight.cpu.cpu });
        }
        out.extend(look.names.iter().map(|(tid, name)| Event {
            at: look.at,
            tid: *tid,
            what: What::Named(name.clone()),
        }));
        self.owners.clone_from(&look.owners);
        if self.last.replace(look.at).is_some() {
            self.enter(gap, book);
        }
    }

    fn is_new(&self, sight: &ThreadSight) -> bool {
        self.threads.get(&sight.tid).is_none_or(|standing| standing.relation != told(sight))
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

fn is_pending(look: &Look) -> bool {
    look.seen.iter().any(|sight| sight.relation == Relation::Pending)
}

/// One that nothing has settled is taken to be what it looks like.
fn told(sight: &ThreadSight) -> Option<SeenRelation> {
    match sight.relation {
        Relation::Settled(relation) => relation,
        Relation::Pending => Some(SeenRelation::Outside),
    }
}
