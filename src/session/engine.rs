//! The crank: drain every source, order the events, book them, read stacks; again until told to end.

use std::{io, time::Duration};

use crate::{
    ledger::{Attribution, GivingWayLimits, Ledger, LedgerOptions, LockStart},
    model::{
        counts::Counters,
        event::{Event, What},
        ids::{LockId, Tid},
        stack::StackTable,
        time::{MonoNanos, Nanos},
    },
    perf::{alarm, clock},
    session::{
        sampler::{Activity, Sampler, Scene},
        stacks::{SharedStacks, no_stack},
        stolen::StolenTime,
    },
    source::{Grouping, Pausing, Source, Tally, calls::SharedTranslator, order::Merger},
    target::lock::LockSeat,
};

/// Computing: two system calls, a wake-up's way back through libc, and two hits of uprobes. A step: a wake-up, two mutexes
/// unlocked, and a hit. Both with room to spare. A sleep: as long as the scheduler may let others run meanwhile.
const GIVING_WAY: GivingWayLimits = GivingWayLimits {
    computing: Nanos::from_nanos(100_000),
    step: Nanos::from_nanos(20_000),
    mutex_sleep: Nanos::from_millis(5),
};
/// What a hit may cost without making those limits too narrow.
const CHEAP_HIT: Nanos = Nanos::from_nanos(3_000);
/// How many dear hits there may be within such a limit: those of the steps, of signals that change a condition variable, and
/// as many again since a hit is sometimes much dearer than usual.
const DEAR_HITS: u64 = 8;
/// Between two turns when nothing else is due; short enough that no default buffer fills in between.
const PACE: Duration = Duration::from_millis(5);
/// The same while nothing happens.
const QUIET_PACE: Duration = Duration::from_millis(20);
/// Turns without an event after which the target counts as quiet.
const QUIET_TURNS: u32 = 20;

/// A recording that is going on.
#[derive(Debug)]
pub(super) struct Engine {
    sources: Vec<Box<dyn Source>>,
    translator: SharedTranslator,
    declared: usize,
    merger: Merger,
    ledger: Ledger,
    stacks: SharedStacks,
    sampler: Option<Sampler>,
    started: MonoNanos,
    stolen: StolenTime,
    /// Turns since the last one that brought an event.
    quiet: u32,
    /// Steps with a lock that sources have told.
    steps: usize,
    /// What is to be counted of each thread beside time.
    counters: Counters,
}

/// What a recording gave.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) attribution: Attribution,
    pub(super) stacks: StackTable,
    pub(super) tally: Tally,
    /// What the sources have to say.
    pub(super) remarks: Vec<String>,
    /// Events that arrived after later ones had been booked.
    pub(super) late: u64,
    /// Whether any of them tells of sleeps that have to do with no global lock.
    pub(super) tells_of_parks: bool,
    /// What they count of each thread beside time, of what was wanted, and what they cannot.
    pub(super) counters: (Counters, Counters),
    /// What the event that is sampled has counted of all threads, as far as that is known.
    pub(super) counted_event: Option<u64>,
    /// From the start of the window to the moment at which the process executed another program, which ended it.
    pub(super) replaced: Option<Nanos>,
    /// Start of the window.
    pub(super) start: MonoNanos,
}

/// The parts an engine is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) sources: Vec<Box<dyn Source>>,
    pub(super) translator: SharedTranslator,
    pub(super) stacks: SharedStacks,
    pub(super) sampler: Option<Sampler>,
    /// What is known of the locks found already; those found later are new, and free.
    pub(super) lock_start: LockStart,
    /// Start of the window.
    pub(super) start: MonoNanos,
    /// Holds at least this long are listed one by one.
    pub(super) long_hold: Nanos,
    /// What is to be counted of each thread beside time.
    pub(super) counters: Counters,
}

impl Engine {
    pub(super) fn new(parts: Parts) -> Self {
        let no_stack = no_stack(&mut parts.stacks.borrow_mut());
        let Parts { start, long_hold, .. } = parts;
        let giving_way = giving_way(parts.sources.iter().filter_map(|source| source.tally().cost_per_event).max());
        let options = LedgerOptions { start, long_hold, giving_way, no_stack };
        let mut engine = Self {
            sources: parts.sources,
            translator: parts.translator,
            declared: 0,
            merger: Merger::default(),
            ledger: Ledger::new(options),
            stacks: parts.stacks,
            sampler: parts.sampler,
            started: parts.start,
            stolen: StolenTime::begin(),
            quiet: 0,
            steps: 0,
            counters: parts.counters,
        };
        engine.sources.iter_mut().for_each(|source| source.count(parts.counters));
        engine.declare_locks(parts.lock_start);
        engine
    }

    /// Ends the threads that are no more; for sources of lock events beside which nothing tells of threads that end before they
    /// have been looked at.
    pub(super) fn part_with(&mut self, has_ended: impl Fn(Tid) -> bool) {
        let ended: Vec<Tid> = self.ledger.live_threads().filter(|tid| has_ended(*tid)).collect();
        // Only now is it certain that their last steps with a lock are past.
        let at = clock::now();
        self.add(ended.into_iter().map(|tid| Event { at, tid, what: What::Exited }));
    }

    /// Adds events that no source reports, such as what was seen when the recording began.
    pub(super) fn add(&mut self, events: impl IntoIterator<Item = Event>) {
        self.merger.inbox().extend(events);
    }

    /// Books everything that happened before `moment`; returns when all sources have delivered it.
    pub(super) fn catch_up(&mut self, moment: MonoNanos) {
        while self.drain() < moment {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.book(moment);
    }

    /// Books that a lock was seen free when the recording began.
    pub(super) fn seed_free(&mut self, lock: LockId) {
        self.ledger.seed_free(lock);
    }

    /// One turn of the crank. Nothing that happened at `limit` or later is booked: the recording ends there, or
    /// what comes there is not yet known.
    pub(super) fn turn(&mut self, limit: Option<MonoNanos>) {
        let watermark = self.drain();
        let until = limit.map_or(watermark, |limit| watermark.min(limit));
        self.book(until);
        if let Some(sampler) = self.sampler.as_mut().filter(|_| self.ledger.replaced().is_none()) {
            let activity = if self.quiet < QUIET_TURNS { Activity::Lively } else { Activity::Quiet };
            let scene = Scene { ledger: &self.ledger, booked: until, activity };
            sampler.sample(scene, &mut self.stacks.borrow_mut(), self.merger.inbox());
        }
    }

    /// Has running threads tell what their counters say, as far as they can be asked.
    pub(super) fn settle(&mut self) {
        self.sources.iter_mut().for_each(|source| source.settle());
    }

    /// The threads that are alive as far as is booked.
    pub(super) fn live_threads(&self) -> impl Iterator<Item = Tid> {
        self.ledger.live_threads()
    }

    /// The locks found so far.
    pub(super) fn seats(&self) -> Vec<LockSeat> {
        self.translator.borrow().seats().to_vec()
    }

    /// Rests until the next turn is due or `most` is over, or something wants to be looked at at once.
    pub(super) fn rest(&self, most: Duration) {
        let alarms: Vec<_> = self.sources.iter().flat_map(|source| source.alarms()).collect();
        alarm::rest(&alarms, self.pause().min(most));
    }

    fn pause(&self) -> Duration {
        let until_tick =
            self.sampler.as_ref().map(|sampler| Duration::from_nanos(sampler.until_next_tick().as_nanos()));
        let pace = if self.quiet < QUIET_TURNS { PACE } else { QUIET_PACE };
        until_tick.unwrap_or(pace).min(pace)
    }

    /// Has the sources take no lock events from now on; says whether any can do that.
    pub(super) fn pause_sources(&mut self) -> Pausing {
        let answers = self.sources.iter_mut().map(|source| source.pause()).collect::<Vec<_>>();
        if answers.contains(&Pausing::Paused) { Pausing::Paused } else { Pausing::Unable }
    }

    /// Has them take lock events again.
    pub(super) fn resume_sources(&mut self) -> io::Result<()> {
        let waited = self.translator.borrow_mut().forget_waits();
        self.sources.iter_mut().try_for_each(|source| source.resume(&waited))
    }

    /// Has page faults told of so many at a time.
    pub(super) fn group_faults(&mut self, group: u32) -> Grouping {
        let became: Vec<Grouping> = self.sources.iter_mut().map(|source| source.group_faults(group)).collect();
        [Grouping::Dropped, Grouping::Grouped].into_iter().find(|it| became.contains(it)).unwrap_or(Grouping::None)
    }

    /// Has the event sampled so many times more rarely than at first.
    pub(super) fn slow_event(&mut self, times: u32) {
        self.sources.iter_mut().for_each(|source| source.slow_event(times));
    }

    /// How long the threads alive have run so far, and how long they were runnable without a CPU.
    pub(super) fn ran_and_delayed(&self) -> (Nanos, Nanos) {
        self.ledger.ran_and_delayed()
    }

    /// Time since the recording began, threads alive, lock events so far: for the progress line.
    pub(super) fn progress(&self) -> (Nanos, usize, u64) {
        let elapsed = clock::now().saturating_since(self.started);
        (elapsed, self.ledger.live_threads().count(), self.tally().lock_events)
    }

    /// Ends the recording because the target ended: all its events before `limit` count. The last one is the end of the
    /// window, unless the target went on after the limit, or it ended at `end` without having told of it.
    pub(super) fn finish_with_target(mut self, limit: Option<MonoNanos>, end: Option<MonoNanos>) -> Recorded {
        self.stop();
        self.declare_locks(LockStart::Free);
        let ledger = &mut self.ledger;
        if let Some(limit) = limit {
            self.merger.release(limit, |event| ledger.apply(event));
            if !self.merger.inbox().is_empty() {
                return self.close(limit);
            }
        }
        self.merger.release_all(|event| ledger.apply(event));
        let end = end.unwrap_or(self.started);
        self.close(end)
    }

    /// Ends the recording at `end` while the target goes on.
    pub(super) fn finish_at(mut self, end: MonoNanos) -> Recorded {
        self.stop();
        self.book(end);
        self.close(end)
    }

    /// What a recording that ended now would give, up to what has been booked; to be worked out anywhere.
    pub(super) fn snapshot(&self) -> impl FnOnce() -> Recorded + Send + use<> {
        let (ledger, stacks, end) = (self.ledger.clone(), self.stacks.borrow().clone(), self.ledger.now());
        let record = self.record();
        move || record(ledger.finish(end), stacks)
    }

    fn stop(&mut self) {
        for source in &mut self.sources {
            source.finish(self.merger.inbox());
        }
    }

    fn close(self, end: MonoNanos) -> Recorded {
        self.record()(self.ledger.finish(end), self.stacks.take())
    }

    /// What is known beside the ledger and the stacks, waiting for those.
    fn record(&self) -> impl FnOnce(Attribution, StackTable) -> Recorded + Send + use<> {
        let (tally, late, start) = (self.tally(), self.merger.late(), self.started);
        let (remarks, counters, counted_event) = (self.remarks(), self.counters(), self.counted_event());
        let (replaced, tells_of_parks) = (self.replaced(), self.tells_of_parks());
        move |attribution, stacks| Recorded {
            attribution,
            stacks,
            tally,
            remarks,
            late,
            tells_of_parks,
            counters,
            counted_event,
            replaced,
            start,
        }
    }

    fn replaced(&self) -> Option<Nanos> {
        self.ledger.replaced().map(|at| at.saturating_since(self.started))
    }

    fn tells_of_parks(&self) -> bool {
        self.sources.iter().any(|source| source.tells_of_parks())
    }

    fn counted_event(&self) -> Option<u64> {
        self.sources.iter().find_map(|source| source.counted_event())
    }

    fn counters(&self) -> (Counters, Counters) {
        let can = self.sources.iter().map(|source| source.counters()).fold(Counters::default(), Counters::with);
        (self.counters.among(can), self.counters.without(can))
    }

    fn remarks(&self) -> Vec<String> {
        self.sources.iter().flat_map(|source| source.remarks()).chain(self.stolen.remark()).collect()
    }

    fn drain(&mut self) -> MonoNanos {
        let now = clock::now();
        let inbox = self.merger.inbox();
        let before = inbox.len();
        let watermark = self.sources.iter_mut().map(|source| source.drain(now, inbox)).min().unwrap_or(now);
        self.steps += inbox[before..].iter().filter(|event| matches!(event.what, What::Lock(..))).count();
        self.quiet = if inbox.len() > before { 0 } else { self.quiet.saturating_add(1) };
        watermark
    }

    fn book(&mut self, until: MonoNanos) {
        self.declare_locks(LockStart::Free);
        self.ledger.set_event_cost(self.cost_of_step().unwrap_or_default());
        let ledger = &mut self.ledger;
        self.merger.release(until, |event| ledger.apply(event));
    }

    /// What a step with a lock costs its thread: as many events as it takes on average to tell one.
    fn cost_of_step(&self) -> Option<Nanos> {
        let Tally { cost_per_event, lock_events, .. } = self.tally();
        let steps = u64::try_from(self.steps).ok().filter(|steps| *steps > 0);
        let all = cost_per_event?.as_nanos().saturating_mul(lock_events);
        Some(steps.map_or(cost_per_event?, |steps| Nanos::from_nanos(all / steps)))
    }

    fn declare_locks(&mut self, start: LockStart) {
        let translator = self.translator.borrow();
        for (index, seat) in (0..).zip(translator.seats()).skip(self.declared) {
            self.ledger.declare_lock(LockId::from_index(index), &seat.name, seat.interpreter, start);
        }
        self.declared = translator.seats().len();
    }

    /// What all sources have seen and missed so far.
    pub(super) fn tally(&self) -> Tally {
        let own = Tally { unmatched: self.translator.borrow().unmatched(), ..Tally::default() };
        self.sources.iter().map(|source| source.tally()).fold(own, Tally::with)
    }
}

/// The limits where each lock event costs the thread that makes it `cost`.
fn giving_way(cost: Option<Nanos>) -> GivingWayLimits {
    let dear = cost.unwrap_or_default().saturating_sub(CHEAP_HIT).as_nanos().saturating_mul(DEAR_HITS);
    let more = |limit: Nanos| limit + Nanos::from_nanos(dear);
    GivingWayLimits { computing: more(GIVING_WAY.computing), step: more(GIVING_WAY.step), ..GIVING_WAY }
}
