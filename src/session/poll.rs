//! Observing by looks alone: needs only the right to read the target's memory, and gives estimates.

use std::{cell::RefCell, num::NonZeroU32, rc::Rc};

use crate::{
    ledger::LockStart,
    model::{
        ids::Pid,
        profile::Backend,
        quality::SchedulerRung,
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    session::{
        error::SessionError,
        finder::LiveLocks,
        joiner::Joiner,
        numbers::none_known,
        options::RecordOptions,
        recording::{Beginning, Recording},
        running::causes,
        sampler::{Readings, RunningThreads},
        stacks::{SharedStacks, WaitStacks},
    },
    source::{
        calls::Translator,
        poll::{PollSource, RATE, waits::ExactWaits},
    },
    target::{discover::Target, memory::ProcessMemory, runtime::Runtime},
};

/// What is known of PyPy's lock, where uprobes can be put at libc's calls, and where not.
const EXACT_WAITS: &str = "waits exact, holds sampled";
const SAMPLED_WAITS: &str = "waits sampled like holds, since uprobes that would take them exactly do not work here";

/// A launched program that is to be looked at as soon as it has a lock.
#[derive(Debug)]
pub(super) struct PollWatch {
    child: Pid,
    started: MonoNanos,
    looks: u32,
}

/// Looks at the child after which it is looked at more rarely: it takes its time, or is no interpreter.
const EAGER_LOOKS: u32 = 200;

impl PollWatch {
    /// Nothing is to be prepared.
    pub(super) fn of(child: Pid) -> Self {
        Self { child, started: clock::now(), looks: 0 }
    }

    /// Begins to look at it, which is some time after its start.
    pub(super) fn begin(self, target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
        let mut recording = begin(target, options)?;
        let late = recording.started().saturating_since(self.started);
        recording
            .note(format!("the program is looked at from {late} after its start on: what it did before is missing"));
        Ok(recording)
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

/// The waits, where they can be taken exactly, and what the reader should know about the times.
fn waits(target: &Target) -> (Option<ExactWaits>, Vec<String>) {
    let looks = format!("from {RATE} looks a second at the lock's words and at each thread");
    let all = format!(
        "all times are estimates, {looks}; what is shorter than a look's distance may be missed, and holds and waits cannot be \
         counted"
    );
    let Runtime::PyPy(pypy) = &target.runtime else { return (None, vec![all]) };
    let frames = "stacks of PyPy are not read: times are charged to no function".to_owned();
    match ExactWaits::arm(target, pypy.lock.clone()) {
        Ok(waits) => {
            let how = format!(
                "{EXACT_WAITS}: each wait for PyPy's lock is taken by uprobes, from queueing (after a spin of some \
                 microseconds) to getting it; all other times are estimates, {looks}"
            );
            (Some(waits), vec![how, frames])
        }
        Err(why) => (None, vec![all, format!("{SAMPLED_WAITS}: {}", causes(&why)), frames]),
    }
}

/// What the doctor says of waits for PyPy's lock; `None` for other targets.
pub(super) fn waits_in_words(target: &Target) -> Option<String> {
    let Runtime::PyPy(pypy) = &target.runtime else { return None };
    Some(match ExactWaits::arm(target, pypy.lock.clone()) {
        Ok(_) => format!("PyPy: {EXACT_WAITS}"),
        Err(why) => format!("PyPy: {SAMPLED_WAITS}: {}", causes(&why)),
    })
}

/// Begins to look at a target that runs.
pub(super) fn begin(target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
    let translator = Rc::new(RefCell::new(Translator::new(None)));
    translator.borrow_mut().find_with(Box::new(LiveLocks::of(&target)?));
    let rate = NonZeroU32::new(RATE).expect("looks are taken");
    let (waits, mut notes) = waits(&target);
    let source = PollSource::start(&target, Rc::clone(&translator), Nanos::period_of(rate), waits)?;
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
