//! The words that are watched, and how that changes when interpreters come and go.
//!
//! Locks are looked for now and then. When one is new and there is room for it, the words are chosen afresh; what the threads
//! do from then on is unknown until their next step. Invariant: while some lock is left out, no thread is said to be outside
//! after a release, since it may be inside that one.

use std::{cell::RefCell, fmt, rc::Rc};

use crate::{
    model::{
        address::LiveAddress,
        event::{Event, LockStep, LostEvents, SeenRelation, What},
        ids::{LockId, Pid, Tid},
        time::{MonoNanos, Nanos},
    },
    perf::{
        clock,
        error::PerfError,
        record::{Body, Naming},
        stream::{Record, Watchpoint, threads_of},
    },
    source::{
        Pausing,
        calls::{FindLocks, SharedTranslator},
        scheduler::SchedulerSource,
        watchpoint::{
            LookAtThreads, WatchedProgram,
            choice::{Choice, Coverage, choices, words},
            error::WatchpointError,
            writes::{LockWord, Role, Write, Writes},
        },
    },
    target::{lock::LockSeat, memory::Memory, sighting::SeenThread},
};

/// Between two looks for locks.
const LOOK: Nanos = Nanos::from_millis(100);

/// Watched locks, words, and what is made of writes to them.
pub(super) struct Watch {
    pid: Pid,
    finder: Box<dyn FindLocks>,
    look_at_threads: LookAtThreads,
    translator: SharedTranslator,
    /// All that have ever been watched; the place of each is its number.
    known: Rc<RefCell<Vec<LockSeat>>>,
    /// All that have ever been watched; the place of each is the number of its watchpoint.
    words: Vec<LockWord>,
    watched: Vec<LockSeat>,
    /// Where the words begin that were chosen last.
    chosen: usize,
    watching: Watching,
    /// Locks that there was no room for when last tried.
    refused: Vec<LiveAddress>,
    coverage: Coverage,
    left_out: usize,
    most_left_out: usize,
    /// How often the words have been chosen afresh.
    changes: u32,
    since: MonoNanos,
    looked: MonoNanos,
    writes: Writes,
}

/// Whether the words are watched at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watching {
    Now,
    Paused,
}

/// The watched locks, for the translator, which knows no others.
struct WatchedLocks(Rc<RefCell<Vec<LockSeat>>>);

impl FindLocks for WatchedLocks {
    fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
        Some(self.0.borrow().clone())
    }
}

impl Watch {
    pub(super) fn begin(
        pid: Pid,
        program: WatchedProgram,
        scheduler: &mut SchedulerSource,
    ) -> Result<Self, WatchpointError> {
        let WatchedProgram { mut finder, memory, look_at_threads, translator } = program;
        let live = finder.find_locks().unwrap_or_default();
        let first = live.first().ok_or(WatchpointError::NoLock)?;
        if !has_wait_sequences(first, &*memory)? {
            return Err(WatchpointError::OtherLibrary);
        }
        let now = clock::now();
        let known = Rc::new(RefCell::new(Vec::new()));
        translator.borrow_mut().find_with(Box::new(WatchedLocks(Rc::clone(&known))));
        let mut watch = Self {
            pid,
            finder,
            look_at_threads,
            translator,
            known,
            words: Vec::new(),
            watched: Vec::new(),
            chosen: 0,
            watching: Watching::Now,
            refused: Vec::new(),
            coverage: Coverage::Whole,
            left_out: 0,
            most_left_out: 0,
            changes: 0,
            since: now,
            looked: now,
            writes: Writes::new(memory),
        };
        watch.choose(&live, scheduler)?;
        watch.since = clock::now();
        Ok(watch)
    }

    pub(super) fn unmatched(&self) -> u64 {
        self.writes.unmatched()
    }

    /// Watches nothing for a while.
    pub(super) fn pause(&mut self, scheduler: &mut SchedulerSource) -> Pausing {
        // While a lock is left out, what threads do is too uncertain to be found out again and again.
        if self.left_out > 0 || self.words.is_empty() {
            return Pausing::Unable;
        }
        scheduler.drop_watchpoints();
        self.watching = Watching::Paused;
        Pausing::Paused
    }

    /// Watches the same words again.
    pub(super) fn resume(&mut self, scheduler: &mut SchedulerSource) -> Result<(), PerfError> {
        // A program that was executed meanwhile has none yet.
        let words = self.words.get(self.chosen..).unwrap_or_default();
        if words.is_empty() {
            return Ok(());
        }
        scheduler.add_watchpoints(&numbered(words, self.chosen))?;
        self.watching = Watching::Now;
        self.writes.on_lost();
        // Who owns a lock is to be known to its writes.
        self.see();
        Ok(())
    }

    /// What every thread is doing. Whoever is in none of the watched locks may be in one that is left out.
    pub(super) fn see(&mut self) -> Vec<SeenThread> {
        let is_watched = |seat: &LockSeat| self.watched.iter().any(|watched| watched.address == seat.address);
        let known = self.known.borrow().clone();
        let numbered = (0..).map(LockId::from_index).zip(known);
        let watched: Vec<(LockId, LockSeat)> = numbered.filter(|(_, seat)| is_watched(seat)).collect();
        let mut seen = (self.look_at_threads)(&watched);
        let now = clock::now();
        for thread in &mut seen {
            match thread.sighting.relation {
                Some(SeenRelation::Inside(lock)) => self.writes.seed(lock, thread.tid, now),
                Some(SeenRelation::Outside) if self.left_out > 0 => thread.sighting.relation = None,
                _ => {}
            }
        }
        seen
    }

    /// Appends what `record` means, and says how many writes it told of.
    pub(super) fn on_record(&mut self, record: &Record, out: &mut Vec<Event>) -> u64 {
        let Record { at, tid, .. } = *record;
        match (&record.body, record.probe) {
            (Body::Lost { .. }, _) => self.writes.on_lost(),
            // What a thread did with a lock before it was watched is unknown.
            (Body::Named { pid, cause: Naming::Exec, .. }, _) if *pid == self.pid => {
                if at > self.since {
                    // The new program has other things at these addresses.
                    self.words.clear();
                } else {
                    out.push(unknown(at, tid));
                }
            }
            (Body::Forked { child_pid, child }, _) if *child_pid == self.pid && at <= self.since => {
                out.push(unknown(at, *child));
            }
            (body, Some(number)) => {
                let Some(word) = self.words.get(number).copied() else { return 0 };
                let registers = if let Body::Wrote(registers) = body { Some(&**registers) } else { None };
                self.writes.translate(Write { at, tid, word, registers }, out);
                self.leave_open(out);
                return 1;
            }
            _ => {}
        }
        0
    }

    /// Whoever has just released a lock may be about to take one that is left out.
    fn leave_open(&self, out: &mut Vec<Event>) {
        let Some(Event { at, tid, what: What::Lock(_, LockStep::Released) }) = out.last() else { return };
        if self.left_out > 0 {
            let open = unknown(*at, *tid);
            out.push(open);
        }
    }

    /// Looks for locks if it is time to, and watches new ones if there is room.
    pub(super) fn look(&mut self, now: MonoNanos, scheduler: &mut SchedulerSource, out: &mut Vec<Event>) {
        if self.words.is_empty() {
            scheduler.drop_watchpoints();
            return;
        }
        if self.watching == Watching::Paused || now < self.looked.later_by(LOOK) {
            return;
        }
        self.looked = now;
        let live = self.finder.find_locks().unwrap_or_default();
        let is_new = |place: &usize| {
            let address = live[*place].address;
            !self.watched.iter().any(|seat| seat.address == address) && !self.refused.contains(&address)
        };
        let best = choices(&live, &self.watched).into_iter().next();
        if best.is_some_and(|best| best.locks.iter().any(is_new)) {
            self.change(&live, scheduler, out);
        }
        self.count_left_out(&live);
    }

    /// Chooses afresh. A refusal leaves nothing watched, and everything unknown.
    fn change(&mut self, live: &[LockSeat], scheduler: &mut SchedulerSource, out: &mut Vec<Event>) {
        let at = clock::now();
        scheduler.drop_watchpoints();
        if self.choose(live, scheduler).is_err() {
            self.watched.clear();
        }
        self.changes += 1;
        self.writes.on_lost();
        out.extend(threads_of(self.pid).unwrap_or_default().into_iter().map(|tid| unknown(at, tid)));
        let (seen, at) = (self.see(), clock::now());
        out.extend(seen.into_iter().map(|seen| Event { at, tid: seen.tid, what: What::Seen(seen.sighting) }));
    }

    fn choose(&mut self, live: &[LockSeat], scheduler: &mut SchedulerSource) -> Result<(), WatchpointError> {
        let mut taken = None;
        for choice in choices(live, &self.watched) {
            let (known, words) = self.entered(&choice, live);
            match scheduler.add_watchpoints(&numbered(&words, self.words.len())) {
                Ok(()) => {
                    let count = words.len();
                    self.words.extend(words);
                    self.chosen = self.words.len() - count;
                    self.known.replace(known);
                    self.translator.borrow_mut().look_again();
                    self.watched = choice.locks.iter().map(|place| live[*place].clone()).collect();
                    self.coverage = choice.coverage;
                    self.count_left_out(live);
                    return Ok(());
                }
                Err(why @ PerfError::DebugRegistersTaken { .. }) => {
                    self.refused.extend(choice.locks.iter().skip(1).map(|place| live[*place].address));
                    taken = Some(why);
                }
                Err(why) => return Err(why.into()),
            }
        }
        Err(taken.map_or(WatchpointError::NoLock, WatchpointError::Perf))
    }

    /// All locks known once `choice` is made, and its words.
    fn entered(&self, choice: &Choice, live: &[LockSeat]) -> (Vec<LockSeat>, Vec<LockWord>) {
        let (mut known, mut chosen) = (self.known.borrow().clone(), Vec::new());
        for place in &choice.locks {
            let seat = &live[*place];
            let index = known.iter().position(|other| other.address == seat.address).unwrap_or_else(|| {
                known.push(seat.clone());
                known.len() - 1
            });
            let lock = LockId::from_index(u32::try_from(index).expect("fewer than 2^32 locks"));
            chosen.extend(words(lock, seat, choice.coverage));
        }
        (known, chosen)
    }

    fn count_left_out(&mut self, live: &[LockSeat]) {
        let is_left_out = |seat: &&LockSeat| !self.watched.iter().any(|watched| watched.address == seat.address);
        self.left_out = live.iter().filter(is_left_out).count();
        self.most_left_out = self.most_left_out.max(self.left_out);
    }

    /// What is not as good as it could be.
    pub(super) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.coverage == Coverage::WithoutYields {
            let why = match self.watched.len() {
                0 | 1 => "others have some of the processor's debug registers",
                _ => "two locks share the processor's four debug registers",
            };
            remarks.push(format!("{why}: how a thread gives way on demand is inferred"));
        }
        if self.most_left_out > 0 {
            let names: Vec<String> = self.known.borrow().iter().map(|seat| seat.name.clone()).collect();
            remarks.push(format!(
                "a processor can watch four words, which is enough for two locks: watched are {}, and up to {} more were not; \
                 what threads did after a release is unknown meanwhile",
                names.join(", "),
                self.most_left_out
            ));
        }
        if self.changes > 0 {
            remarks.push(format!(
                "interpreters came while others were watched: {} times the watched words were chosen afresh, and what threads did \
                 meanwhile is unknown",
                self.changes
            ));
        }
        remarks
    }
}

/// What the thread does with locks from `at` on is unknown until its next step.
fn unknown(at: MonoNanos, tid: Tid) -> Event {
    Event { at, tid, what: What::LostLock(LostEvents { count: 0 }) }
}

/// Watchpoints on `words`, numbered from `first`.
fn numbered(words: &[LockWord], first: usize) -> Vec<Watchpoint> {
    let length = |role| if role == Role::Locked { 4 } else { 8 };
    let point =
        |(number, word): (usize, &LockWord)| Watchpoint { number, address: word.address, length: length(word.role) };
    (first..).zip(words).map(point).collect()
}

/// Whether the lock's condition variables are those of glibc: the word that counts who waits has a mark for the clock by which
/// they do, which is there from the start. It has moved in newer versions; musl has zeros in both places.
fn has_wait_sequences(seat: &LockSeat, memory: &dyn Memory) -> Result<bool, WatchpointError> {
    const MONOTONIC: u32 = 2;
    for offset in [36, 28] {
        if memory.read_u32(seat.cond().plus(offset))? & MONOTONIC != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("words", &self.words).field("writes", &self.writes).finish_non_exhaustive()
    }
}
