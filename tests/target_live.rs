//! Discovery against real interpreters: every CPython found on this machine is started, described and compared with
//! what it says about itself. Interpreters that are absent are printed and skipped.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and reports what it skips")]

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use gilscope::{
    model::{
        address::ElfAddress,
        event::SeenRelation,
        ids::{LockId, Pid},
    },
    target::{
        discover::{DiscoverError, Target},
        dwarf::described_layout,
        elf::ElfImage,
        image::Image,
        lock::LockSeat,
        maps::MemoryMap,
        memory::{Memory, ProcessMemory},
        process,
        runtime::Runtime,
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

impl Interpreter {
    /// Whether it can make sub-interpreters with a lock of their own.
    fn has_sub_interpreters(&self) -> bool {
        ["3.12", "3.13", "3.14", "3.15"].iter().any(|version| self.words.iter().any(|word| word.contains(version)))
    }
}

fn pyenv_versions() -> PathBuf {
    PathBuf::from(std::env::var("HOME").unwrap_or_default()).join(".pyenv/versions")
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
    let versions = pyenv_versions();
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
        let Runtime::CPython(python) = &target.runtime else { panic!("{target:?}") };
        if python.layout.thread.native_thread_id.is_none() {
            // What libc publishes is what a search finds where libc does not.
            assert!(python.pthread_tid.is_some(), "{version}");
            assert_eq!(python.searched_pthread_tid(target.pid, &memory), python.pthread_tid, "{version}");
        }
        eprintln!("{version}: 1 lock, {} threads", tids.len());
    }
    eprintln!("{} interpreters described", interpreters.len());
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
    for interpreter in interpreters().iter().filter(|interpreter| interpreter.has_sub_interpreters()) {
        let mut running = Running::start(interpreter, SUB_INTERPRETERS);
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
        let mut running = Running::start(interpreter, CONTENDED);
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
fn old_versions_are_refused_by_name() {
    for version in ["2.7.18", "3.6.15", "3.7.16"] {
        let python = pyenv_versions().join(version).join("bin/python");
        if !python.exists() {
            eprintln!("skipped: {} is absent", python.display());
            continue;
        }
        let words = vec![python.to_str().unwrap().to_owned()];
        let mut running = Running::start(
            &Interpreter { words },
            "import sys, time; sys.stdout.write('ready\\n'); sys.stdout.flush(); time.sleep(60)",
        );
        assert_eq!(running.line(), "ready");
        let refusal = Target::discover(running.pid()).unwrap_err().to_string();
        let reason = format!("Python {version} is too old, 3.8 is the oldest supported version");
        assert_eq!(refusal, format!("cannot observe process {}: {reason}", running.pid()));
    }
}

#[test]
fn what_is_no_interpreter_is_named() {
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(sleeper.id()).unwrap()).unwrap();
    while process::executable(pid).unwrap().file_name().unwrap() != "sleep" {}
    let refusal = Target::discover(pid).unwrap_err();
    assert!(refusal.to_string().starts_with(&format!("process {pid} is sleep, not a Python interpreter")), "{refusal}");
    sleeper.kill().unwrap();
    while process::thread_state(pid, pid.main_thread()).unwrap() != 'Z' {}
    assert!(matches!(Target::discover(pid), Err(DiscoverError::Zombie(_))));
    sleeper.wait().unwrap();
    assert!(matches!(Target::discover(pid), Err(DiscoverError::NoSuchProcess(_))));
}

#[test]
fn kernel_threads_are_named() {
    let second = Pid::from_raw(2).unwrap();
    if process::thread_name(second, second.main_thread()).ok().as_deref() != Some("kthreadd") {
        eprintln!("skipped: process 2 is not kthreadd here");
        return;
    }
    assert!(matches!(Target::discover(second), Err(DiscoverError::KernelThread(_))));
}

fn own_pid() -> Pid {
    Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap()
}

/// Runs one of these tests as a user who may do nothing; `None`, having said so, when that user cannot be become.
fn as_nobody(test: &str) -> Option<Command> {
    if process::Status::of_process(own_pid()).unwrap().uid != 0 {
        eprintln!("skipped: not root, so there is no other user to become");
        return None;
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", test, "--ignored", "--nocapture"]).uid(65534).gid(65534);
    Some(command)
}

/// Run by the next test as another user.
#[test]
#[ignore = "needs a foreign process"]
fn refused_child() {
    let pid = Pid::from_raw(std::env::var("GILSCOPE_FOREIGN_PID").unwrap().parse().unwrap()).unwrap();
    eprintln!("{}", Target::discover(pid).unwrap_err());
}

#[test]
fn a_foreign_process_is_refused_with_its_owner() {
    let own = own_pid();
    let Some(mut command) = as_nobody("refused_child") else { return };
    let output = command.env("GILSCOPE_FOREIGN_PID", own.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let sentence = format!("process {own} belongs to root, and looking into it is not permitted");
    assert!(said.contains(&sentence), "{said}");
}

/// A layout read from debug information is the one that the version's file and the interpreter itself give.
#[test]
fn debug_information_describes_a_running_interpreter() {
    let Some(python) = newest(&pyenv_versions(), 13) else {
        eprintln!("skipped: no Python 3.13 in {}", pyenv_versions().display());
        return;
    };
    let copy = tempfile::tempdir().unwrap();
    let library = "libpython3.13.so.1.0";
    let original = python.parent().unwrap().parent().unwrap().join("lib").join(library);
    let (stripped, debug) = (copy.path().join(library), copy.path().join(".debug/split.debug"));
    std::fs::create_dir(copy.path().join(".debug")).unwrap();
    let link = format!("--add-gnu-debuglink={}", debug.display());
    for (option, more, to) in [("--only-keep-debug", None, &debug), ("--strip-all", Some(&link), &stripped)] {
        let objcopy = Command::new("objcopy").arg(option).args(more).arg(&original).arg(to).status();
        if !objcopy.is_ok_and(|status| status.success()) {
            eprintln!("skipped: objcopy cannot split {}", original.display());
            return;
        }
    }
    let words = ["env", &format!("LD_LIBRARY_PATH={}", copy.path().display()), python.to_str().unwrap()];
    let mut running = Running::start(&Interpreter { words: words.map(str::to_owned).to_vec() }, THREADS);
    let _version = running.line();
    assert_eq!(running.line(), "ready");

    let target = Target::discover(running.pid()).unwrap();
    let Runtime::CPython(python) = &target.runtime else { panic!("{target:?}") };
    let map = MemoryMap::read(target.pid).unwrap();
    let mapping = map.files().into_iter().find(|file| file.file_name() == library).unwrap();
    assert_eq!(mapping.path, stripped.to_str().unwrap());
    let image = Image::open(target.pid, &map, mapping).unwrap();
    assert_eq!(described_layout(target.pid, &image, python.version).as_ref(), Some(&python.layout));
    std::fs::remove_file(debug).unwrap();
    assert_eq!(described_layout(target.pid, &image, python.version), None);
}

#[test]
fn threads_in_a_pid_namespace_have_the_ids_of_the_observer() {
    for minor in [10, 13] {
        let Some(python) = newest(&pyenv_versions(), minor) else {
            eprintln!("skipped: no Python 3.{minor} in {}", pyenv_versions().display());
            continue;
        };
        let words = ["unshare", "--pid", "--fork", "--kill-child", python.to_str().unwrap()];
        let mut running = Running::start(&Interpreter { words: words.map(str::to_owned).to_vec() }, THREADS);
        if running.line().is_empty() {
            eprintln!("skipped: making a pid namespace is not permitted");
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
        assert_eq!(tids, process::threads(pid).unwrap().into_iter().collect(), "3.{minor}");
        sightings_with_holder(&target, &memory, &target.locks(&memory).unwrap());
    }
}

/// Run by the next test as another user, with no capability at all.
#[test]
#[ignore = "needs an interpreter"]
fn unprivileged_child() {
    let words = vec![std::env::var("GILSCOPE_PYTHON").unwrap()];
    let mut running = Running::start(&Interpreter { words }, THREADS);
    let version = running.line();
    assert_eq!(running.line(), "ready");
    let target = Target::discover(running.pid()).unwrap();
    let memory = ProcessMemory::open(target.pid).unwrap();
    assert_eq!(target.summary().runtime_version, version);
    assert_eq!(target.threads(&memory).unwrap().len(), 4);
    assert_eq!(target.sites().unwrap().len(), 3);
    assert!(target.sites().unwrap().iter().all(|site| site.file.is_file()));
}

#[test]
fn an_own_process_is_described_without_privileges() {
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        eprintln!("skipped: {} is absent", python.display());
        return;
    }
    let Some(mut command) = as_nobody("unprivileged_child") else { return };
    let output = command.env("GILSCOPE_PYTHON", python).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// A copy of a libpython with some bytes changed, and an interpreter that uses it.
struct Altered {
    folder: tempfile::TempDir,
    library: PathBuf,
    python: PathBuf,
}

/// Whether a copy keeps its debug information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DebugInformation {
    Kept,
    Stripped,
}

impl Altered {
    /// Changes 3.`minor`: at each symbol, so many bytes on, these bytes. `None`, having said so, when it is absent.
    fn copy(minor: u8, changes: &[(&str, u64, &[u8])], debug: DebugInformation) -> Option<Self> {
        let Some(python) = newest(&pyenv_versions(), minor) else {
            eprintln!("skipped: no Python 3.{minor} in {}", pyenv_versions().display());
            return None;
        };
        let name = format!("libpython3.{minor}.so.1.0");
        let original = python.parent().unwrap().parent().unwrap().join("lib").join(&name);
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join(name);
        let mut bytes = std::fs::read(&original).unwrap();
        let elf = ElfImage::new(&original, std::fs::File::open(&original).unwrap()).unwrap();
        for (symbol, more, change) in changes {
            let address = elf.symbol(symbol).unwrap().unwrap().address.raw() + more;
            let offset = elf.file_offset(ElfAddress::from_file(address)).unwrap().raw();
            let offset = usize::try_from(offset).unwrap();
            bytes[offset..offset + change.len()].copy_from_slice(change);
        }
        std::fs::write(&library, bytes).unwrap();
        if debug == DebugInformation::Stripped {
            let strip = Command::new("strip").arg("--strip-all").arg(&library).status();
            if !strip.is_ok_and(|status| status.success()) {
                eprintln!("skipped: strip cannot strip {}", library.display());
                return None;
            }
        }
        Some(Self { folder, library, python })
    }

    fn discover(&self) -> Result<Target, DiscoverError> {
        let path = format!("LD_LIBRARY_PATH={}", self.folder.path().display());
        let words = ["env", &path, self.python.to_str().unwrap()].map(str::to_owned).to_vec();
        let mut running = Running::start(&Interpreter { words }, THREADS);
        let _version = running.line();
        assert_eq!(running.line(), "ready", "{}", self.library.display());
        let target = Target::discover(running.pid())?;
        let memory = ProcessMemory::open(target.pid).unwrap();
        assert_eq!(target.locks(&memory).unwrap().len(), 1);
        assert_eq!(target.threads(&memory).unwrap().len(), 4);
        Ok(target)
    }

    fn refusal(&self) -> String {
        self.discover().unwrap_err().to_string()
    }
}

#[test]
fn a_version_without_a_file_is_learnt_from_its_debug_information() {
    let hex = 0x0363_00f0_u32.to_le_bytes();
    let changes: [(&str, u64, &[u8]); 2] = [("Py_Version", 0, &hex), ("_PyRuntime", 8, &hex)];
    let Some(altered) = Altered::copy(13, &changes, DebugInformation::Kept) else { return };
    assert_eq!(altered.discover().unwrap().summary().runtime_version, "3.99.0");
    let Some(altered) = Altered::copy(13, &changes, DebugInformation::Stripped) else { return };
    let refusal = altered.refusal();
    let reason = "Python 3.99.0 is newer than this gilscope knows, and has no debug information to learn from";
    assert!(refusal.ends_with(reason), "{refusal}");
}

/// A 3.12 that calls itself 3.11 has everything elsewhere than 3.11 does.
#[test]
fn an_odd_build_is_learnt_from_its_debug_information() {
    let hex = 0x030b_00f0_u32.to_le_bytes();
    let Some(altered) = Altered::copy(12, &[("Py_Version", 0, &hex)], DebugInformation::Kept) else { return };
    let Runtime::CPython(python) = altered.discover().unwrap().runtime else { panic!("not CPython") };
    assert_eq!(python.layout.interpreter.lock, Some(384));
    let Some(altered) = Altered::copy(12, &[("Py_Version", 0, &hex)], DebugInformation::Stripped) else { return };
    let refusal = altered.refusal();
    assert!(refusal.contains("this build of Python 3.11.0 keeps its lock elsewhere"), "{refusal}");
}

#[test]
fn a_target_that_lies_about_its_offsets_is_refused() {
    let absurd = (2_u64 << 20).to_le_bytes();
    let lies: [(u64, &[u8], &str); 3] = [
        (0, b"xdebugpX", "lack their mark"),
        (40, &absurd, "place a field at 0x200000"),
        (136, &[0; 8], "describe a lock of unknown form"),
    ];
    for (position, bytes, complaint) in lies {
        let Some(altered) = Altered::copy(13, &[("_PyRuntime", position, bytes)], DebugInformation::Stripped) else {
            return;
        };
        let refusal = altered.refusal();
        assert!(refusal.contains(complaint), "{refusal}");
    }
}
