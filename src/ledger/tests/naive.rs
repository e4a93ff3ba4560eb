//! A second implementation, as naive as can be, and that the ledger agrees with it on drawn time lines.

use std::collections::BTreeMap;

use proptest::prelude::{prop_assert_eq, proptest};

use super::{
    LOCK, LONGEST_GIVING_WAY, LONGEST_MUTEX_SLEEP, LONGEST_STEP, apply, at, created_running, ledger, stack, states, tid,
};
use crate::{
    ledger::{Ledger, blame::Pair},
    model::{
        event::{LockStep, OffCpu, SampleCause, StackSample, What},
        ids::Tid,
        stack::StackId,
        state::State,
    },
};

/// It moves time on by one nanosecond and adds one to whatever holds.
#[derive(Default)]
struct Naive {
    inside: Option<usize>,
    waiting: [bool; THREADS],
    cpu: [Option<OffCpu>; THREADS],
    states: [BTreeMap<&'static str, u64>; THREADS],
    blame: BTreeMap<(usize, usize), u64>,
    /// Nanosecond by nanosecond since a release: the state counted, and who owned the lock.
    since_release: [Option<Log>; THREADS],
    /// Whether the thread yields and has not slept since.
    yields: [bool; THREADS],
    /// Whether its release may have been forced.
    asked: [bool; THREADS],
    /// Since when it sleeps for what may be a mutex of the lock.
    in_mutex: [Option<u64>; THREADS],
    ran: [u64; THREADS],
    /// Who took the last step, and how long that thread had run before.
    last_step: Option<(usize, u64)>,
    has_yielded: [bool; THREADS],
    slept_since: [u64; THREADS],
    held_since: u64,
    requested: bool,
    /// Who waited, nanosecond by nanosecond since the last reading of the holder, and that reading.
    contended: Vec<[bool; THREADS]>,
    last_read: Option<StackId>,
    /// By waiter, holder and stack.
    near: BTreeMap<(usize, usize, StackId), u64>,
    now: u64,
}

const THREADS: usize = 4;

/// One entry a nanosecond: the state counted, and who owned the lock.
type Log = Vec<(State, Option<usize>)>;

impl Naive {
    fn advance(&mut self, nanos: u64) {
        for _ in 0..nanos {
            for thread in 0..THREADS {
                let state = self.state(thread);
                *self.states[thread].entry(state.name()).or_default() += 1;
                self.ran[thread] += u64::from(self.cpu[thread].is_none());
                if let Some(log) = &mut self.since_release[thread] {
                    log.push((state, self.inside));
                }
                if let (true, Some(holder)) = (self.waiting[thread], self.inside) {
                    *self.blame.entry((thread, holder)).or_default() += 1;
                }
            }
            self.contended.push(if self.inside.is_some() { self.waiting } else { [false; THREADS] });
        }
        self.now += nanos;
    }

    fn state(&self, thread: usize) -> State {
        match (self.waiting[thread], self.inside, self.cpu[thread]) {
            (true, Some(_), _) => State::WaitQueued,
            (true, None, _) => State::WaitHandoff,
            (false, Some(holder), None) if holder == thread => State::HeldRunning,
            (false, Some(holder), Some(OffCpu::Preempted)) if holder == thread => State::HeldPreempted,
            (false, Some(holder), Some(OffCpu::Blocked)) if holder == thread => State::HeldBlocked,
            (false, _, None) => State::OutsideRunning,
            (false, _, Some(OffCpu::Preempted)) => State::OutsidePreempted,
            (false, _, Some(OffCpu::Blocked)) => State::OutsideBlocked,
        }
    }

    /// The thread asks for the lock: if its release was forced, what was counted since then was waiting.
    fn asks(&mut self, thread: usize) {
        let log = self.since_release[thread].take().unwrap_or_default();
        let running = log.iter().filter(|(state, _)| *state == State::OutsideRunning).count();
        if !self.asked[thread] || running > usize::try_from(LONGEST_GIVING_WAY).unwrap() {
            return;
        }
        for (state, owner) in log {
            *self.states[thread].get_mut(state.name()).unwrap() -= 1;
            let waiting = if owner.is_some() { State::WaitQueued } else { State::WaitHandoff };
            *self.states[thread].entry(waiting.name()).or_default() += 1;
            if let Some(holder) = owner {
                *self.blame.entry((thread, holder)).or_default() += 1;
            }
        }
        self.states[thread].retain(|_, nanos| *nanos > 0);
    }

    /// The thread begins to sleep for a switch interval; if the hold went on during the last one, it has asked for the lock.
    fn slice(&mut self, thread: usize) {
        if self.waiting[thread] && self.held_since <= self.slept_since[thread] {
            self.requested = true;
        }
        self.slept_since[thread] = self.now;
    }

    /// The holder's stack is `next`, or its hold ends: each waiter's time since the last reading, the first half to that.
    fn read_holder(&mut self, holder: usize, next: Option<StackId>) {
        let contended = std::mem::take(&mut self.contended);
        for waiter in 0..THREADS {
            let count = contended.iter().filter(|waiting| waiting[waiter]).count();
            for index in 0..count {
                let last = self.last_read.filter(|_| next.is_none() || index < count / 2);
                if let Some(stack) = last.or(next) {
                    *self.near.entry((waiter, holder, stack)).or_default() += 1;
                }
            }
        }
        self.last_read = next;
    }

    /// Whether `thread`, which goes to sleep, may do so while it gives way.
    fn may_sleep(&mut self, thread: usize) -> bool {
        if std::mem::take(&mut self.yields[thread]) {
            return true;
        }
        let (contended, stepping) = match self.last_step {
            Some((by, _)) if by == thread => (self.asked[thread] && !self.has_yielded[thread], false),
            Some((by, ran)) => (self.ran[by] - ran <= LONGEST_STEP, true),
            None => (false, false),
        };
        let in_mutex = contended && stepping && self.since_release[thread].is_some();
        self.in_mutex[thread] = in_mutex.then_some(self.now);
        contended
    }

    /// Does what `choice` says if it is legal for `thread` now, and names the event.
    fn act(&mut self, thread: usize, choice: u8) -> Option<What> {
        let what = self.what(thread, choice);
        if let Some(What::Lock(..)) = what {
            self.last_step = Some((thread, self.ran[thread]));
        }
        what
    }

    fn what(&mut self, thread: usize, choice: u8) -> Option<What> {
        let mine = self.inside == Some(thread);
        match choice {
            0 if !mine && self.inside.is_some() => {
                self.slice(thread);
                self.asks(thread);
                self.waiting[thread] = true;
                Some(What::Lock(LOCK, LockStep::Want))
            }
            1 if self.inside.is_none() => {
                self.asks(thread);
                self.inside = Some(thread);
                (self.held_since, self.requested) = (self.now, false);
                self.contended.clear();
                self.waiting[thread] = false;
                Some(What::Lock(LOCK, LockStep::Acquired))
            }
            2 if mine => {
                self.read_holder(thread, None);
                self.inside = None;
                self.since_release[thread] = Some(Vec::new());
                (self.asked[thread], self.yields[thread]) = (self.requested, false);
                (self.has_yielded[thread], self.in_mutex[thread]) = (false, None);
                Some(What::Lock(LOCK, LockStep::Released))
            }
            3 if !mine && !self.waiting[thread] => {
                (self.asked[thread], self.yields[thread]) = (true, true);
                self.has_yielded[thread] = true;
                Some(What::Lock(LOCK, LockStep::Yielded))
            }
            4 if self.cpu[thread].is_some() => {
                self.cpu[thread] = None;
                if self.in_mutex[thread].take().is_some_and(|since| self.now - since > LONGEST_MUTEX_SLEEP) {
                    self.since_release[thread] = None;
                }
                Some(What::SwitchedIn)
            }
            5 | 6 if self.cpu[thread].is_none() => {
                let why = if choice == 5 { OffCpu::Preempted } else { OffCpu::Blocked };
                if why == OffCpu::Blocked && !self.may_sleep(thread) {
                    self.since_release[thread] = None;
                }
                self.cpu[thread] = Some(why);
                Some(What::SwitchedOut(why))
            }
            7 if self.waiting[thread] && self.inside.is_some() => {
                let read = stack(["work", "spin", "parse"][usize::try_from(self.now % 3).unwrap()]);
                self.read_holder(self.inside.unwrap(), Some(read));
                let sample = StackSample { until: at(self.now), stack: Some(read), cause: SampleCause::Contended };
                Some(What::Stack(sample))
            }
            _ => None,
        }
    }
}

/// What the books say about each pair by readings of the holder's stack.
fn near(ledger: &Ledger) -> BTreeMap<(usize, usize, StackId), u64> {
    let mut all = BTreeMap::new();
    for (waiter, holder) in (0..THREADS).flat_map(|waiter| (0..THREADS).map(move |holder| (waiter, holder))) {
        let [of_waiter, of_holder] = [waiter, holder].map(|thread| tid(i32::try_from(thread + 1).unwrap()));
        let pair = Pair::of(LOCK, of_waiter, of_holder);
        all.extend(ledger.blame.near(pair).into_iter().map(|(stack, time)| ((waiter, holder, stack), time)));
    }
    all
}

proptest! {
    #[test]
    fn agrees_with_counting_single_nanoseconds(
        script in proptest::collection::vec((0..THREADS, 0_u8..8, 0_u64..40), 0..300),
    ) {
        let mut naive = Naive::default();
        let mut ledger = ledger(0);
        for thread in 1..=THREADS {
            created_running(&mut ledger, 0, i32::try_from(thread).unwrap());
        }
        for (thread, choice, nanos) in script {
            if let Some(what) = naive.act(thread, choice) {
                apply(&mut ledger, naive.now, i32::try_from(thread + 1).unwrap(), what);
            }
            naive.advance(nanos);
        }
        ledger.now = at(naive.now);
        ledger.charge_lock(LOCK);
        ledger.blame_owner(LOCK);
        if let Some(holder) = naive.inside {
            naive.read_holder(holder, None);
        }
        prop_assert_eq!(near(&ledger), naive.near.clone());
        let result = ledger.finish(at(naive.now));
        prop_assert_eq!(&result.invariants_broken, &Vec::<String>::new());
        prop_assert_eq!(result.tally.unmatched, 0);
        for thread in 0..THREADS {
            prop_assert_eq!(states(&result, i32::try_from(thread + 1).unwrap()), naive.states[thread].clone());
        }
        let mut blame = BTreeMap::new();
        for entry in &result.blame {
            let index = |tid: Tid| usize::try_from(tid.raw() - 1).unwrap();
            *blame.entry((index(entry.waiter.unwrap()), index(entry.holder.unwrap()))).or_default() += entry.wait.as_nanos();
        }
        prop_assert_eq!(blame, naive.blame);
    }
}
