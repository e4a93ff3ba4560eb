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

/// Who is new, and where to look.
#[derive(Debug)]
pub(super) struct Newcomers {
    place: Option<(Target, ProcessMemory)>,
    /// Those met since the last look.
    met: FxHashSet<Tid>,
    /// Those met before the last look and not found in the list.
    strangers: FxHashSet<Tid>,
    looked: MonoNanos,
}

impl Default for Newcomers {
    fn default() -> Self {
        let (met, strangers) = (FxHashSet::default(), FxHashSet::default());
        Self { place: None, met, strangers, looked: MonoNanos::from_monotonic(0) }
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
        self.met.insert(tid);
        !self.strangers.contains(&tid)
    }

    /// Tells the programs of the threads that are there now, if a new one has been met.
    pub(super) fn introduce(&mut self, programs: &Programs, now: MonoNanos) {
        let due = !self.met.is_empty() && now.saturating_since(self.looked) >= PAUSE;
        let Some((target, memory)) = self.place.as_ref().filter(|_| due) else { return };
        self.looked = now;
        // A list that cannot be read now, or is not taken by the programs, is read at the next newcomer.
        let (Some(config), Ok(threads)) = (Config::of(target), target.threads(memory)) else { return };
        let _refused = programs.know_threads(&config, (&threads, Existing::Replace), memory);
        let listed = |tid: &Tid| threads.iter().any(|thread| thread.tid == *tid);
        self.strangers = self.met.drain().filter(|tid| !listed(tid)).collect();
    }
}
