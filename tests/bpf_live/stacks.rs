//! Stacks read in the kernel: of running threads never impossible, of waiting ones the same as those read from outside.

use std::{collections::BTreeSet, time::Duration};

use gilscope::{
    model::{
        event::{Event, LockStep, SampleCause, What},
        ids::Tid,
        recorded::Entry,
        stack::Frame,
        time::Nanos,
    },
    source::Source,
    stack::{DEEPER, Motion, ScriptFrame, reader::StackReader},
};

use crate::{
    live::{interpreters::interpreters, ring},
    program::{Observed, Program, skip},
};

/// Threads at different depths that want the lock while the first thread sleeps with it.
const QUEUE: &str = r#"
import ctypes, json, sys, threading
holding = ctypes.PyDLL(None).usleep
ready = threading.Semaphore(0)
go = threading.Event()

def wait_in_line(depth):
    if depth:
        return wait_in_line(depth - 1)
    ready.release()
    go.wait()
    while True:
        sum(range(100))

threads = [threading.Thread(target=wait_in_line, args=(depth,), daemon=True) for depth in (0, 3, 30, 150)]
for thread in threads:
    thread.start()
for thread in threads:
    ready.acquire()
print("ready", flush=True)
sys.stdin.readline()
go.set()
while True:
    holding(1000000)
"#;

/// One thread that takes turns between two interpreters, each with a lock of its own.
const TURNS: &str = r#"
import sys, time
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
other = interpreters.create() if sys.version_info < (3, 13) else interpreters.create("isolated")
BELOW = """
import time
def below():
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end: pass
below()
"""
def above():
    end = time.perf_counter() + 0.01
    while time.perf_counter() < end: pass
print("ready", flush=True)
while True:
    interpreters.run_string(other, BELOW)
    above()
"#;

#[test]
fn no_impossible_chain_comes_out_of_a_running_thread() {
    for interpreter in interpreters() {
        let program = Program::start(&interpreter, include_str!("../stack_live/recursion.py"));
        let mut observed = match Observed::begin(&program, 1000) {
            Ok(observed) => observed,
            Err(why) => return skip(&why),
        };
        observed.watch(Duration::from_secs(2));
        let mut counts = [0_u32; 2];
        for event in &observed.events {
            let What::Stack(sample) = &event.what else { continue };
            let Some(stack) = sample.stack else { continue };
            let frames = observed.frames(stack);
            let possible = is_possible(&frames);
            counts[usize::from(possible)] += 1;
            if !possible {
                let names: Vec<_> = frames.iter().map(|frame| &*frame.function).collect();
                println!("impossible at {:?}: {}", sample.cause, names.join(" "));
            }
        }
        let failures = observed.failures.borrow().len();
        observed.source.finish(&mut Vec::new());
        let spent = observed.source.tally().cost_of_stacks.expect("it is counted");
        assert!(spent > Nanos::ZERO && spent < Nanos::from_millis(4_000), "two threads had two seconds: {spent:?}");
        let readings = observed.events.iter().filter(|event| is_reading(event)).count();
        println!(
            "{}: {} whole, {} impossible, {failures} refused; {readings} of holders",
            interpreter.name, counts[1], counts[0]
        );
        assert!(readings > 100, "{}", interpreter.name);
        assert_eq!(counts[0], 0, "{}", interpreter.name);
        assert!(counts[1] > 100 && failures * 50 < counts[1].try_into().unwrap(), "{}", interpreter.name);
    }
}

/// Whether it is a stack of the lock's holder while others waited.
fn is_reading(event: &Event) -> bool {
    matches!(&event.what, What::Stack(sample) if sample.cause == SampleCause::Contended)
}

/// Whether the program can be there; the first thread only waits for its standard input.
fn is_possible(stack: &[Frame]) -> bool {
    let waits = |frame: &Frame| frame.function == "<module>" || ["read", "decode"].contains(&ring::plain(frame));
    stack.iter().all(waits) || ring::is_possible(stack)
}

#[test]
fn what_c_code_called_is_marked() {
    for interpreter in interpreters() {
        let source = include_str!("../stack_live/entries.py").replace("time.sleep(1000)", "while True: pass");
        let program = Program::start(&interpreter, &source);
        let (_, expected): (i32, Vec<(String, bool)>) = serde_json::from_str(&program.ready).unwrap();
        let mut observed = match Observed::begin(&program, 100) {
            Ok(observed) => observed,
            Err(why) => return skip(&why),
        };
        let is_leaf = |script: &&Vec<ScriptFrame>| script.last().is_some_and(|last| last.frame.function == "leaf");
        // The thread runs all the time, if it gets a CPU.
        for _ in 0..50 {
            observed.watch(Duration::from_millis(200));
            if observed.scripts.borrow().iter().filter(is_leaf).count() > 10 {
                break;
            }
        }
        let scripts = observed.scripts.borrow();
        let mut compared = 0;
        for script in scripts.iter().filter(is_leaf) {
            let inner = script[script.len() - expected.len()..].iter();
            let marks = inner.map(|script| (ring::plain(&script.frame).to_owned(), script.entry == Entry::Outermost));
            assert_eq!(marks.collect::<Vec<_>>(), expected, "{}", interpreter.name);
            compared += 1;
        }
        println!("{}: {compared} stacks compared", interpreter.name);
        assert!(compared > 10, "{}", interpreter.name);
    }
}

#[test]
fn a_waiting_thread_has_the_stack_that_is_read_from_outside() {
    for interpreter in interpreters() {
        let mut program = Program::start(&interpreter, QUEUE);
        let mut observed = match Observed::begin(&program, 100) {
            Ok(observed) => observed,
            Err(why) => return skip(&why),
        };
        drop(program.child.stdin.take());
        observed.watch(Duration::from_millis(1500));
        let mut reader = StackReader::new(&program.target(), Box::new(program.memory())).unwrap();
        let first = program.pid().main_thread();
        // The last wait of each thread that has not ended: it waits still, for the first one sleeps with the lock.
        let waits = |tid: Tid| {
            let is_step = |event: &&Event| matches!(event.what, What::Stack(_) | What::Lock(..));
            let last = observed.events.iter().rfind(|event| event.tid == tid && is_step(event));
            last.is_some_and(|event| matches!(&event.what, What::Stack(_) | What::Lock(_, LockStep::Want)))
        };
        let mut compared = 0;
        let tids: BTreeSet<Tid> = observed.events.iter().map(|event| event.tid).collect();
        for tid in tids.into_iter().filter(|tid| *tid != first && waits(*tid)) {
            let began = observed.events.iter().rev().find_map(|event| match &event.what {
                What::Stack(sample) if event.tid == tid && sample.cause == SampleCause::WaitBegan => sample.stack,
                _ => None,
            });
            let Some(began) = began else { continue };
            let Ok(outside) = reader.read(tid, Motion::Still) else { continue };
            let inside = observed.frames(began);
            let expected = match inside.first() {
                Some(frame) if *frame == Frame::marker(DEEPER) => {
                    let kept = &outside[outside.len() + 1 - inside.len()..];
                    std::iter::once(frame.clone()).chain(kept.iter().cloned()).collect()
                }
                _ => outside,
            };
            assert_eq!(inside, expected, "{}", interpreter.name);
            compared += 1;
        }
        println!("{}: {compared} waiting threads compared", interpreter.name);
        assert!(compared >= 2, "{}", interpreter.name);
    }
}

/// What is known of a thread is not looked up at each of its steps; taking another lock must bring another state.
#[test]
fn a_thread_has_the_state_of_the_lock_that_it_took_last() {
    for interpreter in interpreters().into_iter().filter(|interpreter| interpreter.minor >= 12) {
        let program = Program::start(&interpreter, TURNS);
        let mut observed = match Observed::begin(&program, 1000) {
            Ok(observed) => observed,
            Err(why) => return skip(&why),
        };
        observed.watch(Duration::from_secs(1));
        let of_tick = |event: &Event| match &event.what {
            What::Stack(sample) if sample.cause == SampleCause::Tick => sample.stack,
            _ => None,
        };
        let stacks: Vec<_> = observed.events.iter().filter_map(of_tick).map(|stack| observed.frames(stack)).collect();
        let [above, below] = ["above", "below"].map(|name| {
            let runs = |stack: &&Vec<Frame>| stack.last().is_some_and(|frame| ring::plain(frame) == name);
            stacks.iter().filter(runs).count()
        });
        println!("{}: {above} times above, {below} times below, of {}", interpreter.name, stacks.len());
        assert!(above > 50 && below > 50, "{}", interpreter.name);
    }
}
