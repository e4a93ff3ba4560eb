//! Scheduling without switch records: the kernel's counters of each thread (`/proc/P/task/T/schedstat`) and what it sleeps for
//! (`syscall`), read again and again.
//!
//! The counters are exact; what a thread was doing is seen at the moments of reading alone. Births and deaths are noticed at the
//! reading that follows: a thread that takes a step with a lock before is born with that step.

use std::{io, rc::Rc};

use rustc_hash::FxHashMap;

use crate::{
    model::{
        event::{CpuSight, Event, Pause as Channel, SeenCpu, What},
        ids::{Pid, Tid},
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    source::{Source, Tally, calls::SharedTranslator},
    target::{
        glance::{Counters, Glance, ThreadFiles},
        lock::LockSeat,
        process::{self, Pause},
    },
};

/// Between two readings; a thread of the usual kind holds the lock for 5 ms at a time.
const PERIOD: Nanos = Nanos::from_millis(5);
/// Threads read at a time; of more, each in turn.
const MOST_READ: usize = 512;
/// Threads whose files are kept open.
const MOST_OPEN: usize = 256;
/// A thread that sleeps on is told of again after so long.
const REPEATED: Nanos = Nanos::from_millis(1_000);
/// Between two readings of names.
const NAMES: Nanos = Nanos::from_millis(500);

/// Why scheduling cannot be sampled.
#[derive(Debug, thiserror::Error)]
pub enum SampledError {
    /// The process's threads are not shown.
    #[error("the threads of process {pid} are not shown in /proc")]
    Hidden {
        /// The process.
        pid: Pid,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel does not count.
    #[error("the kernel does not count what threads spend (/proc/{pid}/schedstat)")]
    NotCounted {
        /// The process.
        pid: Pid,
    },
}

/// Scheduling as far as readings tell.
#[derive(Debug)]
pub struct SampledScheduler {
    pid: Pid,
    /// The locks whose own words a thread may sleep for.
    locks: SharedTranslator,
    threads: FxHashMap<Tid, Watched>,
    last: Option<MonoNanos>,
    named: Option<MonoNanos>,
    turn: usize,
}

#[derive(Debug, Default)]
struct Watched {
    files: Option<ThreadFiles>,
    name: Box<str>,
    told: Option<(MonoNanos, Glance, Counters)>,
}

impl SampledScheduler {
    /// Sees whether the threads of `pid` can be read.
    pub fn open(pid: Pid, locks: SharedTranslator) -> Result<Self, SampledError> {
        let threads = process::threads(pid).map_err(|source| SampledError::Hidden { pid, source })?;
        let counted = |tid: &Tid| ThreadFiles::open(pid, *tid).is_ok_and(|files| files.counters().is_some());
        if !threads.iter().any(counted) {
            return Err(SampledError::NotCounted { pid });
        }
        let threads = FxHashMap::default();
        Ok(Self { pid, locks: Rc::clone(&locks), threads, last: None, named: None, turn: 0 })
    }

    fn read(&mut self, now: MonoNanos, out: &mut Vec<Event>) {
        // The process may have ended; its threads' ends are then told by those who wait for it.
        let Ok(tids) = process::threads(self.pid) else { return };
        self.part_with(&tids, out);
        let start = if tids.len() > MOST_READ { self.turn % tids.len() } else { 0 };
        self.turn = start + MOST_READ;
        let named = self.named.is_none_or(|named| now.saturating_since(named) >= NAMES);
        if named {
            self.named = Some(now);
        }
        for tid in tids.iter().cycle().skip(start).take(tids.len().min(MOST_READ)) {
            self.read_thread(*tid, out);
            self.read_name(*tid, named, out);
        }
    }

    fn part_with(&mut self, tids: &[Tid], out: &mut Vec<Event>) {
        let pid = self.pid;
        self.threads.retain(|tid, _| {
            // A list that is read while threads end may lack others, too.
            let lives = tids.binary_search(tid).is_ok() || process::exists(pid, *tid);
            if !lives {
                // Only now is it certain that its last step with a lock is past.
                out.push(Event { at: clock::now(), tid: *tid, what: What::Exited });
            }
            lives
        });
    }

    fn read_thread(&mut self, tid: Tid, out: &mut Vec<Event>) {
        let crowded = self.threads.len() > MOST_OPEN;
        let watched = self.threads.entry(tid).or_default();
        let files = match watched.files.take() {
            Some(files) => files,
            None => match ThreadFiles::open(self.pid, tid) {
                Ok(files) => files,
                Err(_) => return,
            },
        };
        let at = clock::now();
        let (Ok(glance), Some(counters)) = (files.glance(), files.counters()) else { return };
        watched.files = (!crowded).then_some(files);
        let news = watched.told.is_none_or(|(told, before, counted)| {
            (before, counted) != (glance, counters) || at.saturating_since(told) >= REPEATED
        });
        if news || glance.cpu == SeenCpu::Runnable {
            watched.told = Some((at, glance, counters));
            let pause = self.channel(glance);
            let what = What::CpuSeen(CpuSight { cpu: glance.cpu, pause, spent: Some(counters.time) });
            out.push(Event { at, tid, what });
        }
    }

    fn channel(&self, glance: Glance) -> Channel {
        match glance.pause {
            Some(Pause::Futex(word)) => {
                let own = |seat: &LockSeat| seat.is_waited_for_at(word) || seat.has_mutex_at(word);
                if self.locks.borrow().seats().iter().any(own) { Channel::ForLock } else { Channel::Elsewhere }
            }
            Some(Pause::Elsewhere) => Channel::Elsewhere,
            Some(Pause::Running) | None => Channel::Unknown,
        }
    }

    fn read_name(&mut self, tid: Tid, again: bool, out: &mut Vec<Event>) {
        let Some(watched) = self.threads.get_mut(&tid).filter(|watched| again || watched.name.is_empty()) else {
            return;
        };
        let name = process::thread_name(self.pid, tid).unwrap_or_default().into_boxed_str();
        if !name.is_empty() && name != watched.name {
            watched.name.clone_from(&name);
            out.push(Event { at: clock::now(), tid, what: What::Named(name) });
        }
    }
}

impl Source for SampledScheduler {
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos {
        if self.last.is_none_or(|last| now.saturating_since(last) >= PERIOD) {
            self.last = Some(now);
            self.read(now, out);
        }
        now
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        self.read(clock::now(), out);
    }

    fn tally(&self) -> Tally {
        Tally::default()
    }
}
