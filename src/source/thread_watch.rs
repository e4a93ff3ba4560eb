//! The threads of one process as the records of the scheduler tell of them: births, deaths, names, on and off the CPU.
//!
//! Invariant: nothing is told of threads of other processes.

use std::fs;

use rustc_hash::FxHashMap;

use crate::{
    model::{
        counts::Counter,
        event::{Event, LostEvents, OffCpu, What},
        ids::{Pid, Tid},
        time::{MonoNanos, Nanos},
    },
    perf::{
        clock,
        error::PerfError,
        fault_cost::record_cost,
        open::FaultKind,
        record::{Body, Naming},
        stream::{Record, threads_of},
    },
    source::run_delay::RunDelays,
};

/// How far the target has come when we begin to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// It is running.
    Running,
    /// It was forked but has not yet executed its program: its present name is not its own.
    BeforeExec,
}

/// What a full ring may have swallowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RingContent {
    /// Scheduling alone.
    Scheduling,
    /// Scheduling and lock events.
    SchedulingAndLocks,
}

/// The threads of one process, as far as the records have told.
#[derive(Debug)]
pub(super) struct ThreadWatch {
    pid: Pid,
    content: RingContent,
    threads: FxHashMap<Tid, Thread>,
    delays: RunDelays,
    /// Known from the start, to be delivered first.
    first: Vec<Event>,
    executed: Option<MonoNanos>,
    /// Records of page faults so far.
    fault_records: u64,
}

#[derive(Debug, Default)]
struct Thread {
    name: Option<Box<str>>,
    sleep: Sleep,
}

/// Whether a thread's next switch-in ends a wait for a CPU that began with a wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Sleep {
    /// It slept, or has never run.
    #[default]
    Asleep,
    /// It runs, or could.
    Awake,
}

impl ThreadWatch {
    /// The threads that exist now; call it when the events are already open, so that none is missed.
    pub fn begin(pid: Pid, scope: Scope, content: RingContent) -> Result<Self, PerfError> {
        let mut watch = Self::expecting(pid, content);
        for tid in threads_of(pid)? {
            let thread = watch.threads.entry(tid).or_default();
            if scope == Scope::Running {
                let at = clock::now();
                thread.name = name_of(pid, tid);
                watch.first.extend(thread.name.clone().map(|name| Event { at, tid, what: What::Named(name) }));
            }
            watch.delays.request(tid);
        }
        watch.delays.read(&mut watch.first);
        Ok(watch)
    }

    /// No thread: the records will tell of the birth of each.
    pub fn expecting(pid: Pid, content: RingContent) -> Self {
        let (threads, delays) = (FxHashMap::default(), RunDelays::new(pid));
        Self { pid, content, threads, delays, first: Vec::new(), executed: None, fault_records: 0 }
    }

    /// All threads that are known.
    pub fn tids(&self) -> impl Iterator<Item = Tid> {
        self.threads.keys().copied()
    }

    /// When the process last executed a new program.
    pub fn executed(&self) -> Option<MonoNanos> {
        self.executed
    }

    /// What records of page faults have taken of the threads' time, if a record takes as long as one of ours.
    pub fn cost_of_faults(&self) -> Nanos {
        let records = self.fault_records;
        if records == 0 { Nanos::ZERO } else { Nanos::from_nanos(record_cost().as_nanos().saturating_mul(records)) }
    }

    /// Turns a record about scheduling, or a loss, into events; hits of probes mean nothing here.
    pub fn on_record(&mut self, record: &Record, out: &mut Vec<Event>) {
        out.append(&mut self.first);
        let Record { at, tid, .. } = *record;
        match &record.body {
            Body::SwitchedIn => self.on_switched_in(at, tid, out),
            Body::SwitchedOut(why) => self.on_switched_out(at, tid, *why, out),
            Body::Named { pid, tid, name, cause } if *pid == self.pid => {
                if *cause == Naming::Exec {
                    self.on_executed(at, *tid, out);
                }
                self.thread(at, *tid, out).name = Some(name.clone());
                out.push(Event { at, tid: *tid, what: What::Named(name.clone()) });
            }
            Body::Forked { child_pid, child } if *child_pid == self.pid => self.on_created(at, tid, *child, out),
            Body::Exited => self.on_exited(at, tid, out),
            Body::Lost { count } => self.on_lost(at, *count, out),
            Body::Migrated => out.push(Event { at, tid, what: What::Happened(Counter::Migrations, 1) }),
            Body::Faulted(kind, times) => {
                self.fault_records += 1;
                let counter = match kind {
                    FaultKind::Minor => Counter::MinorFaults,
                    FaultKind::Major => Counter::MajorFaults,
                };
                out.push(Event { at, tid, what: What::Happened(counter, *times) });
            }
            Body::Named { .. }
            | Body::Forked { .. }
            | Body::Hit { .. }
            | Body::Wrote(_)
            | Body::Sampled(_)
            | Body::Sampling { .. }
            | Body::Counted
            | Body::CountersBegan
            | Body::CountersEnded => {}
        }
    }

    /// Delivers what was known from the start, and reads how long those threads that have since been woken waited for a CPU.
    pub fn read_delays(&mut self, out: &mut Vec<Event>) {
        out.append(&mut self.first);
        self.delays.read(out);
    }

    /// The number of the process's first thread comes back after its end when another thread executes a program: it changes
    /// its number a little before the record of that. Of others unknown the birth was lost.
    fn thread(&mut self, at: MonoNanos, tid: Tid, out: &mut Vec<Event>) -> &mut Thread {
        self.threads.entry(tid).or_insert_with(|| {
            if tid == self.pid.main_thread() {
                out.push(Event { at, tid, what: What::Created });
            }
            Thread::default()
        })
    }

    fn on_switched_in(&mut self, at: MonoNanos, tid: Tid, out: &mut Vec<Event>) {
        let thread = self.thread(at, tid, out);
        if std::mem::replace(&mut thread.sleep, Sleep::Awake) == Sleep::Asleep {
            self.delays.request(tid);
        }
        out.push(Event { at, tid, what: What::SwitchedIn });
    }

    fn on_switched_out(&mut self, at: MonoNanos, tid: Tid, why: OffCpu, out: &mut Vec<Event>) {
        let thread = self.thread(at, tid, out);
        thread.sleep = if why == OffCpu::Blocked { Sleep::Asleep } else { Sleep::Awake };
        out.push(Event { at, tid, what: What::SwitchedOut(why) });
    }

    /// A new thread has its creator's name and has waited for nothing yet.
    fn on_created(&mut self, at: MonoNanos, parent: Tid, tid: Tid, out: &mut Vec<Event>) {
        self.delays.forget(tid);
        let name = self.threads.get(&parent).and_then(|parent| parent.name.clone());
        self.threads.insert(tid, Thread { name: name.clone(), sleep: Sleep::Asleep });
        out.push(Event { at, tid, what: What::Created });
        out.extend(name.map(|name| Event { at, tid, what: What::Named(name) }));
        out.push(Event { at, tid, what: What::RunDelay(Nanos::ZERO) });
    }

    fn on_exited(&mut self, at: MonoNanos, tid: Tid, out: &mut Vec<Event>) {
        self.threads.remove(&tid);
        self.delays.forget(tid);
        out.push(Event { at, tid, what: What::Exited });
    }

    /// Only the thread that executed the program is left, and goes on under the number of the process's first.
    fn on_executed(&mut self, at: MonoNanos, tid: Tid, out: &mut Vec<Event>) {
        self.executed = Some(at);
        let others: Vec<Tid> = self.threads.keys().copied().filter(|other| *other != tid).collect();
        for other in others {
            self.on_exited(at, other, out);
        }
        out.push(Event { at, tid: self.pid.main_thread(), what: What::Executed });
    }

    /// Nobody can tell whose records were lost, so every thread may have lost some; the number is stated once.
    fn on_lost(&mut self, at: MonoNanos, count: u64, out: &mut Vec<Event>) {
        let mut counts = std::iter::once(count).chain(std::iter::repeat(0));
        let mut next = || LostEvents { count: counts.next().unwrap_or(0) };
        for tid in self.threads.keys().copied() {
            if self.content == RingContent::SchedulingAndLocks {
                out.push(Event { at, tid, what: What::LostLock(next()) });
            }
            out.push(Event { at, tid, what: What::LostSwitch(next()) });
        }
    }
}

/// The name of a thread as `/proc` shows it; `None` when it has ended.
fn name_of(pid: Pid, tid: Tid) -> Option<Box<str>> {
    let name = fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into())
}

#[cfg(test)]
mod tests {
    use super::{RingContent, Scope, ThreadWatch};
    use crate::{
        model::{
            event::{Event, LostEvents, OffCpu, What},
            ids::{Pid, Tid},
            time::{MonoNanos, Nanos},
        },
        perf::{
            record::{Body, Naming},
            stream::Record,
        },
    };

    fn pid() -> Pid {
        Pid::from_raw(std::process::id().cast_signed()).unwrap()
    }

    fn tid(raw: i32) -> Tid {
        Tid::from_raw(raw).unwrap()
    }

    fn watch(content: RingContent) -> ThreadWatch {
        let mut watch = ThreadWatch::begin(pid(), Scope::BeforeExec, content).unwrap();
        watch.threads.clear();
        watch.first.clear();
        watch
    }

    fn play(watch: &mut ThreadWatch, records: Vec<(u64, i32, Body)>) -> Vec<Event> {
        let mut out = Vec::new();
        for (at, raw, body) in records {
            let at = MonoNanos::from_monotonic(at);
            watch.on_record(&Record { at, pid: pid(), tid: tid(raw), body, probe: None, reading: None }, &mut out);
        }
        out
    }

    fn event(at: u64, raw: i32, what: What) -> Event {
        Event { at: MonoNanos::from_monotonic(at), tid: tid(raw), what }
    }

    #[test]
    fn a_new_thread_has_its_creators_name_and_no_delay() {
        let name: Box<str> = "creator".into();
        let named = Body::Named { pid: pid(), tid: tid(1), name: name.clone(), cause: Naming::Rename };
        let forked = Body::Forked { child_pid: pid(), child: tid(2) };
        let out = play(&mut watch(RingContent::Scheduling), vec![(5, 1, named), (6, 1, forked), (9, 2, Body::Exited)]);
        let expected = [
            event(5, 1, What::Named(name.clone())),
            event(6, 2, What::Created),
            event(6, 2, What::Named(name)),
            event(6, 2, What::RunDelay(Nanos::ZERO)),
            event(9, 2, What::Exited),
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn child_processes_are_not_threads() {
        let other = Pid::from_raw(i32::MAX).unwrap();
        let forked = Body::Forked { child_pid: other, child: tid(i32::MAX) };
        let named = Body::Named { pid: other, tid: tid(i32::MAX), name: "sh".into(), cause: Naming::Exec };
        let mut watch = watch(RingContent::Scheduling);
        assert_eq!(play(&mut watch, vec![(1, 1, forked), (2, 1, named)]), []);
        assert_eq!(watch.executed(), None);
    }

    /// ```text
    /// first thread   ────── exited        ┌── named ──▶  (the other one, renumbered)
    /// another thread ──────────── exec ───┘
    /// ```
    #[test]
    fn exec_in_another_thread_ends_its_number_and_revives_the_first() {
        let (first, other) = (pid().raw(), i32::MAX);
        let named = Body::Named { pid: pid(), tid: pid().main_thread(), name: "sh".into(), cause: Naming::Exec };
        let records = vec![(1, other, Body::SwitchedIn), (2, first, Body::Exited), (3, first, named)];
        let out = play(&mut watch(RingContent::Scheduling), records);
        let expected = [
            event(1, other, What::SwitchedIn),
            event(2, first, What::Exited),
            event(3, other, What::Exited),
            event(3, first, What::Executed),
            event(3, first, What::Created),
            event(3, first, What::Named("sh".into())),
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn only_a_sleep_asks_for_the_delay() {
        let mut watch = watch(RingContent::Scheduling);
        let main = pid().raw();
        let out = |why| Body::SwitchedOut(why);
        let delays = |watch: &mut ThreadWatch| {
            let mut out = Vec::new();
            watch.read_delays(&mut out);
            out.len()
        };
        play(&mut watch, vec![(1, main, out(OffCpu::Blocked)), (2, main, Body::SwitchedIn)]);
        assert_eq!(delays(&mut watch), 1);
        play(&mut watch, vec![(3, main, out(OffCpu::Preempted)), (4, main, Body::SwitchedIn)]);
        assert_eq!(delays(&mut watch), 0);
    }

    #[test]
    fn a_loss_concerns_every_thread_and_is_counted_once() {
        let mut watch = watch(RingContent::SchedulingAndLocks);
        let records = vec![(1, 1, Body::SwitchedIn), (2, 2, Body::SwitchedIn), (3, 1, Body::Lost { count: 40 })];
        let out = play(&mut watch, records);
        let lost: Vec<_> = out.iter().filter(|event| event.at.as_nanos() == 3).collect();
        assert_eq!(lost.len(), 4);
        let counted = lost.iter().filter(|event| event.what == What::LostLock(LostEvents { count: 40 })).count();
        let silent =
            lost.iter().filter(|event| matches!(event.what, What::LostSwitch(LostEvents { count: 0 }))).count();
        assert_eq!((counted, silent), (1, 2));
    }
}
