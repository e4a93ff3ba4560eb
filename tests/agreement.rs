//! One run observed through both sources at once: the in-target probe and uprobes on the same calls must tell the same
//! story, event for event.
//!
//! The order of the two hooks is fixed: the interposed function comes first, then libc's, on which the uprobe sits.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

#[path = "support/live.rs"]
mod live;

use std::{
    cell::RefCell, collections::HashMap, ffi::OsString, fs, os::fd::AsRawFd, path::Path, rc::Rc, thread, time::Duration,
};

use gilscope::{
    ledger::{Attribution, GivingWayLimits, Ledger, LedgerOptions, LockStart},
    model::{
        event::{Event, LockStep, What},
        ids::{LockId, Tid},
        stack::{Frame, StackTable},
        state::{State, StateClass},
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    source::{
        Source,
        calls::{FindLocks, SharedTranslator, Translator},
        preload::Prepared,
        scheduler::Scope,
        uprobe::{UprobeOptions, UprobeSource, sweep::Sweeper},
    },
    target::{
        discover::Target,
        launch::{Launched, Program},
        libc::CondLibrary,
        lock::LockSeat,
        memory::ProcessMemory,
    },
};
use live::interpreters::interpreters;
use live::privilege::may_use_uprobes;

/// Half of all pairs, and nearly all, are no further apart than that. The rest has lost its CPU between the two hooks.
const USUAL_DISTANCE: u64 = 20_000;
const ALLOWED_BEYOND: f64 = 0.02;

/// How far a thread's time inside may differ between the books kept from either source, as a share of the window, besides the
/// time that threads were without a CPU between the two hooks.
const ALLOWED_INSIDE: f64 = 0.01;

/// What both sources told of one run.
struct Twice {
    preload: Vec<Event>,
    uprobe: Vec<Event>,
}

/// A lock step of a thread, and when.
type Step = (LockId, Tid, LockStep, MonoNanos);

#[test]
fn both_sources_tell_the_same_story() {
    if !may_use_uprobes() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("load.py");
    fs::write(&script, PYTHON_LOAD).unwrap();
    let toy = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/toy/demo.toy");
    let vm: Vec<OsString> = vec![env!("CARGO_BIN_EXE_gilscope").into(), "toyvm".into(), toy.into()];
    let mut cases = vec![("the toy VM".to_owned(), vm)];
    for interpreter in interpreters() {
        let mut words = interpreter.words.clone();
        words.push(interpreter.give(folder.path(), &script).into());
        cases.push((interpreter.name, words));
    }
    for (name, words) in cases {
        compare(&name, &observe(&words));
    }
}

/// Threads that compute, sleep, and pass things on.
const PYTHON_LOAD: &str = "
import queue, threading, time
def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end: pass
def nap():
    for _ in range(60): time.sleep(0.003)
def pass_on(source, to):
    for _ in range(300): to.put(source.get())
here, there = queue.Queue(), queue.Queue()
work = [(spin, (0.15,)), (spin, (0.15,)), (nap, ()), (pass_on, (here, there)), (pass_on, (there, here))]
threads = [threading.Thread(target=target, args=args) for target, args in work]
for thread in threads: thread.start()
here.put(1)
for thread in threads: thread.join()
";

/// Runs a program with the probe loaded and uprobes armed.
fn observe(words: &[OsString]) -> Twice {
    let prepared = Prepared::new().unwrap();
    let program = Program {
        executable: words[0].clone(),
        arguments: words[1..].to_vec(),
        environment: prepared.environment(None),
        inherit: prepared.inherited_fds().iter().map(AsRawFd::as_raw_fd).collect(),
        ignore: Vec::new(),
    };
    let suspended = program.suspended().unwrap();
    let (pid, translator) = (suspended.pid(), translator());
    let mut uprobe = arm(&suspended.pid(), &translator);
    let child = suspended.start().unwrap();
    let target = await_target(&prepared, &child);
    if CondLibrary::of_self().unwrap().is_mapped_by(pid) == Some(false) {
        uprobe.add_sites(&CondLibrary::of_process(pid).unwrap().sites).unwrap();
    }
    translator.borrow_mut().find_with(Box::new(Locks::of(&target)));
    let calls = Translator::new(Some(Box::new(Locks::of(&target))));
    let calls = RefCell::new(calls);
    let mut preload = prepared.into_source(pid, Box::new(move |call, out| calls.borrow_mut().translate(call, out)));
    drain(child, &mut preload, &mut uprobe)
}

fn translator() -> SharedTranslator {
    Rc::new(RefCell::new(Translator::new(None)))
}

fn arm(pid: &gilscope::model::ids::Pid, translator: &SharedTranslator) -> UprobeSource {
    let (calls, steps) = (Rc::clone(translator), Rc::clone(translator));
    let sweeper = Sweeper { program: env!("CARGO_BIN_EXE_gilscope").into(), arguments: vec!["__sweep".into()] };
    UprobeSource::arm(UprobeOptions {
        pid: *pid,
        scope: Scope::BeforeExec,
        sites: CondLibrary::of_self().unwrap().sites,
        events: &[],
        on_call: Box::new(move |call, out| calls.borrow_mut().translate(call, out)),
        on_step: Box::new(move |step, out| steps.borrow_mut().report_step(step, out)),
        sweeper,
        cost_per_event: None,
    })
    .unwrap()
}

fn await_target(prepared: &Prepared, child: &Launched) -> Target {
    for _ in 0..5_000 {
        if let Some(target) = prepared.claimed_by().and_then(|_| Target::discover(child.pid()).ok()) {
            return target;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("process {} has not become an interpreter", child.pid());
}

fn drain(mut child: Launched, preload: &mut dyn Source, uprobe: &mut dyn Source) -> Twice {
    let mut twice = Twice { preload: Vec::new(), uprobe: Vec::new() };
    while child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(5));
        preload.drain(clock::now(), &mut twice.preload);
        uprobe.drain(clock::now(), &mut twice.uprobe);
    }
    preload.finish(&mut twice.preload);
    uprobe.finish(&mut twice.uprobe);
    twice
}

struct Locks {
    target: Target,
    memory: ProcessMemory,
}

impl Locks {
    fn of(target: &Target) -> Self {
        Self { target: target.clone(), memory: ProcessMemory::open(target.pid).unwrap() }
    }
}

impl FindLocks for Locks {
    fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
        self.target.locks(&self.memory).ok()
    }
}

fn compare(name: &str, twice: &Twice) {
    for events in [&twice.preload, &twice.uprobe] {
        let lost = events.iter().filter(|event| matches!(event.what, What::LostLock(_) | What::LostSwitch(_))).count();
        assert_eq!(lost, 0, "{name}: events were lost");
    }
    let (first, second) = common(steps(&twice.preload), steps(&twice.uprobe));
    let story = |steps: &[Step]| steps.iter().map(|(lock, tid, step, _)| (*lock, *tid, *step)).collect::<Vec<_>>();
    let (told_first, told_second) = (by_thread(&story(&first)), by_thread(&story(&second)));
    assert_eq!(told_first, told_second, "{name}: a thread's own steps");
    assert_eq!(signals(&story(&first)), signals(&story(&second)), "{name}: the order of owners");
    let distances = distances(&first, &second);
    let (median, most) = (distances[distances.len() / 2], distances[distances.len() - 1]);
    let beyond = distances.iter().filter(|distance| **distance > USUAL_DISTANCE).count();
    let window = (first[0].3, first[first.len() - 1].3);
    let Differences { inside, state } = differences(twice, window);
    let without_cpu: u64 = distances.iter().filter(|distance| **distance > USUAL_DISTANCE).sum();
    let allowed_inside = ALLOWED_INSIDE + without_cpu as f64 / window.1.saturating_since(window.0).as_nanos() as f64;
    let [inside_percent, state_percent] = [inside, state].map(|share| share * 100.0);
    println!(
        "{name}: {} steps, uprobe later by {median} ns (median), {most} ns (most), {beyond} beyond; \
         inside {inside_percent:.3} %, a state {state_percent:.3} %",
        first.len()
    );
    assert!(inside < allowed_inside, "{name}: inside differs by {inside_percent} % of the window");
    assert!(first.len() > 500, "{name}: only {} steps in common", first.len());
    assert!(median < USUAL_DISTANCE, "{name}");
    assert!(beyond as f64 <= ALLOWED_BEYOND * first.len() as f64, "{name}: {beyond} pairs are far apart");
}

fn steps(events: &[Event]) -> Vec<Step> {
    let mut steps: Vec<Step> = events
        .iter()
        .filter_map(|event| match event.what {
            What::Lock(lock, step) => Some((lock, event.tid, step, event.at)),
            _ => None,
        })
        .collect();
    steps.sort_by_key(|step| step.3);
    steps
}

/// From the first step that both know to the last. Uprobes may have been armed after the program had begun, while threads were
/// anywhere, so that each thread's steps in the second stream are the last ones of those in the first.
fn common(first: Vec<Step>, second: Vec<Step>) -> (Vec<Step>, Vec<Step>) {
    let mut surplus = count_by_thread(&first);
    for (tid, count) in count_by_thread(&second) {
        let more = surplus.get_mut(&tid).expect("the probe knows every thread that a uprobe tells of");
        *more = more.checked_sub(count).expect("the probe comes before the uprobe and tells no less");
    }
    let armed = second[0].3;
    let mut is_shared = |step: &Step| {
        let more = surplus.get_mut(&step.1).expect("every thread was counted");
        let is_before = *more > 0;
        assert!(!is_before || step.3 <= armed, "the uprobe, armed before {armed:?}, has not told of {step:?}");
        *more -= usize::from(is_before);
        !is_before
    };
    (first.into_iter().filter(|step| is_shared(step)).collect(), second)
}

fn count_by_thread(steps: &[Step]) -> HashMap<Tid, usize> {
    let mut counts = HashMap::new();
    for (_, tid, ..) in steps {
        *counts.entry(*tid).or_default() += 1;
    }
    counts
}

/// Each thread's own steps are ordered by itself.
fn by_thread(story: &[(LockId, Tid, LockStep)]) -> HashMap<Tid, Vec<(LockId, LockStep)>> {
    let mut threads: HashMap<Tid, Vec<_>> = HashMap::new();
    for (lock, tid, step) in story {
        threads.entry(*tid).or_default().push((*lock, *step));
    }
    threads
}

/// Acquisitions and releases are ordered by the lock's mutex. Wants and yields of different threads are not: both hooks see
/// each of them, but may see two of them in either order.
fn signals(story: &[(LockId, Tid, LockStep)]) -> Vec<(LockId, Tid, LockStep)> {
    let is_signal = |step: &LockStep| matches!(step, LockStep::Acquired | LockStep::Released);
    story.iter().filter(|(_, _, step)| is_signal(step)).copied().collect()
}

/// How much later the uprobe was, pair by pair, in ascending order.
fn distances(first: &[Step], second: &[Step]) -> Vec<u64> {
    let mut theirs: HashMap<Tid, std::collections::VecDeque<MonoNanos>> = HashMap::new();
    for (_, tid, _, at) in second {
        theirs.entry(*tid).or_default().push_back(*at);
    }
    let mut pair =
        |(_, tid, _, at): &Step| theirs.get_mut(tid).and_then(|times| times.pop_front()).map(|other| (*at, other));
    let pairs: Vec<_> = first.iter().filter_map(&mut pair).collect();
    let early = pairs.iter().map(|(at, other)| at.saturating_since(*other).as_nanos()).max().unwrap_or(0);
    assert!(early < 1_000, "a uprobe came {early} ns before the probe that runs first");
    let mut distances: Vec<u64> = pairs.iter().map(|(at, other)| other.saturating_since(*at).as_nanos()).collect();
    distances.sort_unstable();
    distances
}

/// How far the books kept from either stream differ, as a share of the window.
struct Differences {
    /// In the time that a thread owned the lock.
    inside: f64,
    /// In one of its states. Those depend on whether a thread lost its CPU before one hook, between the two or after both:
    /// an event on the other side of a switch may tip the scales when latency is inferred (docs/method.md).
    state: f64,
}

fn differences(twice: &Twice, window: (MonoNanos, MonoNanos)) -> Differences {
    let scheduling = twice.uprobe.iter().filter(|event| !matches!(event.what, What::Lock(..)));
    let [first, second] = [&twice.preload, &twice.uprobe].map(|events| {
        let locks = events.iter().filter(|event| matches!(event.what, What::Lock(..)));
        books(scheduling.clone().chain(locks).cloned().collect(), window)
    });
    let mut differences = Differences { inside: 0.0, state: 0.0 };
    for (one, other) in first.threads.iter().zip(&second.threads) {
        assert_eq!(one.tid, other.tid);
        let share =
            |one: Nanos, other: Nanos| (one.as_seconds() - other.as_seconds()).abs() / first.window.as_seconds();
        let inside = [one, other].map(|thread| thread.states.class(StateClass::Inside));
        differences.inside = differences.inside.max(share(inside[0], inside[1]));
        for state in State::ALL {
            differences.state = differences.state.max(share(one.states.get(state), other.states.get(state)));
        }
    }
    differences
}

fn books(mut events: Vec<Event>, (start, end): (MonoNanos, MonoNanos)) -> Attribution {
    let giving_way = GivingWayLimits {
        computing: Nanos::from_nanos(100_000),
        step: Nanos::from_nanos(20_000),
        mutex_sleep: Nanos::from_millis(5),
    };
    let no_stack = StackTable::default().intern(&[Frame::marker("no stack")]);
    let mut ledger = Ledger::new(LedgerOptions { start, long_hold: Nanos::from_millis(10), giving_way, no_stack });
    ledger.declare_lock(LockId::from_index(0), "GIL", Some(0), LockStart::Unknown);
    events.sort_by_key(|event| event.at);
    events.iter().filter(|event| event.at <= end).for_each(|event| ledger.apply(event));
    let books = ledger.finish(end);
    assert_eq!(books.invariants_broken, Vec::<String>::new());
    books
}
