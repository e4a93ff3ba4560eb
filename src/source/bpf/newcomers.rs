//! Threads that a tick finds and the programs do not know yet: looked up in the interpreter's own list.
//!
//! A thread that has just begun is not in the list until it has run for a moment. So one that is not found is looked up
//! again, soon at first and then less and less often: a thread of no interpreter is a newcomer for ever.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    bpf::map::Existing,
    model::{
        ids::Tid,
        time::{MonoNanos, Nanos},
    },
    source::bpf::{config::Config, programs::Programs},
    target::{
        discover::Target,
        memory::{MemoryError, ProcessMemory},
    },
};

/// The list is not read more often than this; how soon one that was not found is looked up again for the first time.
const PAUSE: Nanos = Nanos::from_millis(20);

/// How soon it is looked up again at the latest.
const LONGEST_PAUSE: Nanos = Nanos::from_millis(1_000);

/// One that is looked up no more often than this is none of the interpreter's.
const SETTLED: Nanos = Nanos::from_millis(160);

/// Who is new, and where to look.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    place: Option<(Target, ProcessMemory)>,
    /// Those to be looked up.
    met: FxHashSet<Tid>,
    /// Those that were looked up and not found.
    strangers: FxHashMap<Tid, Stranger>,
    looked: Option<MonoNanos>,
}

#[derive(Debug, Clone, Copy)]
struct Stranger {
    asked: MonoNanos,
    /// How long after that it is looked up again.
    pause: Nanos,
}

impl Newcomers {
    /// From now on looks in this target's list.
    pub(super) fn look_in(&mut self, target: &Target) -> Result<(), MemoryError> {
        self.place = Some((target.clone(), ProcessMemory::open(target.pid)?));
        Ok(())
    }

    /// Notes a thread that the programs do not know; says whether that may be because it is new, rather than none of the
    /// interpreter's.
    pub(super) fn meet(&mut self, tid: Tid, now: MonoNanos) -> bool {
        let stranger = self.strangers.get(&tid);
        if stranger.is_none_or(|stranger| now.saturating_since(stranger.asked) >= stranger.pause) {
            self.met.insert(tid);
        }
        stranger.is_none_or(|stranger| stranger.pause < SETTLED)
    }

    /// Its number may be another's from now on.
    pub(super) fn forget(&mut self, tid: Tid) {
        self.met.remove(&tid);
        self.strangers.remove(&tid);
    }

    /// Tells the programs of the threads that are there now, if a new one has been met.
    pub(super) fn introduce(&mut self, programs: &Programs, now: MonoNanos) {
        let is_early = self.looked.is_some_and(|looked| now.saturating_since(looked) < PAUSE);
        let due = !self.met.is_empty() && !is_early;
        let Some((target, memory)) = self.place.as_ref().filter(|_| due) else { return };
        self.looked = Some(now);
        // A list that cannot be read now, or is not taken by the programs, is read at the next newcomer.
        let (Some(config), Ok(threads)) = (Config::of(target), target.threads(memory)) else { return };
        let found: Vec<_> = threads.into_iter().filter(|thread| self.met.remove(&thread.tid)).collect();
        let _refused = programs.know_threads(&config, (&found, Existing::Replace), memory);
        self.strangers.retain(|tid, _| !found.iter().any(|thread| thread.tid == *tid));
        for tid in self.met.drain() {
            let met_before = self.strangers.get(&tid);
            let pause = met_before.map_or(PAUSE, |stranger| stranger.pause.times(2).min(LONGEST_PAUSE));
            self.strangers.insert(tid, Stranger { asked: now, pause });
        }
    }
}
