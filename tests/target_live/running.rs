//! Interpreters to look at: where this machine has them, and how they are started and ended.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use gilscope::model::ids::Pid;

/// Prints its version, starts three threads that sleep, says so, and then computes inside one C call after another.
pub const THREADS: &str = "
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
pub struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(interpreter: &Interpreter, program: &str) -> Self {
        let mut command = Command::new(&interpreter.words[0]);
        command.args(&interpreter.words[1..]).args(["-c", program]).env("LC_ALL", "C");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn pid(&self) -> Pid {
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
pub struct Interpreter {
    /// The program and its first arguments.
    pub words: Vec<String>,
}

impl Interpreter {
    /// Whether it can make sub-interpreters with a lock of their own.
    pub fn has_sub_interpreters(&self) -> bool {
        ["3.12", "3.13", "3.14", "3.15"].iter().any(|version| self.words.iter().any(|word| word.contains(version)))
    }
}

pub fn pyenv_versions() -> PathBuf {
    PathBuf::from(std::env::var("HOME").unwrap_or_default()).join(".pyenv/versions")
}

/// The interpreters found here; `GILSCOPE_TEST_ROOT` may name another root directory with newer ones in it.
pub fn interpreters() -> Vec<Interpreter> {
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
    let Some(root) = std::env::var_os("GILSCOPE_TEST_ROOT").map(PathBuf::from) else {
        eprintln!("skipped: no other root directory given in GILSCOPE_TEST_ROOT");
        return found;
    };
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

pub fn newest(versions: &Path, minor: u8) -> Option<PathBuf> {
    let prefix = format!("3.{minor}.");
    let mut names: Vec<_> =
        std::fs::read_dir(versions).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with(&prefix));
    names.sort();
    Some(versions.join(names.pop()?).join("bin/python3"))
}
