//! Discovery against real interpreters: every CPython found on this machine is started, described and compared with
//! what it says about itself. Interpreters that are absent are printed and skipped.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and reports what it skips")]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

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
        sighting::SeenThread,
    },
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

/// An interpreter that runs and has said that it is ready. Dropping it ends it.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(interpreter: &Interpreter, program: &str) -> Self {
        let mut command = Command::new(&interpreter.words[0]);
        command.args(&interpreter.words[1..]).args(["-c", program]).env("LC_ALL", "C");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// How to start one interpreter.
#[derive(Debug)]
struct Interpreter {
    words: Vec<String>,
}

/// A second root directory with newer interpreters in it; `GILSCOPE_TEST_ROOT` names another.
fn second_root() -> PathBuf {
    std::env::var_os("GILSCOPE_TEST_ROOT").map_or_else(|| PathBuf::from("/opt/sid/fs"), PathBuf::from)
}

fn interpreters() -> Vec<Interpreter> {
    let mut found = Vec::new();
    let mut add = |present: &Path, words: &[&str]| {
        if present.exists() {
            found.push(Interpreter { words: words.iter().map(ToString::to_string).collect() });
        } else {
            eprintln!("skipped: {} is absent", present.display());
        }
    };
    let home = std::env::var("HOME").unwrap_or_default();
    let versions = PathBuf::from(home).join(".pyenv/versions");
    for minor in 8..=13 {
        match newest(&versions, minor) {
            Some(path) => add(&path, &[path.to_str().unwrap()]),
            None => eprintln!("skipped: no Python 3.{minor} in {}", versions.display()),
        }
    }
    add(Path::new("/usr/bin/python3"), &["/usr/bin/python3"]);
    let root = second_root();
    let inside = root.to_str().unwrap();
    for minor in [14, 15] {
        let python = format!("/usr/bin/python3.{minor}");
        let present = root.join(&python[1..]);
        add(&present, &["chroot", inside, &python]);
        let (loader, libraries) =
            (format!("{inside}/lib64/ld-linux-x86-64.so.2"), format!("{inside}/usr/lib/x86_64-linux-gnu"));
        add(&present, &[&loader, "--library-path", &libraries, present.to_str().unwrap()]);
    }
    found
}

fn newest(versions: &Path, minor: u8) -> Option<PathBuf> {
    let prefix = format!("3.{minor}.");
    let mut names: Vec<_> =
        std::fs::read_dir(versions).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with(&prefix));
    names.sort();
    Some(versions.join(names.pop()?).join("bin/python3"))
}

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
    let interpreters = interpreters();
    for interpreter in &interpreters {
        let mut running = Running::start(interpreter, THREADS);
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

        assert_eq!(target.sites().unwrap().len(), 3, "{version}");
        eprintln!("{version}: 1 lock, {} threads", tids.len());
    }
    eprintln!("{} interpreters described", interpreters.len());
}
