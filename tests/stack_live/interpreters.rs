//! The interpreters of this machine, and programs run with them.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use gilscope::model::ids::Pid;

/// Names directories with whole Linux systems in them, separated by colons; their interpreters are run by chroot.
const ROOTS: &str = "GILSCOPE_TEST_ROOTS";

/// One interpreter.
pub struct Interpreter {
    root: Option<PathBuf>,
    path: PathBuf,
}

/// A running program, ended when dropped.
pub struct Program {
    child: Child,
    /// The first line that it printed.
    pub announcement: String,
}

/// All CPythons from 3.8 on that pyenv, the system and `GILSCOPE_TEST_ROOTS` have.
pub fn interpreters() -> Vec<Interpreter> {
    let mut found = Vec::new();
    let pyenv = PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".pyenv/versions");
    for version in children(&pyenv) {
        let path = version.join("bin/python3");
        let name = version.file_name().unwrap().to_string_lossy().into_owned();
        if path.exists() && !["2.", "3.6", "3.7"].iter().any(|old| name.starts_with(old)) {
            found.push(Interpreter { root: None, path });
        }
    }
    if Path::new("/usr/bin/python3").exists() {
        found.push(Interpreter { root: None, path: "/usr/bin/python3".into() });
    }
    for root in env::var(ROOTS).unwrap_or_default().split(':').filter(|root| !root.is_empty()) {
        for path in children(&Path::new(root).join("usr/bin")) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.strip_prefix("python3.").is_some_and(|minor| minor.parse::<u8>().is_ok()) {
                found.push(Interpreter { root: Some(root.into()), path: Path::new("/usr/bin").join(name) });
            }
        }
    }
    if found.is_empty() {
        eprintln!("skipped: no interpreter found");
    }
    found
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

impl Interpreter {
    /// How the interpreter is called in messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Starts the program and waits for its first line.
    pub fn start(&self, source: &str) -> Program {
        let directory = self.root.as_deref().map_or_else(env::temp_dir, |root| root.join("tmp"));
        let file = tempfile::Builder::new().suffix(".py").tempfile_in(directory).unwrap();
        fs::write(&file, source).unwrap();
        let mut command = match &self.root {
            None => {
                let mut command = Command::new(&self.path);
                command.arg(file.path());
                command
            }
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg(&self.path).arg(Path::new("/").join(file.path().strip_prefix(root).unwrap()));
                command
            }
        };
        let mut child = command
            .env("PYTHONUTF8", "1")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut announcement = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut announcement).unwrap();
        Program { child, announcement }
    }
}

impl Program {
    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
