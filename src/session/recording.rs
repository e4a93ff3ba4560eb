//! A recording that is under way, whatever its source and however it began.

use std::{num::NonZeroU32, rc::Rc, time::Duration};

use crate::{
    ledger::LockStart,
    model::{
        event::{Event, SeenCpu, SeenRelation, Sighting, What},
        ids::Tid,
        profile::{Backend, Overhead, Profile},
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    session::{
        engine::{Engine, Parts},
        governor::Governor,
        intervals::SwitchIntervals,
        joiner::SharedJoiner,
        options::{FrameDetail, RecordOptions},
        progress::Progress,
        sampler::{Readings, Sampler},
        sleepers::Sleepers,
        stacks::SharedStacks,
        summary,
    },
    source::{Source, calls::SharedTranslator},
    stack::reader::StackReader,
    target::{discover::Target, memory::ProcessMemory},
};

/// Why a recording ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The target did: its last event is the end of the window.
    TargetEnded,
    /// Somebody wants it now, while the target goes on.
    Now,
}

/// A recording under way.
#[derive(Debug)]
pub(super) struct Recording {
    engine: Engine,
    progress: Progress,
    target: Target,
    backend: Backend,
    joiner: Option<SharedJoiner>,
    intervals: SwitchIntervals,
    governor: Governor,
    notes: Vec<String>,
    started: MonoNanos,
    duration: Option<Duration>,
}

/// What a source hands over when its recording begins.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) target: Target,
    pub(super) translator: SharedTranslator,
    /// Shared with the sources.
    pub(super) stacks: SharedStacks,
    /// What adds native frames, if they are wanted.
    pub(super) joiner: Option<SharedJoiner>,
    pub(super) readings: Readings,
    pub(super) sources: Vec<Box<dyn Source>>,
    pub(super) backend: Backend,
    /// Start of the window.
    pub(super) start: MonoNanos,
    pub(super) lock_start: LockStart,
    pub(super) notes: Vec<String>,
}

impl Recording {
    pub(super) fn begin(beginning: Beginning, options: RecordOptions) -> Self {
        let Beginning { target, translator, stacks, joiner, sources, backend, start, lock_start, .. } = beginning;
        let mut notes = beginning.notes;
        let sampler = sampler(&target, (options.rate, beginning.readings, joiner.clone()), &mut notes);
        let long_hold = nanos(options.long_hold);
        let intervals = SwitchIntervals::of(ProcessMemory::open(target.pid).ok(), Rc::clone(&translator));
        let governor = Governor::new(options.budget, &target, clock::now());
        let engine = Engine::new(Parts { sources, translator, stacks, sampler, lock_start, start, long_hold });
        let (progress, duration) = (Progress::begin(options.progress), options.duration);
        Self { engine, progress, target, backend, joiner, intervals, governor, notes, started: start, duration }
    }

    pub(super) fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// One turn: take what there is, book it, read stacks.
    pub(super) fn turn(&mut self) {
        let limits = [self.limit(), self.governor.next_edge()];
        self.engine.turn(limits.into_iter().flatten().min());
        self.governor.look(&mut self.engine);
        self.intervals.look();
        let (elapsed, threads, lock_events) = self.engine.progress();
        self.progress.show(elapsed, threads, lock_events);
    }

    /// Rests until something is due.
    pub(super) fn pause(&self) {
        self.engine.rest(self.governor.until_next());
    }

    /// Whether the wanted duration is over.
    pub(super) fn is_over(&self) -> bool {
        self.limit().is_some_and(|limit| clock::now() >= limit)
    }

    /// When the wanted duration will be over.
    fn limit(&self) -> Option<MonoNanos> {
        self.duration.map(|wanted| self.started.later_by(nanos(wanted)))
    }

    /// Disarms the sources, books what is left and puts the profile together.
    pub(super) fn finish(self, end: End) -> Profile {
        let limit = self.limit();
        let recorded = match end {
            End::TargetEnded => self.engine.finish_with_target(),
            End::Now => self.engine.finish_at(limit.map_or_else(clock::now, |limit| limit.min(clock::now()))),
        };
        self.progress.end();
        let (mut overhead, mut notes) = (Overhead::default(), self.notes);
        self.governor.finish(&mut overhead, &mut notes);
        notes.extend(self.joiner.as_ref().and_then(|joiner| joiner.borrow().tally().words()));
        let frames = if self.joiner.is_some() { FrameDetail::ScriptAndNative } else { FrameDetail::Script };
        let mut profile = summary::profile(recorded, &self.target, (self.backend, frames), overhead, notes);
        self.intervals.enter(&mut profile.locks);
        profile
    }
}

fn nanos(wanted: Duration) -> Nanos {
    Nanos::from_nanos(u64::try_from(wanted.as_nanos()).unwrap_or(u64::MAX))
}

/// The sighting of a launched program's first thread: it sleeps until it is let go, and owns nothing if all that it does
/// with locks is seen.
pub(super) fn first_thread(tid: Tid, at: MonoNanos, cpu: SeenCpu, lock_start: LockStart) -> Event {
    let relation = (lock_start == LockStart::Free).then_some(SeenRelation::Outside);
    Event { at, tid, what: What::Seen(Sighting { relation, cpu: Some(cpu) }) }
}

fn sampler(
    target: &Target,
    (rate, readings, joiner): (Option<NonZeroU32>, Readings, Option<SharedJoiner>),
    notes: &mut Vec<String>,
) -> Option<Sampler> {
    let Some(rate) = rate else {
        notes.push("no stacks were read (--rate 0)".to_owned());
        return None;
    };
    // A target without memory has just ended.
    let memory = Box::new(ProcessMemory::open(target.pid).ok()?);
    let reader = StackReader::new(target, memory);
    if reader.is_none() {
        notes.push("stacks of this build cannot be read".to_owned());
    }
    let sleepers = Sleepers::of(target, joiner).ok()?;
    reader.map(|reader| Sampler::new((reader, sleepers), rate, readings))
}
