//! Events of every kind, drawn at random: whatever a source can report, whether or not it makes sense after what came before.

use super::{LOCK, at, stack};
use crate::model::{
    address::LiveAddress,
    counts::{Counter, Counters, Measures, Slot},
    event::{
        CountedSteps, CpuSight, CpuTime, EventSample, LockStep, LostEvents, MeasuredSince, OffCpu, ParkPlace, ParkStep,
        Pause, SampleCause, SeenCpu, SeenOwner, SeenRelation, Sighting, StackSample, What, WindowStep,
    },
    ids::LockId,
    stack::StackId,
    time::Nanos,
};

/// A lock that is not declared before the first event about it.
pub(super) const OTHER: LockId = LockId::from_index(1);
const KINDS: usize = 24;

/// The place of its kind in the list of those that are drawn: one that is new belongs here, and there.
const fn kind(what: &What) -> usize {
    match what {
        What::Lock(..) => 0,
        What::SwitchedIn => 1,
        What::SwitchedOut(_) => 2,
        What::RunDelay(_) => 3,
        What::Created => 4,
        What::Seen(_) => 5,
        What::CpuSeen(_) => 6,
        What::RelationSeen(_) => 7,
        What::OwnerSeen(..) => 8,
        What::Happened(..) => 9,
        What::Measured(..) => 10,
        What::Unmeasured(_) => 11,
        What::Exited => 12,
        What::Executed => 13,
        What::Named(_) => 14,
        What::LostLock(_) => 15,
        What::LostSwitch(_) => 16,
        What::Stack(_) => 17,
        What::EventSample(_) => 18,
        What::SeenFree(_) => 19,
        What::Window(_) => 20,
        What::Counted(..) => 21,
        What::Uncounted => 22,
        What::Park(_) => 23,
    }
}

/// Makes an event of one kind.
type Draw = fn(&mut Choices) -> What;

/// Each kind: how often it is drawn, and how. Few scripts should end early because the program was executed anew.
const DRAWN: [(u32, Draw); KINDS] = [
    (240, |of| What::Lock(of.lock(), of.one(&LOCK_STEPS))),
    (80, |_| What::SwitchedIn),
    (80, |of| What::SwitchedOut(of.one(&[OffCpu::Preempted, OffCpu::Blocked]))),
    (40, |of| What::RunDelay(of.time())),
    (20, |_| What::Created),
    (30, |of| What::Seen(Sighting { relation: of.relation(), cpu: of.one(&CPUS) })),
    (40, |of| What::CpuSeen(of.cpu_sight())),
    (40, |of| What::RelationSeen(of.relation())),
    (20, |of| What::OwnerSeen(of.lock(), of.one(&[SeenOwner::Nobody, SeenOwner::Unknown]))),
    (20, |of| What::Happened(of.counter(), u32::try_from(of.number()).unwrap_or(u32::MAX))),
    (20, |of| What::Measured(Box::new(Measures([of.number(); Slot::COUNT])), of.one(&SINCE))),
    (5, |of| What::Unmeasured(Counters::these(&[of.counter()]))),
    (15, |_| What::Exited),
    (1, |_| What::Executed),
    (5, |of| What::Named(of.one(&["worker-1", ""]).into())),
    (20, |of| What::LostLock(LostEvents { count: of.number() })),
    (20, |of| What::LostSwitch(LostEvents { count: of.number() })),
    (120, |of| What::Stack(StackSample { until: at(of.number()), stack: of.stack(), cause: of.one(&CAUSES) })),
    (40, |of| What::EventSample(EventSample { stack: of.stack(), weight: of.number() })),
    (10, |of| What::SeenFree(of.lock())),
    (60, |of| What::Window(of.one(&WINDOW_STEPS))),
    (10, |of| What::Counted(of.lock(), CountedSteps { holds: of.number(), waits: of.number() })),
    (3, |_| What::Uncounted),
    (40, |of| What::Park(of.park_step())),
];
const LOCK_STEPS: [LockStep; 4] = [LockStep::Want, LockStep::Acquired, LockStep::Released, LockStep::Yielded];
const WINDOW_STEPS: [WindowStep; 4] = [WindowStep::Cell, WindowStep::Armed, WindowStep::Began, WindowStep::Ended];
const CPUS: [Option<SeenCpu>; 3] = [Some(SeenCpu::Runnable), Some(SeenCpu::Asleep), None];
const SINCE: [MeasuredSince; 2] = [MeasuredSince::LastStep, MeasuredSince::Unknown];
const CAUSES: [SampleCause; 5] = [
    SampleCause::Tick,
    SampleCause::WaitBegan,
    SampleCause::Contended,
    SampleCause::OwnerSampled,
    SampleCause::AtRelease,
];

/// Choices made by one drawn number, which is much faster than to draw each.
pub(super) struct Choices(pub(super) u64);

/// The event that these choices make.
pub(super) fn anything(mut choices: Choices) -> What {
    let all: u32 = DRAWN.iter().map(|(weight, _)| weight).sum();
    let mut choice = choices.below(all.into());
    let drawn = DRAWN.iter().find(|(weight, _)| {
        let here = choice < u64::from(*weight);
        choice = choice.saturating_sub((*weight).into());
        here
    });
    drawn.expect("it is below the sum of all").1(&mut choices)
}

#[test]
fn every_kind_is_drawn() {
    for (place, (weight, draw)) in DRAWN.iter().enumerate() {
        assert_eq!((kind(&draw(&mut Choices(0))), *weight > 0), (place, true));
    }
}

impl Choices {
    fn below(&mut self, count: u64) -> u64 {
        let choice = self.0 % count;
        self.0 /= count;
        choice
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    /// A number that some foreign memory says: most are small, and some are out of all measure.
    fn number(&mut self) -> u64 {
        if self.below(20) == 19 { u64::MAX - self.below(2) } else { self.below(200) }
    }

    fn time(&mut self) -> Nanos {
        Nanos::from_nanos(self.number())
    }

    fn lock(&mut self) -> LockId {
        self.one(&[LOCK, LOCK, LOCK, OTHER])
    }

    fn stack(&mut self) -> Option<StackId> {
        self.one(&[None, Some("work"), Some("spin"), Some("parse")]).map(stack)
    }

    fn counter(&mut self) -> Counter {
        let all: Vec<Counter> = Counter::all().collect();
        self.one(&all)
    }

    fn relation(&mut self) -> Option<SeenRelation> {
        let lock = self.lock();
        self.one(&[
            Some(SeenRelation::Inside(lock)),
            Some(SeenRelation::Waiting(lock)),
            Some(SeenRelation::Outside),
            None,
        ])
    }

    fn cpu_sight(&mut self) -> CpuSight {
        let pause = self.one(&[Pause::Unknown, Pause::ForLock, Pause::Elsewhere]);
        let cpu = self.one(&[SeenCpu::Runnable, SeenCpu::Asleep]);
        let spent = CpuTime { ran: self.time(), delayed: self.time() };
        CpuSight { cpu, pause, spent: self.one(&[Some(spent), None]) }
    }

    fn park_step(&mut self) -> ParkStep {
        let address = |raw| LiveAddress::in_target(raw);
        let begins = [
            ParkPlace::Mutex(address(8)),
            ParkPlace::Mutex(address(16)),
            ParkPlace::Suspended,
            ParkPlace::StopRequest(address(24)),
            ParkPlace::Elsewhere,
        ];
        let began = ParkStep::Began(self.one(&begins));
        let read = ParkStep::Stack(self.stack());
        self.one(&[began, began, read, ParkStep::Woken, ParkStep::GaveUp])
    }
}
