//! Discovery against real interpreters: every CPython found on this machine is started, described and compared with
//! what it says about itself. Interpreters that are absent are skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking and says what it saw")]

mod builds;
#[path = "../support/live.rs"]
mod live;
mod refusals;

use std::{collections::BTreeSet, process::Command};

use gilscope::{
    model::{
        event::SeenRelation,
        ids::{LockId, Pid},
    },
    target::{
        discover::Target,
        lock::LockSeat,
        memory::{Memory, ProcessMemory},
        process,
        runtime::Runtime,
        sighting::SeenThread,
    },
};

use live::{
    interpreters::{Way, interpreters, interpreters_by, pyenv},
    outcome,
    running::Running,
};

/// Prints its version, starts three threads that sleep, says so, and then computes inside one C call after another.
const THREADS: &str = "
import platform, sys, threading, time
sys.stdout.write(platform.python_version() + '\\n')
for _ in range(3): threading.Thread(target=lambda: time.sleep(60), daemon=True).start()
time.sleep(0.1)
sys.stdout.write('ready\\n'); sys.stdout.flush()
numbers = list(range(100000))
deadline = time.monotonic() + 30
while time.monotonic() < deadline: sum(numbers)
";

fn numbered(locks: &[LockSeat]) -> Vec<(LockId, LockSeat)> {
    (0..).map(LockId::from_index).zip(locks.iter().cloned()).collect()
}

/// The threads seen at a moment at which one of them held a lock.
fn sightings_with_holder(target: &Target, memory: &dyn Memory, locks: &[LockSeat]) -> Vec<SeenThread> {
    for _ in 0..100 {
        let seen = target.sightings(memory, &numbered(locks));
        if seen.iter().any(|thread| matches!(thread.sighting.relation, Some(SeenRelation::Inside(_)))) {
            return seen;
        }
    }
    panic!("nobody was inside in 100 sightings");
}

#[test]
fn every_interpreter_is_described_as_it_describes_itself() {
    for interpreter in &interpreters_by(&[Way::Chroot, Way::Loader]) {
        let mut running = interpreter.start(THREADS);
        let version = running.line();
        assert_eq!(running.line(), "ready", "{interpreter:?}");
        let target = Target::discover(running.pid()).unwrap_or_else(|error| panic!("{interpreter:?}: {error}"));
        let memory = ProcessMemory::open(target.pid).unwrap();

        let summary = target.summary();
        assert_eq!((summary.runtime.as_str(), summary.runtime_version), ("cpython", version.clone()));

        let locks = target.locks(&memory).unwrap();
        assert_eq!(locks.len(), 1, "{version}: {locks:?}");
        assert_eq!((locks[0].name.as_str(), locks[0].interpreter), ("GIL", Some(0)), "{version}");
        let interval = memory.read_u64(locks[0].address.plus(locks[0].layout.interval)).unwrap();
        assert_eq!(interval, 5000, "{version}");

        let tids: BTreeSet<_> = target.threads(&memory).unwrap().iter().map(|thread| thread.tid).collect();
        let tasks: BTreeSet<_> = process::threads(target.pid).unwrap().into_iter().collect();
        assert_eq!(tids.len(), 4, "{version}");
        assert_eq!(tids, tasks, "{version}");

        let seen = sightings_with_holder(&target, &memory, &locks);
        let inside = SeenRelation::Inside(LockId::from_index(0));
        let holders: Vec<_> = seen.iter().filter(|thread| thread.sighting.relation == Some(inside)).collect();
        assert_eq!(holders.len(), 1, "{version}: {seen:?}");
        assert_eq!(holders[0].tid, target.pid.main_thread(), "{version}");
        let outside = seen.iter().filter(|thread| thread.sighting.relation == Some(SeenRelation::Outside)).count();
        assert_eq!(outside, 3, "{version}: {seen:?}");

        // Interpreters can have locks of their own from 3.12 on: then it is seen when they are made.
        let expected = if interpreter.minor >= 12 { 4 } else { 3 };
        assert_eq!(target.sites().unwrap().len(), expected, "{version}");
        let Runtime::CPython(python) = &target.runtime else { panic!("{target:?}") };
        if python.layout.thread.native_thread_id.is_none() {
            // What libc publishes is what a search finds where libc does not.
            assert!(python.pthread_tid.is_some(), "{version}");
            assert_eq!(python.searched_pthread_tid(target.pid, &memory), python.pthread_tid, "{version}");
        }
        eprintln!("{version}: 1 lock, {} threads", tids.len());
    }
}

/// Two isolated sub-interpreters and one that shares the main lock, each with a thread that sleeps in it.
const SUB_INTERPRETERS: &str = "
import sys, threading, time
try:
    import _interpreters as subs
    made = [subs.create('isolated'), subs.create('isolated'), subs.create('legacy')]
except ImportError:
    import _xxsubinterpreters as subs
    made = [subs.create(isolated=True), subs.create(isolated=True), subs.create(isolated=False)]
for sub in made: threading.Thread(target=subs.run_string, args=(sub, 'import time; time.sleep(60)'), daemon=True).start()
time.sleep(0.5)
sys.stdout.write('ready\\n'); sys.stdout.flush()
time.sleep(60)
";

#[test]
fn every_interpreter_of_a_process_is_found() {
    for interpreter in interpreters().iter().filter(|interpreter| interpreter.minor >= 12) {
        let mut running = interpreter.start(SUB_INTERPRETERS);
        assert_eq!(running.line(), "ready", "{interpreter:?}");
        let target = Target::discover(running.pid()).unwrap();
        let memory = ProcessMemory::open(target.pid).unwrap();

        let locks = target.locks(&memory).unwrap();
        let names: Vec<_> = locks.iter().map(|lock| lock.name.as_str()).collect();
        assert_eq!(names, ["GIL of interpreter 0", "GIL of interpreter 1", "GIL of interpreter 2"], "{interpreter:?}");

        let threads = target.threads(&memory).unwrap();
        let tids: BTreeSet<_> = threads.iter().map(|thread| thread.tid).collect();
        assert_eq!(tids.len(), 4, "{interpreter:?}");
        // Each of the three threads has a state in the main interpreter and one in its own.
        assert!(threads.len() >= 7, "{interpreter:?}: {threads:?}");
        eprintln!("{:?}: {} locks, {} states of {} threads", interpreter.words, locks.len(), threads.len(), tids.len());
    }
}

/// One thread computes and gives way only after ten seconds; three others want the lock.
const CONTENDED: &str = "
import sys, threading, time
sys.setswitchinterval(10)
numbers = list(range(100000))
def compute():
    while True: sum(numbers)
for _ in range(3): threading.Thread(target=lambda: (time.sleep(0.3), compute()), daemon=True).start()
sys.stdout.write('ready\\n'); sys.stdout.flush()
deadline = time.perf_counter() + 0.8
while time.perf_counter() < deadline: pass
sys.stdout.write('contended\\n'); sys.stdout.flush()
compute()
";

#[test]
fn sleepers_on_the_lock_are_seen_to_wait() {
    for interpreter in &interpreters() {
        let mut running = interpreter.start(CONTENDED);
        assert_eq!((running.line(), running.line()), ("ready".to_owned(), "contended".to_owned()), "{interpreter:?}");
        let target = Target::discover(running.pid()).unwrap();
        let memory = ProcessMemory::open(target.pid).unwrap();
        let locks = numbered(&target.locks(&memory).unwrap());
        let lock = LockId::from_index(0);
        // Printing gave the lock away for an instant, so a waiter may be awake yet at the first look.
        let expected = (1, 3, 4);
        let counts = (0..100).map(|_| {
            let seen = target.sightings(&memory, &locks);
            let count = |relation| seen.iter().filter(|thread| thread.sighting.relation == Some(relation)).count();
            (count(SeenRelation::Inside(lock)), count(SeenRelation::Waiting(lock)), seen.len())
        });
        let looks: Vec<_> = counts.collect();
        assert!(looks.iter().all(|(inside, _, _)| *inside <= 1), "{interpreter:?}: {looks:?}");
        assert!(looks.contains(&expected), "{interpreter:?}: {looks:?}");
    }
}

#[test]
fn threads_in_a_pid_namespace_have_the_ids_of_the_observer() {
    for minor in ["3.10", "3.13"] {
        let Some(home) = pyenv(minor) else { continue };
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).arg(home.join("bin/python3")).args(["-c", THREADS]);
        let mut running = Running::start(command);
        if running.line().is_empty() {
            outcome::skipped("threads in a pid namespace: making one is not permitted");
            return;
        }
        assert_eq!(running.line(), "ready");
        let outer = running.pid();
        let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
        let pid = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
        assert_eq!(process::Status::of_process(pid).unwrap().inner_id, 1);

        let target = Target::discover(pid).unwrap();
        let memory = ProcessMemory::open(pid).unwrap();
        let tids: BTreeSet<_> = target.threads(&memory).unwrap().iter().map(|thread| thread.tid).collect();
        assert_eq!(tids, process::threads(pid).unwrap().into_iter().collect(), "{minor}");
        sightings_with_holder(&target, &memory, &target.locks(&memory).unwrap());
    }
}
