//! From libc calls to lock steps: what a call on a condition variable means that belongs to a lock.
//!
//! The event stream of CPython's lock, exact on every version from 3.7 to 3.15: `pthread_cond_timedwait(cond)` is a
//! want, `pthread_cond_signal(switch_cond)` an acquisition, `pthread_cond_signal(cond)` a release,
//! `pthread_cond_wait(switch_cond)` a yield after a forced release.
//!
//! One signal is not what it seems. A waiter whose timed wait ends while a signal is being delivered passes the signal
//! on from inside glibc; a uprobe sees that as a release by a thread that owns nothing. Such a thread is still inside
//! its timed wait, so a signal on `cond` directly after a timed wait on the same `cond` is dropped here.

mod locks;

use std::{
    cell::RefCell,
    fmt,
    rc::Rc,
    time::{Duration, Instant},
};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    model::{
        address::LiveAddress,
        event::{Event, LockStep, What},
        ids::{LockId, Tid},
        time::MonoNanos,
    },
    source::switchable::{Steps, Switchable},
    target::{lock::LockSeat, site::CondFunction},
};

/// A call of one of the three libc functions, at its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// When.
    pub at: MonoNanos,
    /// By which thread.
    pub tid: Tid,
    /// Of which function.
    pub function: CondFunction,
    /// On which condition variable.
    pub cond: LiveAddress,
}

/// A step with a lock that the runtime itself reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepReport {
    /// When.
    pub at: MonoNanos,
    /// By which thread.
    pub tid: Tid,
    /// Start of the lock's structure.
    pub lock: LiveAddress,
    /// Which step.
    pub step: LockStep,
}

/// Whether a condition variable belongs to a global lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does, or may yet turn out to.
    Known,
    /// It does not: a source may stop reporting it.
    Foreign,
}

/// Reads the target's list of locks afresh; the answer grows as sub-interpreters are created.
pub trait FindLocks {
    /// All locks that exist now, or `None` when the target cannot be read at the moment.
    fn find_locks(&mut self) -> Option<Vec<LockSeat>>;

    /// Whether what lies at this address looks like such a lock, in use or no longer.
    fn looks_like(&mut self, _seat: &LockSeat) -> bool {
        false
    }
}

/// A translator that several sources of one recording share.
pub type SharedTranslator = Rc<RefCell<Translator>>;

/// Turns calls into events and keeps the book of locks.
pub struct Translator {
    finder: Option<Box<dyn FindLocks>>,
    seats: Vec<LockSeat>,
    /// Whether each of them has been used: until then, that it is made is no news.
    used: Vec<bool>,
    roles: FxHashMap<LiveAddress, (LockId, Role)>,
    foreign: FxHashSet<LiveAddress>,
    /// The locks at these addresses now; those that lay there before are over.
    places: FxHashMap<LiveAddress, LockId>,
    /// The condition variable that each thread has made last, while it may be the first half of a lock.
    made: FxHashMap<Tid, LiveAddress>,
    /// Threads whose last call was a timed wait, and on what.
    in_timed_wait: FxHashMap<Tid, LiveAddress>,
    begun: Instant,
    /// The time that looking up addresses has taken.
    looked: Duration,
    switchable: Switchable,
    unmatched: u64,
    passed_on: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Cond,
    SwitchCond,
}

impl Translator {
    /// A translator that knows no lock yet and asks `finder` about every new address; `None` until the target is known.
    pub fn new(finder: Option<Box<dyn FindLocks>>) -> Self {
        Self {
            finder,
            seats: Vec::new(),
            used: Vec::new(),
            roles: FxHashMap::default(),
            foreign: FxHashSet::default(),
            places: FxHashMap::default(),
            made: FxHashMap::default(),
            in_timed_wait: FxHashMap::default(),
            begun: Instant::now(),
            looked: Duration::ZERO,
            switchable: Switchable::default(),
            unmatched: 0,
            passed_on: 0,
        }
    }

    /// Appends the event that `call` stands for, if any, and says whether its condition variable is of interest.
    pub fn translate(&mut self, call: Call, out: &mut Vec<Event>) -> Verdict {
        if call.function == CondFunction::Init {
            self.on_made(call);
            return Verdict::Known;
        }
        let Some((lock, role)) = self.role_of(call.cond) else {
            return if self.foreign.contains(&call.cond) { Verdict::Foreign } else { Verdict::Known };
        };
        if let Some(step) = self.step(call, (lock, role)) {
            self.note_use(lock);
            let steps =
                if self.can_be_off(lock) { self.switchable.steps(call.tid, lock, step) } else { Steps::one(step) };
            out.extend(steps.map(|step| Event { at: call.at, tid: call.tid, what: What::Lock(lock, step) }));
        }
        Verdict::Known
    }

    /// Forgets who waits, since what they did meanwhile has not been seen; returns them.
    pub fn forget_waits(&mut self) -> Vec<Tid> {
        self.switchable = Switchable::default();
        self.in_timed_wait.drain().map(|(tid, _)| tid).collect()
    }

    /// Appends the step that the runtime itself reports for the lock whose structure starts at `lock`.
    pub fn report_step(&mut self, report: StepReport, out: &mut Vec<Event>) -> Verdict {
        let settled = self.places.contains_key(&report.lock) || self.look();
        let Some(lock) = self.places.get(&report.lock).copied() else {
            return if settled { Verdict::Foreign } else { Verdict::Known };
        };
        out.push(Event { at: report.at, tid: report.tid, what: What::Lock(lock, report.step) });
        Verdict::Known
    }

    /// Calls on a known lock that mean nothing there.
    pub fn unmatched(&self) -> u64 {
        self.unmatched
    }

    /// Signals passed on inside glibc, recognised and dropped.
    pub fn passed_on(&self) -> u64 {
        self.passed_on
    }

    fn step(&mut self, call: Call, (lock, role): (LockId, Role)) -> Option<LockStep> {
        if self.is_passed_on(call, (lock, role)) {
            self.passed_on += 1;
            return None;
        }
        match call.function {
            CondFunction::TimedWait => self.in_timed_wait.insert(call.tid, call.cond),
            CondFunction::Signal | CondFunction::Wait | CondFunction::Init => self.in_timed_wait.remove(&call.tid),
        };
        match (call.function, role) {
            (CondFunction::TimedWait, Role::Cond) => Some(LockStep::Want),
            (CondFunction::Wait, Role::SwitchCond) => Some(LockStep::Yielded),
            (CondFunction::Signal, Role::SwitchCond) => Some(LockStep::Acquired),
            (CondFunction::Signal, Role::Cond) => Some(LockStep::Released),
            (CondFunction::TimedWait, Role::SwitchCond)
            | (CondFunction::Wait, Role::Cond)
            | (CondFunction::Init, _) => {
                self.unmatched += 1;
                None
            }
        }
    }

    /// Whether glibc passes a signal on from inside a timed wait, which then goes on.
    fn is_passed_on(&self, call: Call, role: (LockId, Role)) -> bool {
        // From a lock that was turned off meanwhile, a thread that waited for it comes away with a signal.
        (call.function, role.1) == (CondFunction::Signal, Role::Cond)
            && !self.can_be_off(role.0)
            && self.in_timed_wait.get(&call.tid) == Some(&call.cond)
    }
}

impl fmt::Debug for Translator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Translator").field("seats", &self.seats).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
