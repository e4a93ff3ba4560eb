//! Stacks that the probe notes inside the target: the same as those read from outside where threads stand still, and never
//! impossible where they run.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Write},
    process::{Child, Command},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use gilscope::{
    model::{
        event::{Event, LockStep, SampleCause, What},
        ids::{Pid, Tid},
        recorded::RecordedStack,
        stack::{Frame, StackTable},
        time::{MonoNanos, Nanos},
    },
    source::{
        Source,
        calls::{FindLocks, Translator},
        preload::{PreloadSource, Prepared},
    },
    stack::{CHANGING, Motion, reader::StackReader, resolver::Resolver},
    target::{
        discover::Target,
        lock::LockSeat,
        memory::{Memory, ProcessMemory},
    },
};

use crate::{live::ring, python::each_python, recording::launch};

struct Locks(Target, Box<dyn Memory>);

/// A program under the probe, which notes stacks.
struct Watched {
    child: Child,
    source: PreloadSource,
    table: Rc<RefCell<StackTable>>,
    events: Vec<Event>,
    outside: StackReader,
}

impl FindLocks for Locks {
    fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
        self.0.locks(&*self.1).ok()
    }
}

impl Watched {
    fn start(command: Command) -> Self {
        Self::start_with(Prepared::new().expect("memory files can be made"), command)
    }

    fn start_with(prepared: Prepared, mut command: Command) -> Self {
        command.envs(prepared.environment(None)).stdin(std::process::Stdio::piped());
        let mut child = launch(command, &prepared);
        // Only now does it run, and can be described.
        let mut announcement = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        output.read_line(&mut announcement).expect("the program writes a line");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
        let target = Target::discover(pid).expect("an interpreter");
        let memory = || Box::new(ProcessMemory::open(pid).expect("its memory"));
        let locks: Box<dyn FindLocks> = Box::new(Locks(target.clone(), memory()));
        let translator = Rc::new(RefCell::new(Translator::new(None)));
        translator.borrow_mut().find_with(locks);
        let (calls, table) = (Rc::clone(&translator), Rc::new(RefCell::new(StackTable::default())));
        let on_call = Box::new(move |call, out: &mut Vec<Event>| calls.borrow_mut().translate(call, out));
        let mut source = prepared.into_source(pid, on_call);
        let mut resolver = Resolver::new(&target, memory()).expect("a layout that is right");
        let into = Rc::clone(&table);
        let on_stack = Box::new(move |stack: &RecordedStack| {
            let frames = resolver.resolve(stack).inspect_err(|why| println!("  unnamed: {why}")).ok()?;
            Some(into.borrow_mut().intern(&frames))
        });
        source.note_stacks(&target.runtime, translator, on_stack);
        let outside = StackReader::new(&target, memory()).expect("a layout that is right");
        // The first events tell where locks are.
        let mut events = Vec::new();
        source.drain(MonoNanos::from_monotonic(0), &mut events);
        child.stdin.as_mut().expect("its input is a pipe").write_all(b"\n").expect("the program reads a line");
        Self { child, source, table, events, outside }
    }

    /// All acquisitions of the first lock that were told or counted, once the program has ended.
    fn acquisitions(mut self) -> u64 {
        self.child.wait().expect("it ends");
        self.source.finish(&mut self.events);
        let of_event = |event: &Event| match event.what {
            What::Lock(_, LockStep::Acquired) => 1,
            What::Counted(_, steps) => steps.holds,
            What::Uncounted => panic!("something was neither told nor counted"),
            _ => 0,
        };
        self.events.iter().map(of_event).sum()
    }

    fn child_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid")
    }

    fn drain_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.source.drain(MonoNanos::from_monotonic(0), &mut self.events);
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The stacks noted for this reason, with the threads that noted them.
    fn noted(&self, cause: SampleCause) -> Vec<(Tid, Option<Vec<Frame>>)> {
        let table = self.table.borrow();
        let noted = self.events.iter().filter_map(|event| match event.what {
            What::Stack(sample) if sample.cause == cause => Some((event.tid, sample.stack)),
            _ => None,
        });
        noted.map(|(tid, stack)| (tid, stack.map(|stack| table.frames(stack).cloned().collect()))).collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The main thread sleeps with the GIL in its hands; the other one wakes and waits for it.
const ASLEEP: &str = "
import ctypes, os, sys, threading, time
def größe(depth):
    if depth: größe(depth - 1)
    else: [time.sleep(seconds) for seconds in (0.2, 0.3)]
def numbers(depth):
    yield from (numbers(depth - 1) if depth else [hold()])
def hold():
    ctypes.PyDLL(None).usleep(1500000)
print(os.getpid(), flush=True)
sys.stdin.readline()
thread = threading.Thread(target=größe, args=(60,), daemon=True)
thread.start()
time.sleep(0.3)
class Body: list(numbers(9))
time.sleep(9)";

#[test]
fn threads_that_stand_still_are_noted_as_they_are_read() {
    each_python(|interpreter| {
        let mut watched = Watched::start(interpreter.command_of(ASLEEP));
        watched.drain_for(Duration::from_millis(1100));
        let waits = watched.noted(SampleCause::WaitBegan);
        let (waiter, noted) = waits.last().expect("the thread waits");
        let read = watched.outside.read(*waiter, Motion::Still).expect("it waits still");
        assert!(read.len() >= 61, "{} frames", read.len());
        assert_eq!(noted.as_ref(), Some(&read));
        let holder = watched.child_pid().main_thread();
        let read = watched.outside.read(holder, Motion::Still).expect("it sleeps");
        assert!(read.iter().any(|frame| frame.function == "numbers"), "{read:?}");
        let held = watched.noted(SampleCause::Contended);
        println!("  {} readings of the owner", held.len());
        // Before it slept, others may have waited for it.
        let asleep = held.iter().rev().take_while(|(tid, noted)| tid == waiter && noted.as_ref() == Some(&read));
        let asleep = asleep.count();
        assert!(asleep > 20, "{asleep} of {} readings agree", held.len());
    });
}

#[test]
fn no_impossible_chain_is_noted_of_a_running_thread() {
    each_python(|interpreter| {
        let mut watched = Watched::start(interpreter.command_of(include_str!("../stack_live/recursion.py")));
        watched.drain_for(Duration::from_secs(3));
        for cause in [SampleCause::WaitBegan, SampleCause::Contended, SampleCause::AtRelease] {
            let mut noted = watched.noted(cause);
            let changing =
                noted.iter_mut().filter_map(|(_, stack)| stack.as_mut()).filter_map(without_changing).count();
            let refused = noted.iter().filter(|(_, stack)| stack.is_none()).count();
            println!("  {cause:?}: {} noted, {changing} in part, {refused} refused", noted.len());
            assert_eq!(refused, 0, "{cause:?}");
            for stack in noted.iter().filter_map(|(_, stack)| stack.as_ref()) {
                let names = || stack.iter().map(|frame| &*frame.function).collect::<Vec<_>>().join(" ");
                assert!(is_possible(stack), "impossible: {}", names());
            }
        }
        let wants = watched.events.iter().filter(|event| matches!(event.what, What::Lock(_, LockStep::Want))).count();
        assert!(wants > 10, "{wants} wants");
        let spent = watched.source.tally().cost_of_stacks.expect("the clock's rate is measured");
        println!("  {} ns spent on stacks", spent.as_nanos());
        assert!(spent > Nanos::ZERO && spent < Nanos::from_millis(6_000), "two threads had three seconds");
    });
}

/// Takes the marker off a stack whose inner frames changed.
fn without_changing(stack: &mut Vec<Frame>) -> Option<Frame> {
    stack.pop_if(|last| *last == Frame::marker(CHANGING))
}

/// Whether the program can be there; the main thread, which is in no ring, can be anywhere.
fn is_possible(stack: &[Frame]) -> bool {
    let main = |frame: &Frame| ["<module>", "[no script frames]"].contains(&&*frame.function);
    stack.first().is_some_and(main) || ring::is_possible(stack)
}

/// Takes the lock a known number of times, faster than it is read.
const WRITES: u64 = 200_000;
const WRITING: &str = "
import os, sys
print(os.getpid(), flush=True)
sys.stdin.readline()
file = os.open('/dev/null', 1)
for _ in range(200000): os.write(file, b'x')";

/// Nobody reads while most events are lost.
#[test]
fn acquisitions_that_a_full_pool_loses_are_counted() {
    each_python(|interpreter| {
        let start = |chunks| {
            let prepared = Prepared::with_chunks(chunks).expect("memory files can be made");
            Watched::start_with(prepared, interpreter.command_of(WRITING))
        };
        // Enough for what happens before the locks are known.
        let mut starved = start(64);
        starved.child.wait().expect("it ends");
        starved.drain_for(Duration::from_millis(20));
        let lost = starved.source.tally().lost;
        let (some, all) = (starved.acquisitions(), start(u32::MAX).acquisitions());
        println!("  {lost} events lost, {some} of {all} acquisitions told or counted");
        assert!(lost > WRITES && all > WRITES, "{lost} lost, {all} acquisitions");
        assert_eq!(some, all);
    });
}
