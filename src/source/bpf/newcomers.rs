//! Threads that a tick finds and the programs do not know yet: looked up in the interpreter's own list.

use rustc_hash::FxHashSet;

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

/// The list is not read more often than this: a thread of no interpreter is a newcomer for ever.
const PAUSE: Nanos = Nanos::from_millis(20);

/// After that long a thread that was none of the interpreter's is looked up again.
const ASK_AGAIN: Nanos = Nanos::from_millis(1_000);

/// Who is new, and where to look.
#[derive(Debug)]
pub(super) struct Newcomers {
    place: Option<(Target, ProcessMemory)>,
    /// Those met since the last look.
    met: FxHashSet<Tid>,
    /// Those met before the last look and not found in the list.
    strangers: FxHashSet<Tid>,
    looked: MonoNanos,
    /// When strangers were last looked up again.
    asked_again: MonoNanos,
}

impl Default for Newcomers {
    fn default() -> Self {
        let (met, strangers) = (FxHashSet::default(), FxHashSet::default());
        Self {
            place: None,
            met,
            strangers,
            looked: MonoNanos::from_monotonic(0),
            asked_again: MonoNanos::from_monotonic(0),
        }
    }
}

impl Newcomers {
    /// From now on looks in this target's list.
    pub(super) fn look_in(&mut self, target: &Target) -> Result<(), MemoryError> {
        self.place = Some((target.clone(), ProcessMemory::open(target.pid)?));
        Ok(())
    }

    /// Notes a thread that the programs do not know; says whether that may be because it is new, rather than none of the
    /// interpreter's.
    pub(super) fn meet(&mut self, tid: Tid) -> bool {
        let is_stranger = self.strangers.contains(&tid);
        if !is_stranger {
            self.met.insert(tid);
        }
        !is_stranger
    }

    /// Tells the programs of the threads that are there now, if a new one has been met.
    pub(super) fn introduce(&mut self, programs: &Programs, now: MonoNanos) {
        let due = !self.met.is_empty() && now.saturating_since(self.looked) >= PAUSE;
        let Some((target, memory)) = self.place.as_ref().filter(|_| due) else { return };
        self.looked = now;
        // A list that cannot be read now, or is not taken by the programs, is read at the next newcomer.
        let (Some(config), Ok(threads)) = (Config::of(target), target.threads(memory)) else { return };
        let found: Vec<_> = threads.into_iter().filter(|thread| self.met.remove(&thread.tid)).collect();
        let _refused = programs.know_threads(&config, (&found, Existing::Replace), memory);
        // A stranger may become a thread of the interpreter's, which its lock events would tell, but here nobody sees those.
        if now.saturating_since(self.asked_again) >= ASK_AGAIN {
            self.strangers.clear();
            self.asked_again = now;
        }
        self.strangers.extend(self.met.drain());
    }
}
