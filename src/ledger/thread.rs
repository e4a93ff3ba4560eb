//! One thread's account: its relation to a lock, its place on the CPUs, and the time spent in each state.
//!
//! Invariant: after [`ThreadAccount::charge`] up to a moment, the states (with what is still unresolved) sum to the
//! time since the thread was first seen.

use rustc_hash::FxHashMap;

use crate::{
    ledger::{
        counts::CountAccount,
        cpu_share::Place,
        event_samples::EventBook,
        giving_way::GivingWay,
        looked::OpenShare,
        relation::{Ownership, Ownerships, Relation, WAITING, Wait},
        run_delay::{RunDelayAccount, Sleeps},
        windows::Extent,
    },
    model::{
        event::{OffCpu, SeenCpu},
        ids::{LockId, Tid},
        profile::Undivided,
        stack::StackId,
        state::{State, StateTimes},
        time::{MonoNanos, Nanos},
    },
};

/// A thread's place with respect to the CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cpu {
    Running,
    Off(OffCpu),
    /// Not yet known: the next switch tells, since there was none in between.
    Unresolved(Option<SeenCpu>),
    /// Looked at now and then: what the kernel counts from reading to reading tells how the time divides.
    Sampled(SeenCpu),
    /// Switches were lost: the next one tells nothing about the time before it.
    Lost,
}

/// Samples of one state: stacks with their weights.
pub(super) type Samples = FxHashMap<StackId, u64>;
/// The same by the lock that the thread owned or wanted, if any.
pub(super) type Placed = FxHashMap<(StackId, Option<LockId>), u64>;

/// The account of one thread.
#[derive(Debug, Clone)]
pub(super) struct ThreadAccount {
    pub(super) tid: Tid,
    pub(super) name: Box<str>,
    pub(super) first_seen: MonoNanos,
    pub(super) charged_until: MonoNanos,
    pub(super) relation: Relation,
    pub(super) cpu: Cpu,
    pub(super) times: StateTimes,
    pub(super) holds: u64,
    pub(super) waits: u64,
    pub(super) forced_releases: u64,
    /// Time on a CPU, as far as it is known.
    pub(super) ran: Nanos,
    /// Time runnable without a CPU, as far as it is known whatever the relation.
    pub(super) delayed: Nanos,
    /// What probes at steps with locks have taken of its time inside, waiting and outside.
    pub(super) probed: [Nanos; 3],
    /// The time since a release that may turn out to have been forced.
    pub(super) giving_way: Option<GivingWay>,
    /// Stacks of ticks, by the state they fell in.
    pub(super) ticks: FxHashMap<State, Placed>,
    /// Nanoseconds of waits whose own stack was read, by state.
    pub(super) waited_at: FxHashMap<State, Placed>,
    /// Time inside when the present hold began, by state.
    held_before: [Nanos; 3],
    pub(super) unresolved: Unresolved,
    pub(super) undivided: Undivided,
    pub(super) cpu_share: OpenShare,
    pub(super) counts: CountAccount,
    pub(super) events: EventBook,
    pub(super) run_delay: RunDelayAccount,
}

/// The states of one who owns a lock.
pub(super) const HELD: [State; 3] = [State::HeldRunning, State::HeldPreempted, State::HeldBlocked];

/// Time inside and outside whose CPU part awaits the next switch, or the next reading of the kernel's counters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unresolved {
    pub(super) inside: Nanos,
    pub(super) outside: Nanos,
}

impl ThreadAccount {
    pub(super) fn new(tid: Tid, first_seen: MonoNanos, relation: Relation, cpu: Cpu) -> Self {
        Self {
            tid,
            name: Box::default(),
            first_seen,
            charged_until: first_seen,
            relation,
            cpu,
            times: StateTimes::default(),
            holds: 0,
            waits: 0,
            forced_releases: 0,
            ran: Nanos::ZERO,
            delayed: Nanos::ZERO,
            probed: [Nanos::ZERO; 3],
            giving_way: None,
            ticks: FxHashMap::default(),
            waited_at: FxHashMap::default(),
            held_before: [Nanos::ZERO; 3],
            unresolved: Unresolved::default(),
            undivided: Undivided::default(),
            cpu_share: None,
            counts: CountAccount::default(),
            events: EventBook::default(),
            run_delay: RunDelayAccount::default(),
        }
    }

    /// Charges the time up to `at`, in which the thread did not wait, to the present state; `ownership` is that of the lock
    /// that it may want back, if any.
    pub(super) fn charge(&mut self, at: MonoNanos, ownership: Ownership) {
        let time = self.pass_time(at);
        let state = self.state(ownership);
        match state {
            Some(state) => {
                self.times.add(state, time);
                self.note_undivided(Place::Unknown, time);
                match self.relation {
                    Relation::Inside(_) if state == State::Unknown => self.undivided.inside += time,
                    Relation::Outside if state == State::Unknown => self.undivided.outside += time,
                    _ => {}
                }
            }
            None if matches!(self.relation, Relation::Inside(_)) => self.unresolved.inside += time,
            None => self.unresolved.outside += time,
        }
        if let Some(giving_way) = &mut self.giving_way {
            giving_way.note(state, ownership, time);
        }
    }

    /// Charges the time up to `at`, in which the thread waited, by the account of the lock as it is at that moment.
    pub(super) fn charge_wait(&mut self, at: MonoNanos, lock: Ownerships) {
        self.pass_time(at);
        let Relation::Waiting(wait) = &mut self.relation else {
            return;
        };
        let Ownerships { held, free, unknown, probed } = lock.since(std::mem::replace(&mut wait.seen, lock));
        // Whoever waits, waits for probes as well.
        self.probed[WAITING] += probed;
        wait.queued += held;
        wait.handoff += free;
        for (state, time) in [(State::WaitQueued, held), (State::WaitHandoff, free), (State::Unknown, unknown)] {
            self.times.add(state, time);
            self.note_undivided(Place::Waiting, time);
        }
    }

    /// The thread owns the lock from now on; time must have been charged up to this moment.
    pub(super) fn go_inside(&mut self, lock: LockId) {
        self.relation = Relation::Inside(lock);
        self.held_before = HELD.map(|state| self.times.get(state));
    }

    /// What is known by now of the time since it owns the lock.
    pub(super) fn held_states(&self) -> StateTimes {
        let mut states = StateTimes::default();
        for (state, before) in HELD.into_iter().zip(self.held_before) {
            states.add(state, self.times.get(state).saturating_sub(before));
        }
        states
    }

    /// Time inside and outside whose CPU part awaits the next switch.
    pub(super) fn unresolved(&self) -> [Nanos; 2] {
        [self.unresolved.inside, self.unresolved.outside]
    }

    /// A probe has taken `half` before a step and as much after it, which ended this relation.
    pub(super) fn note_probe(&mut self, before: Relation, half: Nanos) {
        let parts = [before, self.relation].map(Relation::place);
        // Within one wait the lock's account tells.
        if parts != [Some(WAITING); 2] {
            parts.into_iter().flatten().for_each(|place| self.probed[place] += half);
        }
    }

    fn pass_time(&mut self, at: MonoNanos) -> Nanos {
        let time = at.saturating_since(self.charged_until);
        self.charged_until = self.charged_until.max(at);
        match self.cpu {
            Cpu::Off(why) => {
                self.run_delay.stay_off(time);
                self.delayed += if why == OffCpu::Preempted { time } else { Nanos::ZERO };
            }
            Cpu::Running => {
                self.ran += time;
                self.counts.run(time, self.relation);
            }
            Cpu::Unresolved(_) | Cpu::Sampled(_) => self.ran += time,
            Cpu::Lost => {}
        }
        time
    }

    /// The present state; `None` while only the CPU part of it is unresolved.
    pub(super) fn state(&self, ownership: Ownership) -> Option<State> {
        match (self.relation, self.cpu) {
            (Relation::Unknown, _) => Some(State::Unknown),
            (Relation::Waiting(_), _) => Some(ownership.wait_state()),
            (Relation::Inside(_), Cpu::Running) => Some(State::HeldRunning),
            (Relation::Inside(_), Cpu::Off(OffCpu::Preempted)) => Some(State::HeldPreempted),
            (Relation::Inside(_), Cpu::Off(OffCpu::Blocked)) => Some(State::HeldBlocked),
            (Relation::Outside, Cpu::Running) => Some(State::OutsideRunning),
            (Relation::Outside, Cpu::Off(OffCpu::Preempted)) => Some(State::OutsidePreempted),
            (Relation::Outside, Cpu::Off(OffCpu::Blocked)) => Some(State::OutsideBlocked),
            (Relation::Inside(_) | Relation::Outside, Cpu::Lost) => Some(State::Unknown),
            (Relation::Inside(_) | Relation::Outside, Cpu::Unresolved(_) | Cpu::Sampled(_)) => None,
        }
    }

    /// What an unresolved state will most likely turn out to be; good enough to file a sample under.
    pub(super) fn likely_state(&self) -> Option<State> {
        let asleep = match self.cpu {
            Cpu::Unresolved(seen) => seen == Some(SeenCpu::Asleep),
            Cpu::Sampled(seen) => seen == SeenCpu::Asleep,
            Cpu::Running | Cpu::Off(_) | Cpu::Lost => return None,
        };
        match (self.relation, asleep) {
            (Relation::Inside(_), true) => Some(State::HeldBlocked),
            (Relation::Inside(_), false) => Some(State::HeldRunning),
            (Relation::Outside, true) => Some(State::OutsideBlocked),
            (Relation::Outside, false) => Some(State::OutsideRunning),
            (Relation::Waiting(_) | Relation::Unknown, _) => None,
        }
    }

    /// Whether its last release of this lock may turn out to have been forced.
    pub(super) fn gives_way_on(&self, lock: LockId) -> bool {
        self.giving_way.as_ref().is_some_and(|giving_way| giving_way.lock == lock)
    }

    /// The release was forced, so what was booked as outside since then was the beginning of a wait.
    pub(super) fn wait_since_release(&mut self, giving_way: &GivingWay, lock: Ownerships) -> Wait {
        for (state, time) in giving_way.outside.iter() {
            self.times.take(state, time);
        }
        self.undivided.outside = self.undivided.outside.saturating_sub(giving_way.outside.get(State::Unknown));
        self.unresolved.outside = self.unresolved.outside.saturating_sub(giving_way.unresolved);
        for (state, time) in giving_way.waiting.iter() {
            self.times.add(state, time);
        }
        self.run_delay.unsplit.add(giving_way.sleeps);
        self.counts.on_forced(giving_way.outside.get(State::OutsideRunning));
        self.events.on_forced();
        self.forced_releases += 1;
        Wait {
            lock: giving_way.lock,
            began: giving_way.since,
            extent: Extent::Whole,
            queued: giving_way.waiting.get(State::WaitQueued),
            handoff: giving_way.waiting.get(State::WaitHandoff),
            seen: lock,
            last_slice: None,
            stack: None,
        }
    }

    /// The account of the wait that ends now goes to the stack that was read during it, if it was.
    pub(super) fn close_wait(&mut self, wait: Wait, ended: MonoNanos, extent: Extent) {
        self.waits += u64::from(extent == Extent::Whole);
        let Some((stack, _)) = wait.stack.filter(|(_, read_until)| *read_until <= ended) else {
            return;
        };
        for (state, time) in [(State::WaitQueued, wait.queued), (State::WaitHandoff, wait.handoff)] {
            *self.waited_at.entry(state).or_default().entry((stack, Some(wait.lock))).or_default() += time.as_nanos();
        }
    }

    /// The last release was the thread's own wish: what was booked since then stays.
    pub(super) fn rule_out_giving_way(&mut self) {
        let sleeps = self.giving_way.take().map_or(Sleeps::default(), |giving_way| giving_way.sleeps);
        self.run_delay.outside.add(sleeps);
    }
}
