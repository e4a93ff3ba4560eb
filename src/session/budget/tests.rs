//! Programs whose every nanosecond is known, observed in windows: are estimates right on average, do intervals contain the
//! truth as often as they say, and does it cost no more than it may?

use std::iter::Peekable;

use super::{Order, Pacer, Random};
use crate::{
    ledger::{GivingWayLimits, Ledger, LedgerOptions, LockStart},
    model::{
        estimate::{Estimate, Estimates},
        event::{Event, LockStep, SeenRelation, Sighting, What, WindowStep},
        ids::{LockId, Tid},
        stack::{Frame, StackTable},
        state::StateClass,
        time::{MonoNanos, Nanos},
    },
};

const LOCK: LockId = LockId::from_index(0);
const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
const LENGTH: u64 = 20_000 * MILLI;
/// How often the pacer is asked.
const TURN: u64 = MILLI / 4;
const BUDGET: f64 = 0.03;
/// What one event costs: so much that all of them would take most of the time.
const COST: u64 = 100 * MICRO;

/// How long taking events again may take.
const ARMING: f64 = 3e6;

/// A step of thread 1 or 2.
type Step = (u64, usize, LockStep);

/// Steps in order of time, and what they come to.
#[derive(Default)]
struct Program {
    steps: Vec<Step>,
    truth: Truth,
}

#[derive(Default, Clone, Copy)]
struct Truth {
    held: u64,
    waited: u64,
    holds: u64,
}

impl Program {
    /// Thread 1 holds the lock from `from` for `length`, and thread 2, if at all, waits for the last `wait` of that and then
    /// holds it for a microsecond. Returns when all is over.
    fn hold(&mut self, from: u64, length: u64, wait: u64) -> u64 {
        let to = from + length;
        self.steps.push((from, 0, LockStep::Acquired));
        if wait == 0 {
            self.steps.push((to, 0, LockStep::Released));
        } else {
            self.steps.push((to - wait, 1, LockStep::Want));
            self.steps.push((to, 0, LockStep::Released));
            self.steps.push((to + MICRO, 1, LockStep::Acquired));
            self.steps.push((to + 2 * MICRO, 1, LockStep::Released));
            self.truth.waited += wait + MICRO;
            self.truth.held += MICRO;
            self.truth.holds += 1;
        }
        self.truth.held += length;
        self.truth.holds += 1;
        to + 2 * MICRO
    }

    /// Many short holds of random lengths; every tenth makes the other wait.
    fn short(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let (mut program, mut now) = (Self::default(), MILLI);
        while now < LENGTH {
            let length = (random.unit() * 200.0) as u64 * MICRO + 10 * MICRO;
            let wait = if random.unit() < 0.1 { length / 2 } else { 0 };
            now = program.hold(now, length, wait) + (random.unit() * 150.0) as u64 * MICRO;
        }
        program
    }

    /// A rhythm that cells of a fixed length would fall into: in every quarter of a second the same.
    fn periodic(seed: u64) -> Self {
        let mut program = Self::default();
        let phase = (Random::seeded(seed).unit() * 250.0) as u64 * MILLI;
        let mut now = MILLI;
        while now < LENGTH {
            let busy = (now + phase) % (250 * MILLI) < 60 * MILLI;
            let (length, rest) = if busy { (180 * MICRO, 20 * MICRO) } else { (20 * MICRO, 180 * MICRO) };
            now = program.hold(now, length, if busy { 90 * MICRO } else { 0 }) + rest;
        }
        program
    }

    /// Short holds, and now and then one that lasts for longer than any window.
    fn rare(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let (mut program, mut now) = (Self::default(), MILLI);
        while now < LENGTH {
            let long = random.unit() < 0.000_5;
            let (length, wait) = if long { (150 * MILLI, 140 * MILLI) } else { (40 * MICRO, 0) };
            now = program.hold(now, length, wait) + 160 * MICRO;
        }
        program
    }

    /// Calm at first and at last, busy in between, with other proportions.
    fn phases(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let (mut program, mut now) = (Self::default(), MILLI);
        while now < LENGTH {
            let busy = (LENGTH / 3..LENGTH / 3 * 2).contains(&now);
            let scale = if busy { 1 } else { 200 };
            let length = (random.unit() * if busy { 300.0 } else { 60.0 }) as u64 * MICRO * scale + MICRO;
            now = program.hold(now, length, if busy { length / 3 } else { 0 }) + 150 * MICRO * scale;
        }
        program
    }
}

/// What was estimated, and the part of the time that observing took.
struct Outcome {
    estimates: Estimates,
    cost: f64,
}

fn at(nanos: u64) -> MonoNanos {
    MonoNanos::from_monotonic(nanos)
}

fn thread(index: usize) -> Tid {
    Tid::from_raw(index as i32 + 1).unwrap()
}

fn relation_after(step: LockStep) -> SeenRelation {
    match step {
        LockStep::Want | LockStep::Yielded => SeenRelation::Waiting(LOCK),
        LockStep::Acquired => SeenRelation::Inside(LOCK),
        LockStep::Released => SeenRelation::Outside,
    }
}

/// A program under observation.
struct Observed {
    ledger: Ledger,
    relations: [SeenRelation; 2],
    taking: bool,
    spent: u64,
    /// Windows that have been ordered and not begun.
    later: Vec<(u64, WindowStep)>,
    random: Random,
}

impl Observed {
    fn begin() -> Self {
        let mut ledger = Ledger::new(LedgerOptions {
            start: at(0),
            long_hold: Nanos::from_millis(10),
            giving_way: GivingWayLimits { computing: Nanos::ZERO, step: Nanos::ZERO, mutex_sleep: Nanos::ZERO },
            no_stack: StackTable::default().intern(&[Frame::marker("no stack read")]),
        });
        ledger.declare_lock(LOCK, "GIL", None, LockStart::Free);
        let mut this = Self {
            ledger,
            relations: [SeenRelation::Outside; 2],
            taking: true,
            spent: 0,
            later: Vec::new(),
            random: Random::seeded(5),
        };
        for index in 0..2 {
            this.tell(0, index, What::Created);
            this.tell(0, index, What::SwitchedIn);
        }
        this
    }

    fn tell(&mut self, now: u64, index: usize, what: What) {
        self.ledger.apply(&Event { at: at(now), tid: thread(index), what });
    }

    fn until(&mut self, steps: &mut Peekable<impl Iterator<Item = Step>>, now: u64) {
        while let Some(step) = steps.next_if(|step| step.0 < now) {
            self.step(step);
        }
    }

    fn step(&mut self, (now, index, step): Step) {
        self.due(now);
        self.relations[index] = relation_after(step);
        if self.taking {
            self.spent += COST;
            self.tell(now, index, What::Lock(LOCK, step));
        }
    }

    fn obey(&mut self, now: u64, order: Order, pacer: &mut Pacer) {
        match order {
            Order::BeginCell(at) => self.window(at.as_nanos(), WindowStep::Cell),
            Order::Open => {
                self.taking = true;
                self.window(now, WindowStep::Armed);
                self.look(now);
                let ready = now + (self.random.unit() * ARMING) as u64;
                pacer.opened_in(Nanos::from_nanos(ready - now));
                self.later.extend(pacer.begun(at(ready)).map(|begins| (begins.as_nanos(), WindowStep::Began)));
            }
            Order::Close(at) => {
                self.taking = false;
                self.window(at.as_nanos(), WindowStep::Ended);
            }
        }
    }

    fn window(&mut self, at: u64, step: WindowStep) {
        self.due(at);
        self.tell(at, 0, What::Window(step));
    }

    /// Tells of windows that begin by `now`.
    fn due(&mut self, now: u64) {
        while let Some((at, step)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(0);
            self.tell(at, 0, What::Window(step));
        }
    }

    /// An owner first.
    fn look(&mut self, now: u64) {
        let is_inside = |relation: &SeenRelation| matches!(relation, SeenRelation::Inside(_));
        for inside in [true, false] {
            for (index, relation) in self.relations.into_iter().enumerate() {
                if is_inside(&relation) == inside {
                    self.tell(now, index, What::Seen(Sighting { relation: Some(relation), cpu: None }));
                }
            }
        }
        if !self.relations.iter().any(is_inside) {
            self.tell(now, 0, What::SeenFree(LOCK));
        }
    }
}

fn observe(program: &Program, seed: u64) -> Outcome {
    let mut pacer = Pacer::new(BUDGET, at(0), seed);
    let mut observed = Observed::begin();
    let mut steps = program.steps.iter().copied().peekable();
    for now in (0..LENGTH).step_by(TURN as usize) {
        // Nothing is booked beyond an edge before it is known what comes there.
        while let Some(edge) = pacer.next_edge().filter(|edge| edge.as_nanos() <= now) {
            observed.until(&mut steps, edge.as_nanos());
            let Some(order) = pacer.order(edge, Nanos::from_nanos(observed.spent)) else { break };
            observed.obey(edge.as_nanos(), order, &mut pacer);
        }
        observed.until(&mut steps, now);
        while let Some(order) = pacer.order(at(now), Nanos::from_nanos(observed.spent)) {
            observed.obey(now, order, &mut pacer);
        }
    }
    let cost = observed.spent as f64 / LENGTH as f64;
    let attribution = observed.ledger.finish(at(LENGTH));
    assert_eq!(attribution.invariants_broken, Vec::<String>::new());
    assert_eq!((attribution.tally.unmatched, attribution.tally.lost), (0, 0));
    let lifetimes: u64 = attribution.threads.iter().map(|thread| thread.lifetime.as_nanos()).sum();
    assert_eq!(lifetimes, 2 * LENGTH);
    Outcome { estimates: attribution.estimates.expect("it cost too much"), cost }
}

/// How estimates of one amount relate to the truth, run after run.
#[derive(Default)]
struct Comparison {
    errors: Vec<f64>,
    hits: usize,
}

impl Comparison {
    fn add(&mut self, estimate: Estimate<u64>, truth: u64) {
        let Estimate { value, low, high } = estimate;
        self.errors.push(value as f64 / truth as f64 - 1.0);
        self.hits += usize::from((low..=high).contains(&truth));
    }

    /// The mean error in its own standard deviations, the share of intervals that contain the truth, and the mean error.
    fn judged(&self) -> (f64, f64, f64) {
        let count = self.errors.len() as f64;
        let mean = self.errors.iter().sum::<f64>() / count;
        let variance = self.errors.iter().map(|error| (error - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean / (variance / count).sqrt(), self.hits as f64 / count, mean)
    }
}

fn nanos(of: Estimate<Nanos>) -> Estimate<u64> {
    Estimate { value: of.value.as_nanos(), low: of.low.as_nanos(), high: of.high.as_nanos() }
}

fn check(what: &str, program: fn(u64) -> Program) {
    const RUNS: u64 = 240;
    let [mut held, mut waited, mut holds, mut inside] = [(); 4].map(|()| Comparison::default());
    let mut cost = 0.0;
    for seed in 1..=RUNS {
        let program = program(seed);
        let outcome = observe(&program, seed * 7919);
        let lock = outcome.estimates.locks[0];
        held.add(nanos(lock.held.unwrap()), program.truth.held);
        waited.add(nanos(lock.waited.unwrap()), program.truth.waited);
        holds.add(lock.holds.unwrap(), program.truth.holds);
        let total = outcome.estimates.total.iter().find(|part| part.class == StateClass::Inside).unwrap();
        inside.add(nanos(total.time), program.truth.held);
        cost += outcome.cost / RUNS as f64;
    }
    println!("{what}: cost {:.2} %", cost * 100.0);
    assert!(cost < 0.04, "{what}: {cost}");
    for (name, comparison) in [("held", held), ("waited", waited), ("holds", holds), ("inside", inside)] {
        let (deviations, hits, mean) = comparison.judged();
        println!("  {name}: mean error {:.2} %, {deviations:.1} deviations, {:.0} % hit", mean * 100.0, hits * 100.0);
        assert!(deviations.abs() < 4.0, "{what}, {name}: biased by {deviations:.1} deviations, {mean:.4}");
        assert!(hits > 0.88, "{what}, {name}: only {hits} of the intervals contain the truth");
    }
}

#[test]
fn many_short_holds() {
    check("short", Program::short);
}

#[test]
fn a_rhythm_of_the_program_does_not_matter() {
    check("periodic", Program::periodic);
}

#[test]
fn rare_long_holds_count_for_what_they_are() {
    check("rare", Program::rare);
}

#[test]
fn phases_that_are_observed_more_closely_do_not_count_for_more() {
    check("phases", Program::phases);
}

/// Two threads that do nothing but take the lock and release it for three seconds, in ways of telling events that cost more and more.
#[test]
fn a_short_recording_of_a_hot_program_costs_no_more_than_it_may() {
    const SHORT: u64 = 3_000 * MILLI;
    const CYCLE: u64 = 2_500;
    for (cost, budget) in
        [(10, 0.001), (10, 0.003), (200, 0.001), (200, 0.03), (1_000, 0.001), (1_000, 0.03), (5_000, 0.01)]
    {
        // What an event costs comes on top of the cycle.
        let rate = 2.0 / (CYCLE + 2 * cost) as f64;
        // It was hot before the recording was ready to be governed.
        let (mut taking, mut spent, mut windows) = (true, 8e6 * rate * cost as f64, 0);
        let mut pacer = Pacer::new(budget, at(0), cost);
        for now in (8 * MILLI..SHORT).step_by(MILLI as usize / 5) {
            spent += if taking { 0.2e6 * rate * cost as f64 } else { 0.0 };
            while let Some(order) = pacer.order(at(now), Nanos::from_nanos(spent as u64)) {
                taking = match order {
                    Order::BeginCell(_) => continue,
                    Order::Open => true,
                    Order::Close(_) => false,
                };
                windows += u32::from(taking && pacer.begun(at(now)).is_some());
            }
        }
        let share = spent / SHORT as f64;
        // What was spent before anybody could look cannot be taken back.
        let before = 10e6 * rate * cost as f64 / SHORT as f64;
        println!("{cost} ns, {budget}: {share:.5}, {before:.5} of it at first, {windows} windows");
        // The window of the last cell may have come first, and be paid for only by the rest of the cell.
        assert!(share < (1.1 * budget).max(before * 1.3), "{cost} ns: {share:.5} of {budget}");
        assert!(windows >= 1 || before > budget, "{cost} ns: {windows} windows at {budget}");
    }
}
