//! Carries out what the pacer orders: opens and closes windows, and looks at all threads when one begins.

use crate::{
    model::{
        event::{Event, SeenRelation, Sighting, What, WindowStep},
        ids::{LockId, Tid},
        quality::Overhead,
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    session::{
        budget::{Order, Pacer},
        delay::Delay,
        engine::Engine,
        event_choice::EventChoice,
        fault_groups::FaultGroups,
        options::Budget,
    },
    source::{Grouping, Pausing, Tally},
    target::{discover::Target, lock::LockSeat, memory::ProcessMemory},
};

/// Where events take more than this part of the time while they are taken, the program behaves otherwise meanwhile. (Threads that
/// took a lock every 65 µs with watchpoints of 6 µs: time inside came out 11 % too short, waits 24 % too many.)
const DISTURBING: f64 = 0.1;

/// Keeps a recording within its budget.
#[derive(Debug)]
pub(super) struct Governor {
    budget: Budget,
    pacer: Option<Pacer>,
    target: Target,
    memory: Option<ProcessMemory>,
    /// Whether lock events are being taken.
    taking: Taking,
    delay: Delay,
    faults: Option<FaultGroups>,
    /// There while the period between two samples of an event can be raised; and that event.
    event: Option<(FaultGroups, EventChoice)>,
    /// Whether events have ever been left out.
    closed: bool,
    notes: Vec<String>,
}

/// What is being done about lock events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taking {
    /// All of them, and no other choice has been tried.
    All,
    /// Those in windows, of which one is under way.
    Within,
    /// Those in windows, of which none is under way.
    Outside,
    /// All, since the source cannot pause; or none any more, since it could not go on.
    Fixed,
}

impl Governor {
    /// Of a recording that takes everything since `start`.
    pub(super) fn new((budget, event): (Budget, Option<EventChoice>), target: &Target, start: MonoNanos) -> Self {
        let part = match budget {
            Budget::Unlimited => None,
            Budget::Millionths(part) => Some(f64::from(part) / 1e6),
        };
        // The time is as good as any number: it only must not be the same in every run.
        let pacer = part.map(|part| Pacer::new(part, start, clock::now().as_nanos()));
        // A target without memory has just ended.
        let memory = ProcessMemory::open(target.pid).ok();
        Self {
            budget,
            pacer,
            target: target.clone(),
            memory,
            taking: Taking::All,
            delay: Delay::since(start),
            faults: part.map(|part| FaultGroups::new(part, start)),
            event: part.zip(event.filter(|event| event.has_period())).map(|(part, event)| {
                // What was before belongs to no sample.
                (FaultGroups::new(part, clock::now()), event)
            }),
            closed: false,
            notes: Vec::new(),
        }
    }

    /// Ends the window if it is over; to be done before events are booked, which takes time.
    pub(super) fn end_window(&mut self, engine: &mut Engine) {
        let over =
            self.pacer.as_mut().filter(|_| self.taking != Taking::Fixed).and_then(|pacer| pacer.close(clock::now()));
        over.into_iter().for_each(|at| self.close(engine, at));
    }

    /// Does what is due.
    pub(super) fn look(&mut self, engine: &mut Engine) {
        let tally = engine.tally();
        let size = self.faults.as_mut().and_then(|faults| faults.look(clock::now(), tally.cost_of_faults));
        match size.map(|size| engine.group_faults(size)) {
            Some(Grouping::Dropped) => {
                self.faults = None;
                self.notes.push(
                    "page faults came too fast to be told of within --max-overhead, and are not counted; --max-overhead none \
                     counts them"
                        .to_owned(),
                );
            }
            Some(Grouping::None) => self.faults = None,
            Some(Grouping::Grouped) | None => {}
        }
        let slow = self.event.as_mut().and_then(|(groups, _)| groups.look(clock::now(), tally.cost_of_event));
        slow.into_iter().for_each(|times| engine.slow_event(times));
        // Leaving out lock events makes neither samples of an event nor switches cheaper.
        let of_lock_events = Tally { cost_of_event: Nanos::ZERO, cost_of_switches: Nanos::ZERO, ..tally };
        let Some(spent) = of_lock_events.cost() else { return };
        let spent = self.delay.caused_by(spent, (clock::now(), engine.ran_and_delayed()));
        while self.taking != Taking::Fixed
            && let Some(order) = self.pacer.as_mut().and_then(|pacer| pacer.order(clock::now(), spent))
        {
            match order {
                Order::BeginCell(at) => self.tell(engine, at, WindowStep::Cell),
                Order::Open => self.open(engine),
                Order::Close(at) => self.close(engine, at),
            }
        }
    }

    /// How long until something is due.
    pub(super) fn until_next(&self) -> Option<Nanos> {
        let pacer = self.pacer.as_ref().filter(|_| self.taking != Taking::Fixed)?;
        pacer.until_next(clock::now())
    }

    /// What observing was allowed to cost, and has cost ourselves.
    pub(super) fn overhead(&self) -> Overhead {
        let budget = match self.budget {
            Budget::Unlimited => None,
            Budget::Millionths(part) => Some(part),
        };
        Overhead { budget, own_cpu: clock::cpu_of_process() }
    }

    /// What the reader should know.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        notes.extend(self.faults.as_ref().map(FaultGroups::size).filter(|size| *size > 1).map(|size| {
            format!(
                "minor page faults came so fast that they were told of up to {size} at a time: a group counts where its last one \
                 fell, and an unfinished one, of each thread and CPU, not at all; --max-overhead none tells each"
            )
        }));
        notes.extend(self.event.as_ref().filter(|(groups, _)| groups.size() > 1).map(|(groups, event)| {
            format!(
                "samples of {} came so fast that in the end a sample was taken {} times more rarely than wanted; --max-overhead none \
                 takes each",
                event.name(),
                groups.size()
            )
        }));
        if let (Some(pacer), true) = (&self.pacer, self.closed) {
            let dear = (pacer.dearest() * 100.0).min(100.0);
            notes.push(format!(
                "taking every lock event would have slowed the program by up to {dear:.1} %, so they were taken in windows; \
                 --max-overhead none takes all of them"
            ));
            if pacer.dearest() > DISTURBING {
                notes.push(
                    "in those windows the program ran slower than else: threads met, and lost their CPUs, more often than they \
                     would have, which the intervals do not cover"
                        .to_owned(),
                );
            }
        }
        notes
    }

    /// The next moment at which something changes.
    pub(super) fn next_edge(&self) -> Option<MonoNanos> {
        self.pacer.as_ref().filter(|_| self.taking != Taking::Fixed)?.next_edge()
    }

    fn tell(&self, engine: &mut Engine, at: MonoNanos, step: WindowStep) {
        engine.add([Event { at, tid: self.target.pid.main_thread(), what: What::Window(step) }]);
    }

    fn close(&mut self, engine: &mut Engine, at: MonoNanos) {
        match engine.pause_sources() {
            Pausing::Paused => {
                self.taking = Taking::Outside;
                self.closed = true;
                self.tell(engine, at, WindowStep::Ended);
            }
            Pausing::Unable => {
                self.taking = Taking::Fixed;
                self.notes.push(
                    "events cost more than --max-overhead allows, but this way of taking them cannot pause".to_owned(),
                );
            }
        }
    }

    fn open(&mut self, engine: &mut Engine) {
        let armed = clock::now();
        if let Err(why) = engine.resume_sources() {
            self.taking = Taking::Fixed;
            self.notes.push(format!("after a pause lock events could not be taken again: {why}"));
            return;
        }
        self.taking = Taking::Within;
        self.tell(engine, armed, WindowStep::Armed);
        self.look_at_threads(engine);
        let ready = clock::now();
        let Some(pacer) = &mut self.pacer else { return };
        pacer.opened_in(ready.saturating_since(armed));
        // One that is over before it could begin is none.
        if let Some(begins) = pacer.begun(ready) {
            self.tell(engine, begins, WindowStep::Began);
        }
    }

    /// Whatever happens since events are taken again is newer than what is seen, and wins.
    fn look_at_threads(&self, engine: &mut Engine) {
        let Some(memory) = &self.memory else { return };
        let (seen, free) = self.target.glance(memory, &numbered(engine.seats()));
        let at = clock::now();
        let sighting = |(tid, sighting): (Tid, Sighting)| Event { at, tid, what: What::Seen(sighting) };
        // An owner first: whoever waits for it is charged to it.
        let (owners, others): (Vec<_>, Vec<_>) =
            seen.into_iter().partition(|(_, seen)| matches!(seen.relation, Some(SeenRelation::Inside(_))));
        engine.add(owners.into_iter().chain(others).map(sighting));
        let tid = self.target.pid.main_thread();
        engine.add(free.into_iter().map(|lock| Event { at, tid, what: What::SeenFree(lock) }));
    }
}

fn numbered(seats: Vec<LockSeat>) -> Vec<(LockId, LockSeat)> {
    (0..).map(LockId::from_index).zip(seats).collect()
}
