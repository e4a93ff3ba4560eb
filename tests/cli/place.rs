//! A folder in which gilscope is started, and what can be said about it when gilscope has ended.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::live::{
    copied::copy_program,
    interpreters::usual,
    outcome,
    privilege::{is_root, may_use_uprobes},
    running::Running,
};

/// Longer than any of these programs takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What two threads do, and then the program says `ready`, and `done` when they have ended.
macro_rules! two_threads {
    ($spin:literal) => {
        concat!(
            "import os, sys, threading, time\n",
            $spin,
            "
threads = [threading.Thread(target=spin) for _ in range(2)]
[t.start() for t in threads]
print('ready', flush=True)
[t.join() for t in threads]
print('done', flush=True)
sys.exit(int((sys.argv + ['0'])[2]))
"
        )
    };
}

/// Computes in two threads: `spin.py SECONDS [CODE]`.
pub const SPIN: &str = two_threads!(
    "end = time.monotonic() + float(sys.argv[1])
def spin():
    while time.monotonic() < end: sum(range(1000))"
);

/// The same, until a file is there: `until.py FILE [CODE]`.
pub const UNTIL: &str = two_threads!(
    "def spin():
    while not os.path.exists(sys.argv[1]): sum(range(1000000))"
);

/// Where a test works: a folder that everybody may write to, with a folder for temporary files.
pub struct Place {
    folder: TempDir,
}

/// How gilscope ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    /// What was said on standard error.
    pub said: String,
    pid: u32,
}

impl Place {
    /// With `spin.py` and `until.py` in it.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("place").tempdir().unwrap();
        let place = Self { folder };
        fs::create_dir(place.path("tmp")).unwrap();
        for open in [place.folder(), &place.path("tmp")] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
        }
        place.file("spin.py", SPIN);
        place.file("until.py", UNTIL);
        place
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn file(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// An interpreter that runs `until.py`, to be ended by the file `go`; it is ready.
    pub fn until_go(&self, interpreter: Command) -> Running {
        let mut command = interpreter;
        command.args(["-c", UNTIL]).arg(self.path("go")).arg("8");
        let mut running = Running::start(command);
        assert_eq!(running.line(), "ready");
        running
    }

    /// gilscope attached to `running`, recording into `p.json`, and what it says into `said`.
    pub fn attached(&self, running: &Running) -> Child {
        let mut gilscope = self.gilscope(&format!("attach -v -o p.json {}", running.pid()));
        let child = gilscope.stderr(File::create(self.path("said")).unwrap()).spawn().unwrap();
        wait_for("the recording", || self.read("said").contains("gilscope: recording process "));
        child
    }

    /// Lets `until.py` end.
    pub fn go(&self) {
        self.file("go", "");
    }

    /// The names of everything in it, temporary files included.
    pub fn names(&self) -> BTreeSet<String> {
        let names = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let all = names(self.folder()).chain(names(&self.path("tmp")));
        all.map(|name| name.into_string().unwrap()).collect()
    }

    /// `words`, separated by spaces, as the command line of gilscope.
    pub fn gilscope(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gilscope"));
        command.args(words.split(' '));
        self.prepared(command)
    }

    /// The same for a user without any rights.
    pub fn plain_gilscope(&self, words: &str) -> Option<Command> {
        // The folder of the build may be closed to others.
        let copy = self.path("tmp").join("gilscope");
        copy_program(env!("CARGO_BIN_EXE_gilscope"), &copy);
        let mut command = plain(&copy)?;
        command.args(words.split(' '));
        Some(self.prepared(command))
    }

    /// In this folder, with the usual interpreter as `python3`, and nothing on standard input.
    pub fn prepared(&self, mut command: Command) -> Command {
        let python = PathBuf::from(&usual().words[0]);
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::split_paths(&path).filter(|folder| !folder.ends_with("shims"));
        let path = env::join_paths([python.parent().unwrap().to_owned()].into_iter().chain(path)).unwrap();
        command.current_dir(self.folder()).env("PATH", path).env("TMPDIR", self.path("tmp"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs gilscope to its end with these words.
    pub fn end(&self, words: &str) -> Ended {
        end(&mut self.gilscope(words))
    }

    /// Whatever gilscope or its program may have left: processes and probes.
    pub fn assert_nothing_left(&self, gilscope: u32) {
        let folder = self.folder().to_str().unwrap().to_owned();
        let group = format!("gilscope_{gilscope}");
        let start = Instant::now();
        loop {
            let left = [processes_of(&folder, &group), probes_of(gilscope)].concat();
            if left.is_empty() {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "left behind: {left:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A program as a user without any rights starts it; `None`, having said so, when that user cannot be become.
pub fn plain(program: &Path) -> Option<Command> {
    if !is_root() {
        return Some(Command::new(program));
    }
    let words = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
    if !Command::new("setpriv").args(words).arg("true").status().is_ok_and(|status| status.success()) {
        outcome::skipped("a user without rights: setpriv does not work here");
        return None;
    }
    let mut command = Command::new("setpriv");
    command.args(words).arg("--").arg(program);
    Some(command)
}

/// The backends that can be used here.
pub fn backends() -> Vec<&'static str> {
    ["preload", "uprobe"].into_iter().filter(|backend| *backend == "preload" || may_use_uprobes()).collect()
}

/// Runs a command to its end.
pub fn end(command: &mut Command) -> Ended {
    end_of(command.spawn().unwrap())
}

/// Waits for the end of a process and of its output.
pub fn end_of(child: Child) -> Ended {
    let pid = child.id();
    let output = patiently(&format!("the end of process {pid}"), move || child.wait_with_output().unwrap());
    let Output { status, stdout, stderr } = output;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { status, out: text(&stdout), said: text(&stderr), pid }
}

/// What `work` gives, or a failure when it takes too long.
pub fn patiently<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    result.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

impl Ended {
    /// Ended with this code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "{}", self.said);
        self
    }

    /// Ended with this code and one sentence that contains `sentence`; all else it said are hints.
    #[track_caller]
    pub fn assert_refusal(&self, code: i32, sentence: &str) -> &Self {
        self.assert_code(code);
        let (errors, others): (Vec<_>, Vec<_>) =
            self.said.lines().partition(|line| line.starts_with("gilscope: error: "));
        assert_eq!(errors.len(), 1, "{}", self.said);
        assert!(errors[0].contains(sentence), "{sentence:?} is not in {}", self.said);
        let hints = others.iter().all(|line| line.starts_with("hint: "));
        assert!(hints && self.said.starts_with(errors[0]), "{}", self.said);
        self
    }

    #[track_caller]
    pub fn assert_said(&self, words: &str) -> &Self {
        assert!(self.said.contains(words), "{words:?} is not in {}", self.said);
        self
    }

    /// Nothing of it is left, and `place` has exactly `names` in it.
    #[track_caller]
    pub fn assert_left(&self, place: &Place, names: &BTreeSet<String>) {
        place.assert_nothing_left(self.pid);
        assert_eq!(&place.names(), names, "{}", self.said);
    }
}

/// Processes, other than this one and zombies, that work in `folder`, are named by it or serve `group`.
fn processes_of(folder: &str, group: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let ours = |process: &PathBuf| {
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let inside = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        (inside || words.contains(folder) || words.contains(group)).then(|| format!("{}: {words}", process.display()))
    };
    processes.filter_map(|process| ours(&process)).collect()
}

/// Probes of this gilscope that the kernel lists.
pub fn probes_of(gilscope: u32) -> Vec<String> {
    let group = format!("gilscope_{gilscope}");
    let list = fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap_or_default();
    let of_group = |line: &&str| {
        let listed = line.strip_prefix("p:").and_then(|rest| rest.split_once('/'));
        listed.is_some_and(|(listed, _)| listed == group || listed.starts_with(&format!("{group}_")))
    };
    let files = fs::read_dir(format!("/proc/{gilscope}/fd")).into_iter().flatten().flatten();
    let targets = files.filter_map(|file| fs::read_link(file.path()).ok()).map(|link| link.display().to_string());
    let links = targets.filter(|target| target.contains("bpf_link"));
    list.lines().filter(of_group).map(str::to_owned).chain(links).collect()
}

/// Sends a signal.
pub fn kill(signal: &str, pid: u32) {
    // Of the shell: there is not everywhere a program of that name.
    let status = Command::new("bash").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap();
    assert!(status.success(), "kill -{signal} {pid}");
}
