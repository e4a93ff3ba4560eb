//! The scheduler and uprobe sources against the real kernel and a real interpreter.
//!
//! Where the kernel does not permit something, the test says so and passes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use gilscope::{
    model::{
        address::FileOffset,
        event::{Event, OffCpu, What},
        ids::{Pid, Tid},
        time::MonoNanos,
    },
    perf::{clock, error::PerfError},
    source::{
        Source,
        calls::Call,
        scheduler::{SchedulerSource, Scope},
        uprobe::{
            UprobeOptions, UprobeSource, Verdict,
            cost::measure_cost,
            error::UprobeError,
            sweep::{Sweeper, sweep_when_parent_ends},
            tracefs::Tracefs,
        },
    },
    target::site::{CondFunction, Register, Site, SiteMeaning},
};
use object::{Object, ObjectSymbol};

/// A Python program that is told to go on line by line.
#[derive(Debug)]
struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Program {
    fn start(text: &str) -> Self {
        let python = env::var("PYTHON").unwrap_or_else(|_| "/usr/bin/python3".into());
        let mut command = Command::new(python);
        command.args(["-u", "-c", text]);
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn numbers(&mut self) -> Vec<i64> {
        self.line().split_whitespace().map(|word| word.parse().unwrap()).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Drains until the program prints `word`, then ends the recording; events in order of time.
fn record_until(source: &mut dyn Source, program: &mut Program, word: &str) -> Vec<Event> {
    let (mut events, mut seen) = (Vec::new(), String::new());
    let mut watermark = MonoNanos::from_monotonic(0);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while {
                seen = program.line();
                seen != word && !seen.is_empty()
            } {}
        });
        while !reader.is_finished() {
            let now = clock::now();
            let next = source.drain(now, &mut events);
            assert!(next >= watermark && next <= now);
            watermark = next;
            thread::sleep(Duration::from_millis(5));
        }
    });
    source.finish(&mut events);
    events.sort_by_key(|event| event.at);
    events
}

/// Skips with a reason, or gives the value.
macro_rules! permitted {
    ($outcome:expr) => {
        match $outcome {
            Ok(value) => value,
            Err(why) => {
                println!("skipped: {why}");
                return;
            }
        }
    };
}

const COMPUTE_AND_SLEEP: &str = r"
import sys, threading, time, zlib
def schedstat(): return open('/proc/self/task/%d/schedstat' % threading.get_native_id()).read().split()[1]
def work(kind):
    gate.wait()
    before = (time.monotonic_ns(), time.thread_time_ns(), schedstat())
    end, data = time.monotonic() + 1.0, bytes(1 << 20)
    while time.monotonic() < end:
        if kind == 'sleep': time.sleep(0.002)
        elif kind == 'zlib': zlib.compress(data)
        else: sum(range(10000))
    rows.append((threading.get_native_id(), *before, time.monotonic_ns(), time.thread_time_ns(), schedstat()))
gate, rows = threading.Event(), []
threads = [threading.Thread(target=work, args=(k,)) for k in ('cpu', 'cpu', 'zlib', 'zlib', 'sleep')]
for t in threads: t.start()
print('ready'); sys.stdin.readline(); gate.set()
for t in threads: t.join()
print('done'); sys.stdin.readline()
for row in rows: print(*row)
";

/// Time on a CPU and time preempted between two moments.
fn on_and_off(events: &[Event], tid: Tid, from: u64, to: u64) -> (u64, u64) {
    let (mut running, mut preempted, mut since) = (0, 0, None::<(u64, bool)>);
    let clip = |at: u64| at.clamp(from, to);
    for event in events.iter().filter(|event| event.tid == tid) {
        let at = event.at.as_nanos();
        let next = match event.what {
            What::SwitchedIn => Some((at, true)),
            What::SwitchedOut(OffCpu::Preempted) => Some((at, false)),
            What::SwitchedOut(OffCpu::Blocked) => None,
            _ => continue,
        };
        if let Some((start, on)) = since {
            *(if on { &mut running } else { &mut preempted }) += clip(at) - clip(start);
        }
        since = next;
    }
    if let Some((start, true)) = since {
        running += to - clip(start);
    }
    (running, preempted)
}

#[test]
fn time_on_the_cpu_agrees_with_the_threads_own_clock() {
    let mut program = Program::start(COMPUTE_AND_SLEEP);
    assert_eq!(program.line(), "ready");
    let mut source = permitted!(SchedulerSource::open(program.pid(), Scope::Running));
    program.go();
    let events = record_until(&mut source, &mut program, "done");
    program.go();
    for _ in 0..5 {
        let row = program.numbers();
        let tid = Tid::from_raw(i32::try_from(row[0]).unwrap()).unwrap();
        let row: Vec<u64> = row.iter().map(|number| number.cast_unsigned()).collect();
        let (running, preempted) = on_and_off(&events, tid, row[1], row[4]);
        let (own, delay) = (row[5] - row[2], row[6] - row[3]);
        println!("{tid}: running {running} own clock {own}, preempted {preempted} run delay {delay}");
        // The clock also counts the switching itself, some microseconds each time.
        let switches = events.iter().filter(|event| event.tid == tid && event.what == What::SwitchedIn).count() as u64;
        assert!(running.abs_diff(own) <= own / 100 + 10_000 * switches, "{running} against {own}, {switches} switches");
        assert!(preempted <= delay + delay / 100 + 1_000_000, "{preempted} preempted of {delay}");
        let readings: Vec<_> = events.iter().filter(|event| event.tid == tid).collect();
        let readings: Vec<_> = readings.iter().filter(|event| matches!(event.what, What::RunDelay(_))).collect();
        assert!(readings.len() >= 2, "a baseline and at least one more");
    }
    assert!(!events.iter().any(|event| matches!(event.what, What::LostSwitch(_))));
}

#[test]
fn every_one_of_a_thousand_threads_is_created_named_and_ended() {
    let mut program = Program::start(
        r"
import os, sys, threading
print('ready'); sys.stdin.readline()
for batch in range(40):
    threads = [threading.Thread(target=lambda: None) for _ in range(25)]
    for t in threads: t.start()
    for t in threads: t.join()
# A joined thread has yet to end.
while len(os.listdir('/proc/self/task')) > 1: pass
print('done'); sys.stdin.readline()
",
    );
    program.line();
    let mut source = permitted!(SchedulerSource::open(program.pid(), Scope::Running));
    program.go();
    let events = record_until(&mut source, &mut program, "done");
    let count = |kind: fn(&What) -> bool| events.iter().filter(|event| kind(&event.what)).count();
    assert_eq!(count(|what| matches!(what, What::Created)), 1000);
    assert_eq!(count(|what| matches!(what, What::Exited)), 1000);
    assert!(count(|what| matches!(what, What::Named(_))) >= 1001);
}

#[test]
fn a_child_that_executes_a_program_gets_its_name() {
    // The shell waits before it becomes another program, as a launched child does.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read go; exec sleep 0.05"]);
    let mut program = Program::run(command);
    let mut source = permitted!(SchedulerSource::open(program.pid(), Scope::BeforeExec));
    program.go();
    program.child.wait().unwrap();
    let mut events = Vec::new();
    source.finish(&mut events);
    let names: Vec<_> = events.iter().filter(|event| matches!(event.what, What::Named(_))).collect();
    assert_eq!(names.len(), 1);
    assert_eq!((&names[0].what, Some(names[0].at)), (&What::Named("sleep".into()), source.executed()));
    assert_eq!(events.iter().filter(|event| event.what == What::Exited).count(), 1);
}

fn signal_site(pid: Pid) -> Site {
    libc_site(pid, "pthread_cond_signal", CondFunction::Signal)
}

/// The place of a function in the libc of `pid`.
fn libc_site(pid: Pid, name: &str, function: CondFunction) -> Site {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.contains("/libc.so") || line.contains("/libc-2")).unwrap();
    let file = PathBuf::from(&line[line.find('/').unwrap()..]);
    let bytes = fs::read(&file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let all = elf.dynamic_symbols().filter(|symbol| symbol.name() == Ok(name));
    // The default version is the one that differs from the oldest; in glibc 2.36 it is the higher address.
    let address = all.map(|symbol| symbol.address()).max().unwrap();
    let meaning = SiteMeaning::Libc(function);
    // In glibc the text segment's addresses equal its file offsets.
    Site { file, offset: FileOffset::from_start(address), meaning, argument: Register::FIRST_ARGUMENT }
}

/// The sweeper for tests: this test program, running [`sweeper_entry`] alone.
fn sweeper() -> Sweeper {
    let arguments = ["--exact", "sweeper_entry"].map(Into::into).to_vec();
    Sweeper { program: env::current_exe().unwrap(), arguments }
}

#[test]
fn sweeper_entry() {
    let group = env::args().next_back().unwrap();
    if group.starts_with("gilscope_") {
        sweep_when_parent_ends(&group).unwrap();
    }
}

type Calls = Arc<Mutex<Vec<Call>>>;

fn options(pid: Pid, sites: Vec<Site>, calls: &Calls) -> UprobeOptions {
    let calls = Arc::clone(calls);
    UprobeOptions {
        pid,
        scope: Scope::Running,
        sites,
        on_call: Box::new(move |call, _| {
            calls.lock().unwrap().push(call);
            Verdict::Used
        }),
        on_step: Box::new(|_, _, _, _, _| Verdict::Unmatched),
        sweeper: sweeper(),
        cost_per_event: None,
    }
}

/// Whether the kernel lists a probe of this group.
fn listed(group: &str) -> bool {
    let list = fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap();
    list.lines().any(|line| line.starts_with(&format!("p:{group}/")))
}

const SIGNALS: &str = r"
import ctypes, os, sys, threading
libc = ctypes.CDLL(None)
cond = ctypes.create_string_buffer(48)
at = ctypes.addressof(cond)
def work():
    for _ in range(COUNT): libc.pthread_cond_signal(ctypes.c_void_p(at))
print(at); sys.stdin.readline()
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
while len(os.listdir('/proc/self/task')) > 1: pass
print('done'); sys.stdin.readline()
";

#[test]
fn every_signal_of_every_new_thread_is_a_hit() {
    // Each call makes two signals of the interpreter's lock, too: all of them fit into the rings at once.
    const COUNT: usize = 5000;
    permitted!(Tracefs::find());
    let mut program = Program::start(&SIGNALS.replace("COUNT", &COUNT.to_string()));
    let at = program.numbers()[0].cast_unsigned();
    let calls = Calls::default();
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
    let mut program = Program::start(&SIGNALS.replace("COUNT", &COUNT.to_string()));
    let at = program.numbers()[0].cast_unsigned();
    let calls = Calls::default();
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
    let mut program = Program::start(
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
    let mut program = Program::start(&SIGNALS.replace("COUNT", &COUNT.to_string()));
    let at = program.numbers()[0].cast_unsigned();
    let calls = Calls::default();
    let mut source = UprobeSource::arm(options(program.pid(), Vec::new(), &calls)).unwrap();
    source.add_sites(&[signal_site(program.pid())]).unwrap();
    program.go();
    record_until(&mut source, &mut program, "done");
    let hits = calls.lock().unwrap().iter().filter(|call| call.cond.raw() == at).count();
    assert_eq!(hits, 4 * COUNT);
}

/// Threads are born all the time while events are opened on those that exist: none may be missed or counted twice.
#[test]
fn a_thread_born_while_we_arm_is_counted_once() {
    permitted!(Tracefs::find());
    let mut program = Program::start(
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

#[test]
fn nothing_remains_in_the_kernel_after_an_ordinary_end() {
    permitted!(Tracefs::find());
    let mut program = Program::start("import sys; print('ready'); sys.stdin.readline()");
    program.line();
    let site = signal_site(program.pid());
    let mut source = UprobeSource::arm(options(program.pid(), vec![site], &Calls::default())).unwrap();
    let group = source.probe_group().to_owned();
    assert!(listed(&group));
    source.finish(&mut Vec::new());
    assert!(!listed(&group));
    // Finishing a second time, by dropping, finds nothing to do.
    drop(source);
    program.go();
    assert!(program.child.wait().unwrap().success());
}

/// A program that becomes another one, whose child process must not be taken for it.
fn follow_through_exec(exec: &str) -> Vec<Event> {
    let fork = "if os.fork() == 0: work(); os._exit(0)\nos.wait(); print('done')";
    let text = SIGNALS.replace("COUNT", "300").replace("print('done')", fork);
    let first = format!(
        "import os, sys, threading; become = lambda: os.execv(sys.executable, [sys.executable, '-u', '-c', {text:?}])\n\
         {exec}"
    );
    let mut program = Program::start(&first);
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
fn places_that_cannot_be_probed_are_named() {
    permitted!(Tracefs::find());
    let pid = Pid::from_raw(std::process::id().cast_signed()).unwrap();
    let libc = signal_site(pid);
    let place = |file: &str, offset| Site { file: file.into(), offset: FileOffset::from_start(offset), ..libc.clone() };
    let refusal = |site: Site| UprobeSource::arm(options(pid, vec![site], &Calls::default())).unwrap_err();
    assert!(matches!(refusal(place("/proc/self/maps", 0)), UprobeError::NotProbeable { .. }));
    let beyond = refusal(place(libc.file.to_str().unwrap(), 1 << 40));
    assert!(matches!(&beyond, UprobeError::NotProbeable { offset: 0x100_0000_0000, .. }), "{beyond:?}");
    assert!(matches!(refusal(place("/", 0)), UprobeError::DefinitionRefused { .. }));
    assert!(matches!(refusal(place("/nonexistent", 0)), UprobeError::SiteMissing { .. }));
}

#[test]
fn a_process_of_another_user_is_refused_in_words() {
    let init = Pid::from_raw(1).unwrap();
    match SchedulerSource::open(init, Scope::Running) {
        Ok(_) => println!("skipped: this user may watch every process"),
        Err(why) => {
            assert!(matches!(why, PerfError::NotPermitted { paranoid: Some(_), .. }), "{why:?}");
            println!("{why}; {:?}", why.remedy());
        }
    }
}

#[test]
fn observer_entry() {
    let Ok(pid) = env::var("OBSERVE") else { return };
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    let source = UprobeSource::arm(options(pid, vec![signal_site(pid)], &Calls::default())).unwrap();
    fs::write(env::var("ARMED").unwrap(), "").unwrap();
    thread::sleep(Duration::from_secs(60));
    drop(source);
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_killed_observer_leaves_nothing_behind_and_the_target_unharmed() {
    permitted!(Tracefs::find());
    let mut program = Program::start(&SIGNALS.replace("COUNT", "1000"));
    program.line();
    let folder = tempfile::tempdir().unwrap();
    let armed = folder.path().join("armed");
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "observer_entry"]).env("ARMED", &armed).env("OBSERVE", program.pid().to_string());
    let mut observer = command.stdout(Stdio::null()).spawn().unwrap();
    wait_for("the observer is armed", || armed.exists());
    let group = format!("gilscope_{}", observer.id());
    assert!(listed(&group));
    observer.kill().unwrap();
    observer.wait().unwrap();
    wait_for("the probes are gone", || !listed(&group));
    program.go();
    assert_eq!(program.line(), "done");
    program.go();
    assert!(program.child.wait().unwrap().success());
}

#[test]
fn the_cost_of_a_hit_is_measured_on_ourselves() {
    permitted!(Tracefs::find());
    let cost = measure_cost(&sweeper()).unwrap();
    println!("a hit costs {cost}");
    assert!(cost.as_nanos() > 20, "a trap into the kernel cannot be cheaper");
}
