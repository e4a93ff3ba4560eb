//! From libc calls to lock steps: which condition variable belongs to which lock, and what a call on it means.
//!
//! The event stream of CPython's lock, exact on every version from 3.7 to 3.15: `pthread_cond_timedwait(cond)` is a
//! want, `pthread_cond_signal(switch_cond)` an acquisition, `pthread_cond_signal(cond)` a release,
//! `pthread_cond_wait(switch_cond)` a yield after a forced release.
//!
//! A condition variable that is made anew is another one: a lock that lay there is over. Interpreters come and go, and so do
//! their locks, often at the same address. Two made anew by the same thread at the distance of a lock's are a new lock, even
//! if it is gone before anybody can look for it.
//!
//! One signal is not what it seems. A waiter whose timed wait ends while a signal is being delivered passes the signal
//! on from inside glibc; a uprobe sees that as a release by a thread that owns nothing. Such a thread is still inside
//! its timed wait, so a signal on `cond` directly after a timed wait on the same `cond` is dropped here.

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
    target::{
        lock::{LockLayout, LockSeat},
        site::CondFunction,
    },
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

/// Addresses remembered as foreign; past that they are looked up again each time.
const FOREIGN_LIMIT: usize = 1 << 16;

/// Locks that are known; more than any program has.
const MOST_LOCKS: usize = 4096;

/// Looking up addresses may take this long at once, and later this part of the time.
const FIRST_LOOKS: Duration = Duration::from_secs(1);
const SHARE_OF_LOOKS: u32 = 4;
/// Threads that are in the middle of making a lock, at the most.
const MOST_MAKERS: usize = 64;

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

    /// From now on asks `finder`, and looks for locks at once.
    pub fn find_with(&mut self, finder: Box<dyn FindLocks>) {
        self.finder = Some(finder);
        self.refresh();
    }

    /// Forgets who waits, since what they did meanwhile has not been seen; returns them.
    pub fn forget_waits(&mut self) -> Vec<Tid> {
        self.switchable = Switchable::default();
        self.in_timed_wait.drain().map(|(tid, _)| tid).collect()
    }

    /// Looks for locks that are new.
    pub fn look_again(&mut self) {
        self.refresh();
    }

    /// The locks found so far, in the order of their ids.
    pub fn seats(&self) -> &[LockSeat] {
        &self.seats
    }

    /// Looks for locks now; says whether there are any, or else the target cannot be read or is still starting.
    fn refresh(&mut self) -> bool {
        let begun = Instant::now();
        let found = self.finder.as_mut().and_then(|finder| finder.find_locks()).unwrap_or_default();
        self.looked += begun.elapsed();
        let any = !found.is_empty();
        for seat in found {
            self.enter(seat);
        }
        any
    }

    /// The same for an address that nobody knows, unless a target makes us do little else by naming ever new ones.
    fn look(&mut self) -> bool {
        self.looked <= FIRST_LOOKS + self.begun.elapsed() / SHARE_OF_LOOKS && self.refresh()
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

    /// Whether the lock is one that the interpreter can do without.
    fn can_be_off(&self, lock: LockId) -> bool {
        let seat = usize::try_from(lock.index()).ok().and_then(|index| self.seats.get(index));
        seat.is_some_and(|seat| seat.layout == LockLayout::FREE_THREADED)
    }

    /// Whether glibc passes a signal on from inside a timed wait, which then goes on.
    fn is_passed_on(&self, call: Call, role: (LockId, Role)) -> bool {
        // From a lock that was turned off meanwhile, a thread that waited for it comes away with a signal.
        (call.function, role.1) == (CondFunction::Signal, Role::Cond)
            && !self.can_be_off(role.0)
            && self.in_timed_wait.get(&call.tid) == Some(&call.cond)
    }

    fn role_of(&mut self, cond: LiveAddress) -> Option<(LockId, Role)> {
        if let Some(role) = self.roles.get(&cond) {
            return Some(*role);
        }
        if self.foreign.contains(&cond) {
            return None;
        }
        let settled = self.look();
        let role = self.roles.get(&cond).copied();
        if role.is_none() && settled && self.foreign.len() < FOREIGN_LIMIT {
            self.foreign.insert(cond);
        }
        role
    }

    /// A condition variable begins its life.
    fn on_made(&mut self, call: Call) {
        self.foreign.remove(&call.cond);
        if let Some((lock, _)) = self.roles.get(&call.cond).copied()
            && self.is_used(lock)
        {
            self.roles.retain(|_, (of, _)| *of != lock);
            self.places.retain(|_, of| *of != lock);
        }
        if self.made.len() >= MOST_MAKERS {
            self.made.clear();
        }
        let before = self.made.insert(call.tid, call.cond);
        // Another place of the same shape, one of whose condition variables was made a moment ago.
        let shaped = self.seats.first().and_then(|model| model.of_pair(before?, call.cond));
        let Some(seat) = shaped else { return };
        self.made.remove(&call.tid);
        self.look();
        if !self.places.contains_key(&seat.address) && self.is_believed(&seat) {
            self.enter(seat);
        }
    }

    /// Whether a lock is made there, although no interpreter has it (any more): one lay there before, or it looks like one.
    fn is_believed(&mut self, seat: &LockSeat) -> bool {
        let before = self.seats.iter().any(|known| known.address == seat.address);
        before || self.finder.as_mut().is_some_and(|finder| finder.looks_like(seat))
    }

    fn note_use(&mut self, lock: LockId) {
        if let Some(used) = usize::try_from(lock.index()).ok().and_then(|index| self.used.get_mut(index)) {
            *used = true;
        }
    }

    fn is_used(&self, lock: LockId) -> bool {
        usize::try_from(lock.index()).ok().and_then(|index| self.used.get(index)) == Some(&true)
    }

    /// Enters a lock that another has found; one that is known keeps its number.
    pub fn enter(&mut self, seat: LockSeat) {
        if self.seats.len() >= MOST_LOCKS || self.places.contains_key(&seat.address) {
            return;
        }
        let id = lock_id(self.seats.len());
        self.places.insert(seat.address, id);
        for (address, role) in [(seat.cond(), Role::Cond), (seat.switch_cond(), Role::SwitchCond)] {
            self.roles.insert(address, (id, role));
            self.foreign.remove(&address);
        }
        self.seats.push(seat);
        self.used.push(false);
    }
}

impl fmt::Debug for Translator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Translator").field("seats", &self.seats).finish_non_exhaustive()
    }
}

fn lock_id(index: usize) -> LockId {
    LockId::from_index(u32::try_from(index).expect("fewer than 2^32 locks"))
}

#[cfg(test)]
mod tests {
    use super::{Call, FindLocks, Translator, Verdict};
    use crate::{
        model::{
            address::LiveAddress,
            event::{Event, LockStep, What},
            ids::Tid,
            time::MonoNanos,
        },
        target::{
            lock::{LockLayout, LockSeat},
            site::CondFunction,
        },
    };

    const LOCK: LiveAddress = LiveAddress::in_target(0x1000);
    const COND: LiveAddress = LOCK.plus(32);
    const SWITCH: LiveAddress = LOCK.plus(120);

    struct OneLock;

    impl FindLocks for OneLock {
        fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
            let seat =
                LockSeat { address: LOCK, layout: LockLayout::DEFAULT, interpreter: Some(0), name: "GIL".to_owned() };
            Some(vec![seat])
        }
    }

    fn steps(calls: &[(i32, CondFunction, LiveAddress)]) -> (Vec<(i32, LockStep)>, Translator) {
        let mut translator = Translator::new(Some(Box::new(OneLock)));
        let mut out = Vec::new();
        for (at, (tid, function, cond)) in (0..).zip(calls) {
            let tid = Tid::from_raw(*tid).unwrap();
            let call = Call { at: MonoNanos::from_monotonic(at), tid, function: *function, cond: *cond };
            translator.translate(call, &mut out);
        }
        let step = |event: Event| match event.what {
            What::Lock(_, step) => (event.tid.raw(), step),
            other => panic!("not a lock step: {other:?}"),
        };
        (out.into_iter().map(step).collect(), translator)
    }

    #[test]
    fn a_contended_hand_over_reads_as_want_release_yield_acquire() {
        let (steps, _) = steps(&[
            (1, CondFunction::Signal, SWITCH),
            (2, CondFunction::TimedWait, COND),
            (1, CondFunction::Signal, COND),
            (1, CondFunction::Wait, SWITCH),
            (2, CondFunction::Signal, SWITCH),
        ]);
        let expected = [
            (1, LockStep::Acquired),
            (2, LockStep::Want),
            (1, LockStep::Released),
            (1, LockStep::Yielded),
            (2, LockStep::Acquired),
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_signal_passed_on_inside_a_timed_wait_is_no_release() {
        let (steps, translator) = steps(&[
            (1, CondFunction::Signal, SWITCH),
            (2, CondFunction::TimedWait, COND),
            (2, CondFunction::Signal, COND),
            (2, CondFunction::Signal, COND),
            (1, CondFunction::Signal, COND),
            (2, CondFunction::Signal, SWITCH),
            (2, CondFunction::Signal, COND),
        ]);
        let expected = [
            (1, LockStep::Acquired),
            (2, LockStep::Want),
            (1, LockStep::Released),
            (2, LockStep::Acquired),
            (2, LockStep::Released),
        ];
        assert_eq!(steps, expected);
        assert_eq!(translator.passed_on(), 2);
    }

    /// A number is used again sooner or later, and there may be millions.
    #[test]
    fn nothing_is_kept_of_threads_that_do_not_wait() {
        let one_life = |tid| [(tid, CondFunction::TimedWait, COND), (tid, CondFunction::Signal, SWITCH)];
        let calls: Vec<_> = (1..1000).flat_map(one_life).chain([(1000, CondFunction::TimedWait, COND)]).collect();
        let (_, translator) = steps(&calls);
        assert_eq!(translator.in_timed_wait.keys().map(|tid| tid.raw()).collect::<Vec<_>>(), [1000]);
    }

    /// Interpreters that follow each other at one address, as far as the list still shows them.
    struct Successive(Vec<Option<i64>>);

    impl FindLocks for Successive {
        fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
            let main = OneLock.find_locks()?;
            let listed = self.0.pop().flatten().map(|id| LockSeat {
                address: LiveAddress::in_target(0x5000),
                interpreter: Some(id),
                ..main[0].clone()
            });
            Some(main.into_iter().chain(listed).collect())
        }
    }

    /// ```text
    /// made  taken  given back │ made again  taken … │ made again, gone before the list is read
    /// ```
    #[test]
    fn a_lock_made_anew_at_the_same_address_is_another() {
        let (cond, switch) = (LiveAddress::in_target(0x5020), LiveAddress::in_target(0x5078));
        // Read from the end.
        let listed = vec![None, None, Some(2), Some(1), None];
        let mut translator = Translator::new(Some(Box::new(Successive(listed))));
        let mut out = Vec::new();
        let life = [
            (CondFunction::Init, cond),
            (CondFunction::Init, switch),
            (CondFunction::Signal, switch),
            (CondFunction::Signal, cond),
        ];
        let calls = [(CondFunction::Signal, SWITCH)].into_iter().chain([life; 3].concat());
        for (at, (function, cond)) in (0..).zip(calls) {
            let call = Call { at: MonoNanos::from_monotonic(at), tid: Tid::from_raw(1).unwrap(), function, cond };
            translator.translate(call, &mut out);
        }
        let lock = |event: &Event| match event.what {
            What::Lock(lock, _) => Some(lock.index()),
            _ => None,
        };
        let locks: Vec<u32> = out.iter().filter_map(lock).collect();
        assert_eq!(locks, [0, 1, 1, 2, 2, 3, 3]);
        let interpreters: Vec<_> = translator.seats().iter().map(|seat| seat.interpreter).collect();
        assert_eq!(interpreters, [Some(0), Some(1), Some(2), None]);
    }

    #[test]
    fn other_condition_variables_are_foreign() {
        let mut translator = Translator::new(Some(Box::new(OneLock)));
        let tid = Tid::from_raw(7).unwrap();
        let cond = LiveAddress::in_target(0x9999);
        let call = Call { at: MonoNanos::from_monotonic(1), tid, function: CondFunction::Signal, cond };
        let mut out = Vec::new();
        assert_eq!(translator.translate(call, &mut out), Verdict::Foreign);
        assert_eq!(out, []);
    }
}
