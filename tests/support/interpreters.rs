//! The interpreters of this machine: those of pyenv, the system's, and those of whole Linux systems unpacked into folders
//! that `GILSCOPE_TEST_ROOTS` names, separated by colons. No test looks for an interpreter anywhere else.
//!
//! Whatever is looked for and absent is told to `outcome`, which says so when the test program ends.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{outcome, running::Running};

/// The minor versions of CPython that gilscope knows.
const MINORS: std::ops::RangeInclusive<u8> = 8..=15;

/// Minor versions that lay out their frames in three different ways, the oldest and the newest among them.
const SPREAD: [u8; 3] = [8, 13, 15];

/// One CPython.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// Where it was found; for messages.
    pub name: String,
    /// The 12 of 3.12.
    pub minor: u8,
    /// The words that start it, without a script.
    pub words: Vec<OsString>,
    /// The system that it is started inside of by chroot; scripts must lie below it.
    pub root: Option<PathBuf>,
}

/// How an interpreter of another system is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Inside its system; needs root.
    Chroot,
    /// By its own dynamic loader, in ours.
    Loader,
}

/// Every CPython from 3.8 on, the newest of each minor version; those of other systems by chroot.
pub fn interpreters() -> Vec<Interpreter> {
    interpreters_by(&[Way::Chroot])
}

/// The same, those of other systems in each of these ways. Fails if there is none at all.
pub fn interpreters_by(ways: &[Way]) -> Vec<Interpreter> {
    let found = found_by(ways);
    found.iter().for_each(|interpreter| outcome::used(&interpreter.name));
    found
}

fn found_by(ways: &[Way]) -> Vec<Interpreter> {
    let of_others = all().iter().filter(|(way, _)| way.is_none_or(|way| ways.contains(&way)));
    let found: Vec<Interpreter> = of_others.map(|(_, interpreter)| interpreter.clone()).collect();
    assert!(!found.is_empty(), "no CPython from 3.8 on was found");
    found
}

/// For tests that take long with each: the usual one and those of `SPREAD`, or all where `GILSCOPE_TEST_INTERPRETERS` is
/// `all`.
pub fn some_interpreters() -> Vec<Interpreter> {
    if env::var_os("GILSCOPE_TEST_INTERPRETERS").is_some_and(|which| which == "all") {
        return interpreters();
    }
    let usual = usual();
    let is_taken = |other: &Interpreter| other.name == usual.name || SPREAD.contains(&other.minor);
    let (taken, left): (Vec<_>, Vec<_>) = found_by(&[Way::Chroot]).into_iter().partition(is_taken);
    taken.iter().for_each(|interpreter| outcome::used(&interpreter.name));
    for Interpreter { name, .. } in left {
        outcome::skipped(&format!("{name}, in tests that take long: GILSCOPE_TEST_INTERPRETERS=all takes it too"));
    }
    taken
}

/// The interpreter for tests that need only one: the system's, else the newest of pyenv.
pub fn usual() -> Interpreter {
    let mut ours = all().iter().filter(|(way, _)| way.is_none()).map(|(_, interpreter)| interpreter);
    let usual = ours.next_back().expect("a CPython of the system or of pyenv").clone();
    outcome::used(&usual.name);
    usual
}

/// The newest `prefix`.x of pyenv, as a folder; tells it is absent.
pub fn pyenv(prefix: &str) -> Option<PathBuf> {
    let home = env::var_os("PYENV_ROOT")
        .map_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".pyenv"), PathBuf::from);
    let patch = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix(prefix)?.strip_prefix('.')?.parse::<u32>().ok()
    };
    let versions = fs::read_dir(home.join("versions")).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = versions.filter(|path| patch(path).is_some()).max_by_key(patch);
    if newest.is_none() {
        outcome::skipped(&format!("Python {prefix} of pyenv is absent"));
    }
    newest
}

/// The free-threaded build named by the environment, or any below `/opt`.
pub fn free_threaded() -> Option<PathBuf> {
    let named = env::var_os("GILSCOPE_TEST_FREE_THREADED").map(PathBuf::from);
    let python = named.or_else(|| {
        let homes = fs::read_dir("/opt").ok()?.flatten().map(|entry| entry.path().join("bin"));
        let programs = homes.filter_map(|bin| fs::read_dir(bin).ok()).flat_map(|bin| bin.flatten());
        programs.map(|entry| entry.path()).find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("python3.") && name.ends_with('t')
        })
    });
    match &python {
        Some(python) => outcome::used(&python.display().to_string()),
        None => outcome::skipped("a free-threaded build is absent: GILSCOPE_TEST_FREE_THREADED is not set"),
    }
    python
}

/// Looked for once: this machine's own without a way, others' with one.
fn all() -> &'static [(Option<Way>, Interpreter)] {
    static ALL: OnceLock<Vec<(Option<Way>, Interpreter)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let of_pyenv = MINORS.filter_map(|minor| pyenv(&format!("3.{minor}"))).map(|home| home.join("bin/python3"));
        let ours = of_pyenv.chain([PathBuf::from("/usr/bin/python3")]).filter_map(|path| of_path(&path));
        let mut found: Vec<_> = ours.map(|interpreter| (None, interpreter)).collect();
        let roots = env::var_os("GILSCOPE_TEST_ROOTS").unwrap_or_default();
        if roots.is_empty() {
            outcome::skipped("interpreters of other systems: GILSCOPE_TEST_ROOTS is not set");
        }
        for root in env::split_paths(&roots).filter(|root| !root.as_os_str().is_empty()) {
            let here = MINORS.map(|minor| PathBuf::from(format!("usr/bin/python3.{minor}")));
            for inside in here.filter(|inside| root.join(inside).exists()) {
                found.extend([Way::Chroot, Way::Loader].into_iter().filter_map(|way| of_root(&root, &inside, way)));
            }
        }
        found
    })
}

fn of_path(path: &Path) -> Option<Interpreter> {
    answering(path.display().to_string(), vec![path.into()], None)
}

fn of_root(root: &Path, inside: &Path, way: Way) -> Option<(Option<Way>, Interpreter)> {
    let path = root.join(inside);
    if way == Way::Chroot && !root.join("proc/self").exists() {
        outcome::skipped(&format!("{} by chroot: /proc is not mounted in there", path.display()));
        return None;
    }
    let (name, words, root) = match way {
        Way::Chroot => {
            let words = vec!["chroot".into(), root.into(), Path::new("/").join(inside).into()];
            (format!("{} by chroot", path.display()), words, Some(root.to_owned()))
        }
        Way::Loader => {
            let libraries = root.join("usr/lib/x86_64-linux-gnu");
            let loader = root.join("lib64/ld-linux-x86-64.so.2");
            let words = vec![loader.into(), "--library-path".into(), libraries.into(), path.clone().into()];
            (format!("{} by its loader", path.display()), words, None)
        }
    };
    answering(name, words, root).map(|interpreter| (Some(way), interpreter))
}

/// The interpreter, if it runs and says a version that gilscope knows.
fn answering(name: String, words: Vec<OsString>, root: Option<PathBuf>) -> Option<Interpreter> {
    let mut command = Command::new(&words[0]);
    let output = command.args(&words[1..]).args(["-c", "import sys; print('%d %d' % sys.version_info[:2])"]).output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let minor = said.strip_prefix("3 ").and_then(|minor| minor.parse().ok()).filter(|minor| MINORS.contains(minor));
    if minor.is_none() {
        outcome::skipped(&format!("{name}: does not run here, or is no known Python"));
    }
    minor.map(|minor| Interpreter { name, minor, words, root })
}

impl Interpreter {
    /// The command that starts it, to be given its arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).env("PYTHONUTF8", "1").env("LC_ALL", "C.UTF-8");
        command
    }

    /// The command that runs a program given as text.
    pub fn command_of(&self, program: &str) -> Command {
        let mut command = self.command();
        command.args(["-u", "-c", program]);
        command
    }

    /// Starts a program given as text.
    pub fn start(&self, program: &str) -> Running {
        Running::start(self.command_of(program))
    }

    /// Starts a program from a file of its own.
    pub fn start_script(&self, program: &str) -> Running {
        let folder = self.root.as_deref().map_or_else(env::temp_dir, |root| root.join("tmp"));
        let file = tempfile::Builder::new().suffix(".py").tempfile_in(folder).expect("a temporary file");
        fs::write(&file, program).expect("the file is writable");
        let inside = self.root.as_deref().and_then(|root| file.path().strip_prefix(root).ok());
        let script = inside.map_or_else(|| file.path().to_owned(), |inside| Path::new("/").join(inside));
        let mut command = self.command();
        command.arg(script);
        Running::start(command).keeping(file.into_temp_path())
    }

    /// Puts a copy of `file` where the interpreter can see it, and returns its path as the interpreter sees it.
    pub fn give(&self, folder: &Path, file: &Path) -> PathBuf {
        let Some(root) = &self.root else { return file.to_owned() };
        let inside = Path::new("tmp").join(folder.file_name().expect("a folder has a name"));
        fs::create_dir_all(root.join(&inside)).expect("the other system is writable");
        let inside = inside.join(file.file_name().expect("a file has a name"));
        fs::copy(file, root.join(&inside)).expect("the file can be copied");
        Path::new("/").join(inside)
    }
}
