//! Nothing of ours stays, and little of it is there while we watch.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use gilscope::{
    model::{
        event::{LockStep, What},
        ids::Pid,
    },
    perf::clock,
    source::Source,
    target::{libc::CondLibrary, maps::MemoryMap, memory::Memory},
};

use crate::{
    live::interpreters::{Interpreter, interpreters},
    program::{Observed, Program, memory_of, skip},
};

const THREADS: &str = r#"
import sys, threading, time
def work():
    while True:
        time.sleep(0.01)
threads = [threading.Thread(target=work, daemon=True) for _ in range(64)]
for thread in threads: thread.start()
print("ready", flush=True)
sys.stdin.read()
"#;

/// Threads that live for a moment each.
const MOMENTS: &str = r#"
import sys, threading
print("ready", flush=True)
while True:
    thread = threading.Thread(target=sum, args=(range(10000),))
    thread.start()
    thread.join()
"#;

fn any_interpreter() -> Interpreter {
    interpreters().pop().unwrap()
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count).unwrap_or(0)
}

/// The first byte of `pthread_cond_signal` as the process sees it, where a breakpoint would stand.
fn first_byte(pid: Pid) -> u8 {
    let library = CondLibrary::of_process(pid).unwrap();
    let map = MemoryMap::read(pid).unwrap();
    let offset = library.sites[0].offset.raw();
    let code = map.of(library.file).find(|mapping| mapping.executable).unwrap();
    let mut byte = [0];
    memory_of(pid).unwrap().read(code.start.plus(offset - code.offset.raw()), &mut byte).unwrap();
    byte[0]
}

#[test]
fn sixty_four_threads_cost_no_descriptors_and_are_left_at_once() {
    let program = Program::start(&any_interpreter(), THREADS);
    let mut observed = match Observed::begin(&program, 100) {
        Ok(observed) => observed,
        Err(why) => return skip(&why),
    };
    observed.watch(Duration::from_secs(1));
    let start = Instant::now();
    observed.source.finish(&mut observed.events);
    println!("left 64 threads in {:?}", start.elapsed());
    let threads: std::collections::BTreeSet<_> =
        observed.events.iter().filter(|event| matches!(event.what, What::Lock(..))).map(|event| event.tid).collect();
    assert!(threads.len() >= 64, "only {} threads were seen", threads.len());
}

#[test]
fn new_threads_are_seen_from_their_first_step() {
    let program = Program::start(&any_interpreter(), MOMENTS);
    let mut observed = match Observed::begin(&program, 100) {
        Ok(observed) => observed,
        Err(why) => return skip(&why),
    };
    observed.watch(Duration::from_secs(1));
    // The scheduler is watched a little longer than the lock.
    let end = clock::now();
    observed.source.finish(&mut observed.events);
    observed.events.retain(|event| event.at < end);
    observed.events.sort_by_key(|event| event.at);
    let born: Vec<_> =
        observed.events.iter().filter(|event| event.what == What::Created).map(|event| event.tid).collect();
    let mut ended = 0;
    for tid in &born {
        let steps = observed.events.iter().filter(|event| event.tid == *tid);
        let steps: Vec<_> = steps
            .filter_map(|event| match event.what {
                What::Lock(_, step @ (LockStep::Acquired | LockStep::Released)) => Some(step),
                _ => None,
            })
            .collect();
        let alternate = steps
            .chunks(2)
            .all(|pair| pair[0] == LockStep::Acquired && pair.get(1).is_none_or(|s| *s == LockStep::Released));
        assert!(alternate, "{tid:?}: {steps:?}");
        ended += usize::from(steps.len() >= 2 && steps.len() % 2 == 0);
    }
    println!("{} threads were born, {ended} took and gave back the lock", born.len());
    assert!(ended > 20 && ended + 1 >= born.len());
}

#[test]
fn a_killed_observer_leaves_no_breakpoint() {
    let mut program = Program::start(&any_interpreter(), THREADS);
    let before = first_byte(program.pid());
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    command
        .args(["attach", "-q", "--max-overhead", "none", "-o"])
        .arg(folder.path().join("out.json"))
        .arg(program.pid().to_string());
    let mut observer = command.stderr(Stdio::null()).spawn().unwrap();
    if !wait_for(|| first_byte(program.pid()) != before || observer.try_wait().unwrap().is_some()) {
        panic!("the observer neither began nor ended");
    }
    if observer.try_wait().unwrap().is_some() {
        return println!("skipped: gilscope cannot attach here");
    }
    thread::sleep(Duration::from_millis(300));
    println!("{} descriptors while 64 threads are watched", open_files(observer.id()));
    observer.kill().unwrap();
    observer.wait().unwrap();
    assert!(wait_for(|| first_byte(program.pid()) == before), "a breakpoint stayed");
    assert!(program.child.try_wait().unwrap().is_none(), "the program did not survive");
}

fn wait_for(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}
