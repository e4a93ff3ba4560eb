//! Every hit once, in order, whatever threads and programs do.

use std::{
    collections::{HashMap, HashSet},
    thread,
    time::Duration,
};

use gilscope::{
    model::{
        event::{Event, What},
        ids::Tid,
    },
    perf::clock,
    source::{
        Pausing, Source,
        scheduler::Scope,
        uprobe::{UprobeOptions, UprobeSource, cost::measure_cost, tracefs::Tracefs},
    },
    target::site::CondFunction,
};

use crate::{
    live::{interpreters::usual, running::Running},
    probes::{Calls, SIGNALS, libc_site, options, signal_site, sweeper},
    program::record_until,
};

/// A program that will signal a condition variable so often in each of its threads, where that is, and no call yet.
fn signalling(count: usize) -> (Running, u64, Calls) {
    let mut program = usual().start(&SIGNALS.replace("COUNT", &count.to_string()));
    let at = program.numbers()[0].cast_unsigned();
    (program, at, Calls::default())
}

#[test]
fn every_signal_of_every_new_thread_is_a_hit() {
    // Each call makes two signals of the interpreter's lock, too: all of them fit into the rings at once.
    const COUNT: usize = 5000;
    permitted!(Tracefs::find());
    let (mut program, at, calls) = signalling(COUNT);
    let mut source = UprobeSource::arm(options(program.pid(), vec![signal_site(program.pid())], &calls)).unwrap();
    program.go();
    let events = record_until(&mut source, &mut program, "done");
    let calls = calls.lock().unwrap();
    assert!(calls.is_sorted_by_key(|call| call.at));
    let mut per_thread: HashMap<Tid, usize> = HashMap::new();
    for call in calls.iter().filter(|call| call.cond.raw() == at) {
        *per_thread.entry(call.tid).or_default() += 1;
    }
    assert_eq!(per_thread.values().copied().collect::<Vec<_>>(), [COUNT; 4]);
    assert_eq!(source.tally().lock_events, calls.len() as u64);
    assert_eq!(events.iter().filter(|event| event.what == What::Created).count(), 4);
    assert!(events.iter().any(|event| event.what == What::SwitchedIn));
    assert!(!events.iter().any(|event| matches!(event.what, What::LostLock(_))));
}

/// Nobody reads while the rings overflow, and the target is silent afterwards: every hit is either delivered or counted as lost.
#[test]
fn what_full_rings_swallow_is_counted() {
    const COUNT: usize = 60_000;
    permitted!(Tracefs::find());
    let (mut program, at, calls) = signalling(COUNT);
    let mut source = UprobeSource::arm(options(program.pid(), vec![signal_site(program.pid())], &calls)).unwrap();
    program.go();
    assert_eq!(program.line(), "done");
    let mut events = Vec::new();
    source.finish(&mut events);
    let hits = calls.lock().unwrap().iter().filter(|call| call.cond.raw() == at).count();
    let lost = |event: &Event| match event.what {
        What::LostLock(lost) | What::LostSwitch(lost) => lost.count,
        _ => 0,
    };
    let lost: u64 = events.iter().map(lost).sum();
    println!("{hits} hits, {} calls in all, {lost} lost", source.tally().lock_events);
    // Each call of ours goes with a release and an acquisition of the interpreter's lock.
    assert!(source.tally().lock_events + lost >= 12 * COUNT as u64);
    // With many CPUs the rings may have been large enough.
    assert_eq!(hits < 4 * COUNT, lost > 0);
}

/// The interpreter's own lock, seen through the order of calls on all CPUs: acquired and released in turn, each time by the
/// same thread. One call out of order would break it.
#[test]
fn the_interpreters_lock_is_taken_and_given_back_in_turn() {
    permitted!(Tracefs::find());
    let mut program = usual().start(
        r"
import sys, threading, time
def work(kind):
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        if kind: time.sleep(0.0005)
        else: sum(range(1000))
sys.setswitchinterval(0.0002)
print('ready'); sys.stdin.readline()
threads = [threading.Thread(target=work, args=(k % 2,)) for k in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print('done'); sys.stdin.readline()
",
    );
    program.line();
    let calls = Calls::default();
    let start = clock::now();
    let timed_wait = libc_site(program.pid(), "pthread_cond_timedwait", CondFunction::TimedWait);
    let sites = vec![signal_site(program.pid()), timed_wait];
    let mut source = UprobeSource::arm(options(program.pid(), sites, &calls)).unwrap();
    println!("armed in {}", clock::now().saturating_since(start));
    program.go();
    record_until(&mut source, &mut program, "done");
    let calls = calls.lock().unwrap();
    let conds: HashSet<u64> = calls.iter().map(|call| call.cond.raw()).collect();
    let released = *conds.iter().find(|cond| conds.contains(&(*cond + 88))).unwrap();
    let (mut owner, mut acquired, mut by_libc, mut waiting) = (None, 0, 0, HashSet::new());
    for call in calls.iter() {
        let is_release = call.function == CondFunction::Signal && call.cond.raw() == released;
        if call.cond.raw() == released + 88 {
            assert!(owner.is_none(), "acquired while owned");
            owner = Some(call.tid);
            waiting.remove(&call.tid);
            acquired += 1;
        } else if is_release && owner == Some(call.tid) {
            owner = None;
        } else if is_release && acquired > 0 {
            // A timed-out waiter that had consumed a signal passes it on, inside libc.
            assert!(waiting.contains(&call.tid), "released by one that neither owns nor waits");
            by_libc += 1;
        } else if call.function == CondFunction::TimedWait && call.cond.raw() == released {
            waiting.insert(call.tid);
        }
    }
    println!("{acquired} acquisitions, {by_libc} signals passed on by libc");
    assert!(acquired > 300);
}

#[test]
fn sites_added_later_are_hit_by_threads_old_and_new() {
    const COUNT: usize = 1000;
    permitted!(Tracefs::find());
    let (mut program, at, calls) = signalling(COUNT);
    let mut source = UprobeSource::arm(options(program.pid(), Vec::new(), &calls)).unwrap();
    source.add_sites(&[signal_site(program.pid())]).unwrap();
    program.go();
    record_until(&mut source, &mut program, "done");
    let hits = calls.lock().unwrap().iter().filter(|call| call.cond.raw() == at).count();
    assert_eq!(hits, 4 * COUNT);
}

/// As many hits as there would have been if nothing had been paused.
#[test]
fn sites_added_during_a_pause_are_watched_once_and_after_it() {
    const COUNT: usize = 1000;
    permitted!(Tracefs::find());
    let (mut program, at, calls) = signalling(COUNT);
    let mut source = UprobeSource::arm(options(program.pid(), Vec::new(), &calls)).unwrap();
    assert_eq!(source.pause(), Pausing::Paused);
    source.add_sites(&[signal_site(program.pid())]).unwrap();
    for _ in 0..2 {
        source.resume(&[]).unwrap();
    }
    program.go();
    record_until(&mut source, &mut program, "done");
    let hits = calls.lock().unwrap().iter().filter(|call| call.cond.raw() == at).count();
    assert_eq!(hits, 4 * COUNT);
}

#[test]
fn sites_added_during_a_pause_cost_nothing_while_it_lasts() {
    permitted!(Tracefs::find());
    let mut program = usual().start(&SIGNALS.replace("COUNT", "100"));
    program.line();
    let calls = Calls::default();
    let mut source = UprobeSource::arm(options(program.pid(), Vec::new(), &calls)).unwrap();
    source.pause();
    source.add_sites(&[signal_site(program.pid())]).unwrap();
    program.go();
    record_until(&mut source, &mut program, "done");
    assert_eq!(calls.lock().unwrap().len(), 0);
}

/// Threads are born all the time while events are opened on those that exist: none may be missed or counted twice.
#[test]
fn a_thread_born_while_we_arm_is_counted_once() {
    permitted!(Tracefs::find());
    let mut program = usual().start(
        r"
import ctypes, sys, threading, time
libc = ctypes.CDLL(None)
cond = ctypes.create_string_buffer(48)
at = ctypes.addressof(cond)
def work():
    for _ in range(10):
        libc.pthread_cond_signal(ctypes.c_void_p(at))
        time.sleep(0.001)
def breed():
    while not over:
        t = threading.Thread(target=work); t.start()
        if len(threading.enumerate()) > 40: t.join()
over = False
breeders = [threading.Thread(target=breed) for _ in range(3)]
for t in breeders: t.start()
print(at); sys.stdin.readline(); over = True
for t in threading.enumerate():
    if t is not threading.current_thread(): t.join()
print('done'); sys.stdin.readline()
",
    );
    let at = program.numbers()[0].cast_unsigned();
    let calls = Calls::default();
    let mut source = UprobeSource::arm(options(program.pid(), vec![signal_site(program.pid())], &calls)).unwrap();
    thread::sleep(Duration::from_millis(300));
    program.go();
    let events = record_until(&mut source, &mut program, "done");
    let mut per_thread: HashMap<Tid, usize> = HashMap::new();
    for call in calls.lock().unwrap().iter().filter(|call| call.cond.raw() == at) {
        *per_thread.entry(call.tid).or_default() += 1;
    }
    let created: Vec<Tid> = events.iter().filter(|event| event.what == What::Created).map(|event| event.tid).collect();
    let exact = created.iter().filter(|tid| per_thread.get(*tid) == Some(&10)).count();
    println!(
        "{} threads seen, {} created since, {exact} of them with exactly 10 hits",
        per_thread.len(),
        created.len()
    );
    assert_eq!(created.iter().collect::<HashSet<_>>().len(), created.len(), "nobody is born twice");
    assert!(per_thread.values().all(|count| *count <= 10), "no hit is counted twice");
    assert!(created.len() > 50 && exact + 3 >= created.len());
}

/// A program that becomes another one, whose child process must not be taken for it.
fn follow_through_exec(exec: &str) -> Vec<Event> {
    let fork = "if os.fork() == 0: work(); os._exit(0)\nos.wait(); print('done')";
    let text = SIGNALS.replace("COUNT", "300").replace("print('done')", fork);
    let first = format!(
        "import os, sys, threading; become = lambda: os.execv(sys.executable, [sys.executable, '-u', '-c', {text:?}])\n\
         {exec}"
    );
    let mut program = usual().start(&first);
    program.line();
    let calls = Calls::default();
    let site = signal_site(program.pid());
    let options = UprobeOptions { scope: Scope::BeforeExec, ..options(program.pid(), vec![site], &calls) };
    let mut source = UprobeSource::arm(options).unwrap();
    program.go();
    let at = program.numbers()[0].cast_unsigned();
    program.go();
    let events = record_until(&mut source, &mut program, "done");
    assert_eq!(calls.lock().unwrap().iter().filter(|call| call.cond.raw() == at).count(), 4 * 300);
    assert!(source.executed().is_some());
    events
}

fn lives(events: &[Event]) -> (usize, usize) {
    let count = |what: &What| events.iter().filter(|event| event.what == *what).count();
    (count(&What::Created), count(&What::Exited))
}

#[test]
fn probes_survive_exec_and_do_not_follow_child_processes() {
    permitted!(Tracefs::find());
    assert_eq!(lives(&follow_through_exec("print('ready'); sys.stdin.readline(); become()")), (4, 4));
}

/// The thread that executes the program ends under its own number and goes on under that of the first, which ended.
#[test]
fn probes_survive_exec_by_a_thread_that_is_not_the_first() {
    permitted!(Tracefs::find());
    let exec = "late = lambda: (print('ready'), sys.stdin.readline(), become()); threading.Thread(target=late).start()";
    assert_eq!(lives(&follow_through_exec(exec)), (1 + 4, 2 + 4));
}

#[test]
fn the_cost_of_a_hit_is_measured_on_ourselves() {
    permitted!(Tracefs::find());
    let cost = measure_cost(&sweeper(), &[]).unwrap();
    println!("a hit costs {cost}");
    assert!(cost.as_nanos() > 20, "a trap into the kernel cannot be cheaper");
}
