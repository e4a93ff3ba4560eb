//! Launching a program with the probe, draining what it writes, and what can be said about the calls.

#![expect(unsafe_code, reason = "the launcher's step between fork and exec")]

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use gilscope::{
    model::{
        event::{Event, What},
        family::Reach,
        ids::{Pid, Tid},
        time::MonoNanos,
    },
    perf::events::CountedEvent,
    source::{
        Source, Tally,
        calls::{Call, Verdict},
        preload::Prepared,
    },
    target::site::CondFunction,
};

/// Distance of the two condition variables of one lock, in every CPython.
const PAIR: u64 = 88;

pub struct Recording {
    pub calls: Vec<Call>,
    pub lost: u64,
    /// All that calls are not.
    pub events: Vec<Event>,
    pub tally: Tally,
    pub output: Output,
    pub claimed: bool,
}

/// The calls on the busiest lock, as acquisitions (`true`) and releases.
pub struct LockCalls {
    pub steps: Vec<(Tid, bool)>,
}

/// How to record, other than as usual.
#[derive(Default)]
pub struct Circumstances<'test> {
    /// The size of the pool.
    pub chunks: Option<u32>,
    /// What the user has in `LD_PRELOAD`.
    pub preload: Option<&'test str>,
    /// A page offset of condition variables that belong to no lock.
    pub foreign: Option<u64>,
    /// Whether processes that the program starts record, too; that is not read.
    pub reach: Option<Reach>,
    /// What threads are to read of themselves.
    pub measured: &'test [CountedEvent],
    /// The recording ends after so long, if the program does not.
    pub window: Option<Duration>,
}

pub fn record(command: Command) -> Recording {
    record_under(command, &Circumstances::default())
}

pub fn record_under(mut command: Command, circumstances: &Circumstances<'_>) -> Recording {
    let prepared = match circumstances.reach {
        Some(Reach::Descendants) => Prepared::for_family(),
        Some(Reach::Root) | None => Prepared::with_chunks(circumstances.chunks.unwrap_or(u32::MAX)),
    };
    let mut prepared = prepared.expect("memory files can be made");
    prepared.measure(circumstances.measured);
    // Processes that are forked find it as long as it is open.
    let _pool = prepared.take_pool();
    command.envs(prepared.environment(circumstances.preload.map(OsStr::new)));
    let child = launch(command, &prepared);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    let output = thread::spawn(move || child.wait_with_output().expect("the child can be waited for"));
    while prepared.claimed_by().is_none() && !output.is_finished() {
        thread::sleep(Duration::from_millis(1));
    }
    let target = prepared.claimed_by();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&calls);
    let foreign = circumstances.foreign;
    let on_call = move |call: Call, _: &mut Vec<Event>| {
        sink.lock().expect("nobody panics").push(call);
        let is_foreign = foreign.is_some_and(|offset| call.cond.raw() % 4096 == offset);
        if is_foreign { Verdict::Foreign } else { Verdict::Known }
    };
    let mut source = prepared.into_source(target.unwrap_or(pid), Box::new(on_call));
    let (begun, window) = (Instant::now(), circumstances.window);
    let is_over = || output.is_finished() || window.is_some_and(|window| begun.elapsed() > window);
    let events = drain_until(is_over, &mut source, &calls);
    let tally = source.tally();
    drop(source);
    let calls = Arc::into_inner(calls).expect("the source is gone").into_inner().expect("nobody panics");
    assert!(calls.is_sorted_by_key(|call| call.at), "calls out of order");
    let output = output.join().expect("the child was waited for");
    let lost = events.iter().map(lost).sum();
    Recording { calls, lost, events, tally, output, claimed: target.is_some() }
}

pub fn launch(mut command: Command, prepared: &Prepared) -> Child {
    let files = prepared.inherited_fds().map(|file| file.as_raw_fd());
    let inherit = move || {
        for file in files {
            // SAFETY: changes a flag of a file that is open; allowed between fork and exec.
            unsafe { libc::fcntl(file, libc::F_SETFD, 0) };
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(inherit) };
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

fn drain_until(ended: impl Fn() -> bool, source: &mut dyn Source, calls: &Mutex<Vec<Call>>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut watermark = MonoNanos::from_monotonic(0);
    while !ended() {
        thread::sleep(Duration::from_millis(10));
        let before = calls.lock().expect("nobody panics").len();
        let reached = source.drain(watermark, &mut events);
        let calls = calls.lock().expect("nobody panics");
        let late = calls[before..].first().is_some_and(|first| first.at < watermark);
        let early = calls.last().is_some_and(|last| last.at > reached);
        assert!(!late && !early && reached >= watermark, "the watermark was wrong");
        watermark = reached;
    }
    source.finish(&mut events);
    events
}

fn lost(event: &Event) -> u64 {
    if let What::LostLock(lost) = event.what { lost.count } else { 0 }
}

impl Recording {
    pub fn lock(&self) -> LockCalls {
        let mut signals = HashMap::<u64, usize>::new();
        for call in self.calls.iter().filter(|call| call.function == CondFunction::Signal) {
            *signals.entry(call.cond.raw()).or_default() += 1;
        }
        let paired = |cond: &u64| signals.contains_key(&(cond + PAIR));
        let cond = signals.keys().copied().filter(paired).max_by_key(|cond| signals[cond]);
        let cond = cond.expect("a pair of condition variables");
        let step = |call: &Call| match (call.function, call.cond.raw()) {
            (CondFunction::Signal, at) if at == cond => Some((call.tid, false)),
            (CondFunction::Signal, at) if at == cond + PAIR => Some((call.tid, true)),
            _ => None,
        };
        LockCalls { steps: self.calls.iter().filter_map(step).collect() }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).trim().to_owned()
    }

    pub fn assert_clean_success(&self) {
        let errors = String::from_utf8_lossy(&self.output.stderr);
        assert!(self.output.status.success() && errors.is_empty(), "{:?}: {errors}", self.output.status);
        assert!(self.claimed, "nobody claimed the session");
    }
}

impl LockCalls {
    pub fn acquisitions(&self) -> usize {
        self.steps.iter().filter(|(_, acquired)| *acquired).count()
    }

    /// Acquisitions by another thread than the one before.
    pub fn changes(&self) -> usize {
        let owners = self.steps.iter().filter(|(_, acquired)| *acquired).map(|(tid, _)| tid);
        owners.clone().zip(owners.skip(1)).filter(|(before, after)| before != after).count()
    }

    /// Every acquisition is followed by the release of the same thread.
    pub fn assert_alternation(&self) {
        let mut owner = None;
        for (index, (tid, acquired)) in self.steps.iter().enumerate() {
            match (owner, acquired) {
                (None, true) => owner = Some(*tid),
                (Some(holder), false) if holder == *tid => owner = None,
                _ => panic!("step {index} of {}: owner {owner:?}, then {tid} {acquired}", self.steps.len()),
            }
        }
    }
}
