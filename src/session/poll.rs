//! Observing by looks alone: needs only the right to read the target's memory, and gives estimates.

use std::{cell::RefCell, num::NonZeroU32, rc::Rc};

use crate::{
    ledger::LockStart,
    model::{
        ids::Pid,
        profile::{Backend, SchedulerRung},
        time::Nanos,
    },
    session::{
        error::SessionError,
        finder::LiveLocks,
        joiner::Joiner,
        numbers::none_known,
        options::RecordOptions,
        recording::{Beginning, Recording},
        sampler::{Readings, RunningThreads},
        stacks::{SharedStacks, WaitStacks},
    },
    source::{
        calls::Translator,
        poll::{PollSource, RATE},
    },
    target::{discover::Target, memory::ProcessMemory},
};

/// A launched program that is to be looked at as soon as it has a lock.
#[derive(Debug)]
pub(super) struct PollWatch {
    child: Pid,
    looks: u32,
}

/// Looks at the child after which it is looked at more rarely: it takes its time, or is no interpreter.
const EAGER_LOOKS: u32 = 200;

impl PollWatch {
    /// Nothing is to be prepared.
    pub(super) fn of(child: Pid) -> Self {
        Self { child, looks: 0 }
    }

    /// The target, once the child has become an interpreter with a lock.
    pub(super) fn look(&mut self) -> Option<Target> {
        self.looks += 1;
        let due = self.looks < EAGER_LOOKS || self.looks.is_multiple_of(20);
        let target = due.then(|| Target::discover(self.child).ok()).flatten()?;
        let memory = ProcessMemory::open(target.pid).ok()?;
        target.locks(&memory).is_ok_and(|locks| !locks.is_empty()).then_some(target)
    }
}

/// Begins to look at a target that runs.
pub(super) fn begin(target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
    let translator = Rc::new(RefCell::new(Translator::new(None)));
    translator.borrow_mut().find_with(Box::new(LiveLocks::of(&target)?));
    let rate = NonZeroU32::new(RATE).expect("looks are taken");
    let source = PollSource::start(&target, Rc::clone(&translator), Nanos::period_of(rate))?;
    let mut notes = vec![format!(
        "all times are estimates, from {RATE} looks a second at the lock's words and at each thread; what is shorter than a \
         look's distance may be missed, and holds and waits cannot be counted"
    )];
    let joiner = Joiner::wanted(&target, options.frames, &mut notes);
    let beginning = Beginning {
        target,
        translator,
        stacks: SharedStacks::default(),
        joiner,
        readings: Readings { waits: WaitStacks::Read, running: RunningThreads::Ours },
        start: source.first_look(),
        looks: Some(source.book()),
        sources: vec![Box::new(source)],
        backend: Backend::Poll,
        scheduler: SchedulerRung::Sampled,
        numbers: none_known(),
        lock_start: LockStart::Unknown,
        notes,
    };
    Ok(Recording::begin(beginning, options))
}
