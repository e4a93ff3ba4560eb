//! A recording that is under way, whatever its source and however it began.

use std::{num::NonZeroU32, rc::Rc, time::Duration};

use crate::{
    ledger::LockStart,
    model::{
        event::{Event, SeenCpu, SeenRelation, Sighting, What},
        ids::Tid,
        profile::{Backend, Profile},
        quality::SchedulerRung,
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    session::{
        checkpoint::Snapshot,
        circumstances::Circumstances,
        engine::{Engine, Parts},
        event_sampling,
        governor::Governor,
        intervals::SwitchIntervals,
        joiner::SharedJoiner,
        ladder::{self, Fallen, Rung},
        numbers::ThreadNumbers,
        options::RecordOptions,
        progress::Progress,
        sampler::{Readings, Sampler},
        sleepers::Sleepers,
        stacks::SharedStacks,
    },
    source::{Source, Tally, calls::SharedTranslator, poll::SharedBook, renumber::SharedNumbers},
    stack::reader::StackReader,
    target::{
        discover::Target,
        lock::LockSeat,
        memory::ProcessMemory,
        process::{self, Status},
        runtime::Runtime,
    },
};

/// Between two looks at which threads still exist.
const PARTING: Nanos = Nanos::from_millis(50);

/// Why a recording ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The target did: its last event is the end of the window.
    TargetEnded,
    /// The same, at this moment; its last event may have come long before.
    TargetEndedAt(MonoNanos),
    /// Somebody wants it now, while the target goes on.
    Now,
}

/// A recording under way.
#[derive(Debug)]
pub(super) struct Recording {
    engine: Engine,
    progress: Progress,
    /// All that goes into the profile beside the books.
    beside: Circumstances,
    started: MonoNanos,
    /// When it was last seen to which threads still exist.
    parted: MonoNanos,
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
    /// The target's own numbers of its threads, where a source learns them.
    pub(super) numbers: SharedNumbers,
    pub(super) backend: Backend,
    /// Where it is known from whether threads run.
    pub(super) scheduler: SchedulerRung,
    /// What looks see, where there are no lock events.
    pub(super) looks: Option<SharedBook>,
    /// Start of the window.
    pub(super) start: MonoNanos,
    pub(super) lock_start: LockStart,
    pub(super) notes: Vec<String>,
}

impl Recording {
    pub(super) fn begin(beginning: Beginning, options: RecordOptions) -> Self {
        let Beginning { target, translator, stacks, joiner, mut sources, backend, start, lock_start, .. } = beginning;
        let (scheduler, looks) = (beginning.scheduler, beginning.looks);
        let mut notes = beginning.notes;
        let sampler = sampler(&target, (options.rate, beginning.readings, joiner.clone()), &mut notes);
        let begin_event = |choice| event_sampling::begin(choice, &mut sources, (&target, &stacks), &mut notes);
        let event = options.event.and_then(begin_event);
        let long_hold = nanos(options.long_hold);
        let intervals = SwitchIntervals::of(ProcessMemory::open(target.pid).ok(), Rc::clone(&translator));
        let governor = Governor::new((options.budget, event), &target, start);
        let (chosen, counters) = (options.counters, options.counters.all());
        let engine =
            Engine::new(Parts { sources, translator, stacks, sampler, lock_start, start, long_hold, counters });
        let numbers = ThreadNumbers::of(target.pid, beginning.numbers);
        let (progress, duration) = (Progress::begin(options.progress), options.duration);
        let beside = Circumstances {
            target,
            backend,
            joiner,
            intervals,
            governor,
            numbers,
            scheduler,
            looks,
            chosen,
            event,
            notes,
        };
        Self { engine, progress, beside, started: start, parted: start, duration }
    }

    pub(super) fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Adds what the reader should know about how the recording came about.
    pub(super) fn note(&mut self, note: String) {
        self.beside.notes.insert(0, note);
    }

    /// Adds which rung was taken, and why none of the better ones.
    pub(super) fn note_rung(&mut self, (rung, options): (Rung, RecordOptions), fallen: &[Fallen]) {
        rung.passed_over(options).into_iter().for_each(|note| self.note(note));
        self.note(ladder::taken(rung, fallen, options.notes));
    }

    /// The note that was added last; empty without any.
    pub(super) fn first_note(&self) -> &str {
        self.beside.notes.first().map_or("", String::as_str)
    }

    /// What the sources have seen and missed so far.
    pub(super) fn tally(&self) -> Tally {
        self.engine.tally()
    }

    /// One turn: take what there is, book it, read stacks.
    pub(super) fn turn(&mut self) {
        self.beside.governor.end_window(&mut self.engine);
        let limits = [self.limit(), self.beside.governor.next_edge()];
        self.engine.turn(limits.into_iter().flatten().min());
        self.beside.governor.look(&mut self.engine);
        self.part_with_ended();
        self.beside.intervals.look();
        self.beside.numbers.learn(self.engine.live_threads());
        let (elapsed, threads, lock_events) = self.engine.progress();
        self.progress.show(elapsed, threads, lock_events);
    }

    /// The locks found so far.
    pub(super) fn seats(&self) -> Vec<LockSeat> {
        self.engine.seats()
    }

    /// Start of the window.
    pub(super) fn started(&self) -> MonoNanos {
        self.started
    }

    /// Whom it records.
    pub(super) fn target(&self) -> &Target {
        &self.beside.target
    }

    /// Where readings now and then tell of threads, one may end before the first.
    fn part_with_ended(&mut self) {
        let now = clock::now();
        let due = now.saturating_since(self.parted) >= PARTING;
        if self.beside.scheduler != SchedulerRung::Sampled || !self.beside.backend.counts_events() || !due {
            return;
        }
        self.parted = now;
        let pid = self.beside.target.pid;
        // Numbers of another namespace tell nothing here.
        if Status::of_process(pid).is_ok_and(|status| status.namespaces == 1) {
            self.engine.part_with(|tid| !process::exists(pid, tid));
        }
    }

    /// Rests until something is due, but not longer than `most`.
    pub(super) fn pause(&self, most: Duration) {
        let due = self.beside.governor.until_next().map(|due| Duration::from_nanos(due.as_nanos()));
        self.engine.rest(due.map_or(most, |due| due.min(most)));
    }

    /// Whether the wanted duration is over.
    pub(super) fn is_over(&self) -> bool {
        self.limit().is_some_and(|limit| clock::now() >= limit)
    }

    /// When the wanted duration will be over.
    fn limit(&self) -> Option<MonoNanos> {
        self.duration.map(|wanted| self.started.later_by(nanos(wanted)))
    }

    /// The books as they are, to be closed elsewhere while this recording goes on.
    pub(super) fn snapshot(&self) -> Snapshot<Profile> {
        let (close, account) = (self.engine.snapshot(), self.beside.account());
        Box::new(move || account.complete(close()))
    }

    /// Disarms the sources, books what is left and puts the profile together.
    pub(super) fn finish(mut self, end: End) -> Profile {
        let limit = self.limit();
        if end == End::Now {
            self.engine.settle();
        }
        let recorded = match end {
            End::TargetEnded => self.engine.finish_with_target(limit, None),
            End::TargetEndedAt(moment) => self.engine.finish_with_target(limit, Some(moment)),
            // What running threads have just told of their counters belongs to the window.
            End::Now if !self.beside.chosen.events.is_empty() => self.engine.finish_at(clock::now()),
            End::Now => self.engine.finish_at(limit.map_or_else(clock::now, |limit| limit.min(clock::now()))),
        };
        self.progress.end();
        self.beside.account().complete(recorded)
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
    if reader.is_none() && !matches!(target.runtime, Runtime::PyPy(_)) {
        notes.push("stacks of this build cannot be read".to_owned());
    }
    let sleepers = Sleepers::of(target, joiner).ok()?;
    reader.map(|reader| Sampler::new((reader, sleepers), rate, readings))
}
