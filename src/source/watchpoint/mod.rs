//! Lock events from the processor: it tells of every write to the words of a lock.
//!
//! Exact on every build, stripped or static, without symbols and without privileges; and dear: each write costs tens of
//! microseconds where a hypervisor has a hand in it. A processor can watch four words of a thread. One lock takes three of
//! them; of several locks two can be watched, with two words each, and those left out are told of. The same stream carries
//! the scheduling. Invariant: nothing is put into the target or the kernel that outlives this process's descriptors.

pub mod cost;
pub mod error;
pub mod instruction;
pub mod writes;

use std::{fmt, os::fd::RawFd};

use crate::{
    model::{
        event::Event,
        ids::{LockId, Pid},
        time::{MonoNanos, Nanos},
    },
    perf::{
        clock,
        error::PerfError,
        record::{Body, Naming},
        stream::{Record, Watchpoint},
    },
    source::{
        Source, Tally,
        scheduler::{OnSample, RingContent, SchedulerSource, Scheduling, Scope},
        watchpoint::{
            cost::measure_cost,
            error::WatchpointError,
            writes::{LockWord, Role, Write, Writes},
        },
    },
    target::{lock::LockSeat, memory::Memory},
};

/// Lock events and scheduling of one process.
#[derive(Debug)]
pub struct WatchpointSource {
    scheduler: SchedulerSource,
    watched: Option<Watched>,
    tally: Tally,
}

/// How much of each lock is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coverage {
    /// Acquisitions, releases, waits, and how one gives way.
    Whole,
    /// All but how one gives way, for want of debug registers.
    WithoutYields,
}

/// The words and what is made of writes to them.
struct Watched {
    words: Vec<LockWord>,
    since: MonoNanos,
    writes: Writes,
}

impl WatchpointSource {
    /// Watches the scheduling of `pid`, having measured what a write will cost.
    pub fn open(pid: Pid, scope: Scope) -> Result<Self, WatchpointError> {
        if !cfg!(target_arch = "x86_64") {
            return Err(WatchpointError::OtherProcessor);
        }
        let cost_per_event = Some(measure_cost()?);
        let scheduler = SchedulerSource::with_content(pid, scope, RingContent::SchedulingAndLocks)?;
        let tally = Tally { cost_per_event, cost_of_stacks: Some(Nanos::ZERO), ..Tally::default() };
        Ok(Self { scheduler, watched: None, tally })
    }

    /// What one write to a watched word costs the thread that makes it.
    pub fn cost_per_write(&self) -> Option<Nanos> {
        self.tally.cost_per_event
    }

    /// From now on watches the words of `lock`, reading the program's code through `memory`.
    pub fn watch(&mut self, lock: (LockId, &LockSeat), memory: Box<dyn Memory>) -> Result<Coverage, WatchpointError> {
        if !has_wait_sequences(lock.1, &*memory)? {
            return Err(WatchpointError::OtherLibrary);
        }
        let words = words_of(lock);
        let coverage = match self.scheduler.add_watchpoints(&numbered(&words)) {
            Ok(()) => Coverage::Whole,
            Err(PerfError::DebugRegistersTaken { .. }) => {
                self.scheduler.add_watchpoints(&numbered(&words[..2]))?;
                Coverage::WithoutYields
            }
            Err(why) => return Err(why.into()),
        };
        self.watched = Some(Watched { words, since: clock::now(), writes: Writes::new(memory) });
        Ok(coverage)
    }
}

/// The words by which a lock is watched, the most important ones first.
fn words_of((lock, seat): (LockId, &LockSeat)) -> Vec<LockWord> {
    let locked = seat.address.plus(seat.layout.locked);
    let words = [(Role::Locked, locked), (Role::Waits, seat.cond()), (Role::Yields, seat.switch_cond())];
    words.map(|(role, address)| LockWord { lock, role, address }).into()
}

fn numbered(words: &[LockWord]) -> Vec<Watchpoint> {
    let length = |role| if role == Role::Locked { 4 } else { 8 };
    let numbered = words.iter().enumerate();
    numbered.map(|(number, word)| Watchpoint { number, address: word.address, length: length(word.role) }).collect()
}

/// Whether the lock's condition variables are those of glibc: the word that counts who waits has a mark for the clock by which
/// they do, which is there from the start. It has moved in glibc 2.41; musl has zeros in both places.
fn has_wait_sequences(seat: &LockSeat, memory: &dyn Memory) -> Result<bool, WatchpointError> {
    const MONOTONIC: u32 = 2;
    for offset in [36, 28] {
        if memory.read_u32(seat.cond().plus(offset))? & MONOTONIC != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Watched {
    fn on_record(&mut self, record: &Record, tally: &mut Tally, out: &mut Vec<Event>) {
        let Record { at, tid, .. } = *record;
        match (&record.body, record.probe) {
            (Body::Lost { .. }, _) => self.writes.on_lost(),
            // The new program has other things at these addresses.
            (Body::Named { cause: Naming::Exec, .. }, _) if at > self.since => self.words.clear(),
            (body, Some(number)) => {
                let Some(word) = self.words.get(number).copied() else { return };
                tally.lock_events += 1;
                let registers = if let Body::Wrote(registers) = body { Some(&**registers) } else { None };
                self.writes.translate(Write { at, tid, word, registers }, out);
            }
            _ => {}
        }
    }
}

impl Source for WatchpointSource {
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos {
        let Self { scheduler, watched, tally } = self;
        let on_mark = &mut |record: &Record, out: &mut Vec<Event>| {
            watched.iter_mut().for_each(|watched| watched.on_record(record, tally, out));
        };
        scheduler.drain_marked(now, on_mark, out)
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        let Self { scheduler, watched, tally } = self;
        let on_mark = &mut |record: &Record, out: &mut Vec<Event>| {
            watched.iter_mut().for_each(|watched| watched.on_record(record, tally, out));
        };
        scheduler.finish_marked(on_mark, out);
    }

    fn alarms(&self) -> Vec<RawFd> {
        self.scheduler.alarms()
    }

    fn tally(&self) -> Tally {
        let untold = self.watched.as_ref().map_or(0, |watched| watched.writes.unmatched());
        Tally { unmatched: self.scheduler.tally().unmatched + untold, ..self.tally }
    }
}

impl Scheduling for WatchpointSource {
    fn sample(&mut self, period: Nanos, on_sample: OnSample) -> Result<(), PerfError> {
        self.scheduler.sample(period, on_sample)
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("words", &self.words).field("writes", &self.writes).finish_non_exhaustive()
    }
}
