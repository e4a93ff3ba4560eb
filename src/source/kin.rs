//! The scheduling of a process and all its descendants from one stream, told apart by process; and who they are.
//!
//! Each process that is followed takes its own records; those of processes that nobody follows yet are kept for a while,
//! since whoever will follow them must not miss their beginning. Invariant: a record is delivered to one process, in order
//! of time; what was given up is told as a loss.

use std::{cell::RefCell, os::fd::RawFd, rc::Rc};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    model::{
        ids::{Pid, Tid},
        machine::MachineSample,
        time::{MonoNanos, Nanos},
    },
    perf::{
        clock,
        error::PerfError,
        limits::RingSize,
        open::CodeSampled,
        record::{Body, Naming},
        stream::{PerfStream, Record, threads_of},
    },
};

/// Records kept for a process that nobody follows yet; when there are more, all are given up.
const MOST_KEPT: usize = 20_000;

/// One stream that several sources share.
pub type SharedKin = Rc<RefCell<KinStream>>;

/// A process during one program, told from earlier ones with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Life {
    pid: Pid,
    /// How many came before.
    number: u32,
}

/// Something that happened to a process as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// When.
    pub at: MonoNanos,
    /// To which process.
    pub pid: Pid,
    /// The life that it leads from then on; `None` where lives are not told apart.
    pub life: Option<Life>,
    /// What.
    pub what: TurnKind,
}

/// What happened to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnKind {
    /// It was forked.
    Born {
        /// By this one.
        parent: Pid,
    },
    /// It executed a program whose threads are called so.
    Executed(Box<str>),
    /// Its last thread has ended, and every record about it has been delivered.
    Ended,
}

/// The records of a family of processes.
#[derive(Debug)]
pub struct KinStream {
    stream: PerfStream,
    first: Pid,
    waiting: FxHashMap<Life, Queue>,
    lives: FxHashMap<Pid, u32>,
    /// Processes of which every program that they execute is another life: all that were born under observation, and those
    /// that were there before once they are known.
    settled: FxHashSet<Pid>,
    samples: FxHashMap<Pid, Vec<MachineSample>>,
    /// The threads of each process but the first.
    threads: FxHashMap<Pid, FxHashSet<Tid>>,
    turns: Vec<Turn>,
    records: Vec<Record>,
    watermark: MonoNanos,
    is_sampled: bool,
}

/// So many page faults of a process that nobody follows become one record, each so soon after the one before.
const MOST_AT_ONCE: u32 = 64;
const AT_ONCE: Nanos = Nanos::from_nanos(20_000);

/// Records of one process that have not been taken.
#[derive(Debug, Default)]
struct Queue {
    records: Vec<Record>,
    followed: bool,
}

impl Queue {
    /// Page faults of a process that nobody follows yet may be many: some in quick succession become one record.
    fn take(&mut self, record: Record) {
        if let (false, Some(last)) = (self.followed, self.records.last_mut())
            && let (Body::Faulted(kind, times), Body::Faulted(more_of, more)) = (&mut last.body, &record.body)
            && (last.tid, *kind) == (record.tid, *more_of)
            && *times < MOST_AT_ONCE
            && record.at.saturating_since(last.at) < AT_ONCE
        {
            *times = times.saturating_add(*more);
            last.at = record.at;
        } else {
            self.records.push(record);
        }
    }
}

impl KinStream {
    /// Watches every thread of `first` and of `others`, and all that descend from them.
    pub fn open(first: Pid, others: Vec<Pid>) -> Result<Self, PerfError> {
        let stream = PerfStream::open_family(first, others.clone(), RingSize::Ordinary)?;
        // Listed after the events were opened: the end of each of these threads will be told.
        let threads = others.iter().filter_map(|other| Some((*other, threads_of(*other).ok()?.into_iter().collect())));
        let threads: FxHashMap<Pid, FxHashSet<Tid>> = threads.collect();
        Ok(Self {
            stream,
            first,
            waiting: FxHashMap::default(),
            lives: FxHashMap::default(),
            settled: others.into_iter().collect(),
            samples: FxHashMap::default(),
            threads,
            turns: Vec::new(),
            records: Vec::new(),
            watermark: MonoNanos::from_monotonic(0),
            is_sampled: false,
        })
    }

    /// The same for several owners.
    pub fn shared(self) -> SharedKin {
        Rc::new(RefCell::new(self))
    }

    /// Reads what there is, and says up to when it is complete. `now` is the time just before the call.
    pub fn read(&mut self, now: MonoNanos) -> MonoNanos {
        let mut records = std::mem::take(&mut self.records);
        self.watermark = self.stream.drain(now, &mut records);
        for (pid, sample) in self.stream.take_samples() {
            self.samples.entry(pid).or_default().push(sample);
        }
        records.drain(..).for_each(|record| self.sort_in(record));
        self.records = records;
        self.watermark
    }

    /// Ends the watching; every record left can be taken afterwards.
    pub fn stop(&mut self) {
        let mut records = Vec::new();
        self.stream.stop(&mut records);
        self.watermark = clock::now();
        records.into_iter().for_each(|record| self.sort_in(record));
    }

    /// What has happened to processes since the last call, in order of time.
    pub fn take_turns(&mut self) -> Vec<Turn> {
        std::mem::take(&mut self.turns)
    }

    /// The present life of `pid`.
    pub fn life(&self, pid: Pid) -> Life {
        Life { pid, number: self.lives.get(&pid).copied().unwrap_or(0) }
    }

    /// The process was there before, and executed its program more than a few milliseconds ago: with the next one that it
    /// executes, another life of it begins.
    pub fn settle(&mut self, pid: Pid) {
        self.read(clock::now());
        self.settled.insert(pid);
    }

    /// Moves the records of a life to `out`; from now on it is followed.
    pub fn take(&mut self, life: Life, out: &mut Vec<Record>) {
        let queue = self.waiting.entry(life).or_default();
        queue.followed = true;
        out.append(&mut queue.records);
    }

    /// Nobody follows it any more: it has ended or is over.
    pub fn forget(&mut self, life: Life) {
        self.waiting.remove(&life);
        if self.life(life.pid) == life {
            self.samples.remove(&life.pid);
        }
    }

    /// What was sampled of `pid` since the last call.
    pub fn take_samples(&mut self, pid: Pid) -> Vec<MachineSample> {
        self.samples.remove(&pid).unwrap_or_default()
    }

    /// Samples threads that run, once in `period` of each one's CPU time, in all processes.
    pub fn sample(&mut self, period: Nanos) -> Result<(), PerfError> {
        if !self.is_sampled {
            self.stream.sample(period)?;
            self.is_sampled = true;
        }
        Ok(())
    }

    /// Files that become readable when a sample has been taken.
    pub fn alarms(&self) -> Vec<RawFd> {
        if self.is_sampled { self.stream.alarms() } else { Vec::new() }
    }

    /// Sees no page faults any more.
    pub fn drop_faults(&mut self) {
        self.stream.drop_faults();
    }

    /// In whose code page faults are seen; `None`: they are not.
    pub fn faults(&self) -> Option<CodeSampled> {
        self.stream.faults()
    }

    /// Records that could not be decoded.
    pub fn malformed(&self) -> u64 {
        self.stream.malformed()
    }

    fn sort_in(&mut self, record: Record) {
        let (at, first) = (record.at, self.first);
        let owner = match &record.body {
            Body::Lost { count } => return self.on_loss(at, *count),
            Body::Forked { child_pid, child } => {
                self.on_forked(&record, *child_pid, *child);
                *child_pid
            }
            Body::Named { pid, .. } => *pid,
            _ => record.pid,
        };
        let ended = matches!(record.body, Body::Exited) && self.on_exited(record.pid, record.tid);
        let (pid, life) = (record.pid, self.life(owner));
        if is_exec(&record) {
            self.on_executed(&record, owner);
        }
        let queue = self.waiting.entry(life).or_default();
        queue.take(record);
        if !queue.followed && queue.records.len() > MOST_KEPT {
            let count = u64::try_from(queue.records.len()).unwrap_or(u64::MAX);
            let lost = Record {
                at,
                pid: first,
                tid: owner.main_thread(),
                body: Body::Lost { count },
                probe: None,
                reading: None,
            };
            queue.records = vec![lost];
        }
        if ended {
            self.turns.push(Turn { at, pid, life: Some(life), what: TurnKind::Ended });
        }
    }

    fn on_forked(&mut self, record: &Record, child_pid: Pid, child: Tid) {
        if child_pid != record.pid {
            let birth = TurnKind::Born { parent: record.pid };
            // Its number may be that of an earlier one, whose end was lost.
            self.threads.insert(child_pid, FxHashSet::default());
            *self.lives.entry(child_pid).or_default() += 1;
            self.settled.insert(child_pid);
            self.turns.push(Turn { at: record.at, pid: child_pid, life: Some(self.life(child_pid)), what: birth });
        }
        if let Some(threads) = self.threads.get_mut(&child_pid) {
            threads.insert(child);
        }
    }

    /// Only the thread that executed the program is left, and is the process's first from now on.
    fn on_executed(&mut self, executed: &Record, pid: Pid) {
        self.threads.insert(pid, FxHashSet::from_iter([pid.main_thread()]));
        if self.settled.contains(&pid) {
            *self.lives.entry(pid).or_default() += 1;
            // That thread is on a CPU.
            let running = Record { tid: pid.main_thread(), body: Body::SwitchedIn, ..executed.clone() };
            let records = vec![executed.clone(), running];
            self.waiting.insert(self.life(pid), Queue { records, followed: false });
        }
        let Body::Named { name, .. } = &executed.body else { return };
        let (life, what) = (Some(self.life(pid)), TurnKind::Executed(name.clone()));
        self.turns.push(Turn { at: executed.at, pid, life, what });
    }

    /// Whether that was the last thread of its process.
    fn on_exited(&mut self, pid: Pid, tid: Tid) -> bool {
        let Some(threads) = self.threads.get_mut(&pid) else { return false };
        threads.remove(&tid);
        let ended = threads.is_empty();
        if ended {
            self.threads.remove(&pid);
        }
        ended
    }

    /// Nobody can tell whose records were lost. The number is told once.
    fn on_loss(&mut self, at: MonoNanos, count: u64) {
        let mut counts = std::iter::once(count).chain(std::iter::repeat(0));
        let first = self.life(self.first);
        self.waiting.entry(first).or_default();
        let mut all: Vec<Life> = self.waiting.keys().copied().collect();
        all.sort_by_key(|life| (*life != first, life.pid.raw(), life.number));
        for life in all {
            let (pid, body) = (life.pid, Body::Lost { count: counts.next().unwrap_or(0) });
            let record = Record { at, pid, tid: pid.main_thread(), body, probe: None, reading: None };
            self.waiting.entry(life).or_default().records.push(record);
        }
    }
}

fn is_exec(record: &Record) -> bool {
    matches!(record.body, Body::Named { cause: Naming::Exec, .. })
}
