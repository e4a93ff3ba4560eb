//! What all sections share: the interpreter, how often and how long, and a folder for scripts and what they print.

use std::{env, fs, path::PathBuf, process::Command, str::FromStr, thread::available_parallelism};

/// How everything is measured.
#[derive(Debug)]
pub struct Bench {
    /// The interpreter.
    pub python: String,
    /// The other profiler.
    pub py_spy: String,
    /// Whether it starts.
    pub has_py_spy: bool,
    /// How often everything is measured.
    pub rounds: usize,
    /// Seconds for which work is counted.
    pub window: f64,
    folder: tempfile::TempDir,
}

impl Bench {
    /// As the environment says.
    pub fn new() -> Self {
        let py_spy = variable("PY_SPY", "py-spy".to_owned());
        Self {
            python: variable("PYTHON", "python3".to_owned()),
            has_py_spy: version(&py_spy).is_some(),
            py_spy,
            rounds: variable("ROUNDS", 3),
            window: variable("WINDOW", 0.6),
            folder: tempfile::tempdir().expect("the temporary folder is writable"),
        }
    }

    /// A file of ours.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a script.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).expect("the temporary folder is writable");
        path
    }

    /// What the interpreter and the other profiler call themselves.
    pub fn versions(&self) -> String {
        let python = version(&self.python).unwrap_or_else(|| panic!("{} does not start", self.python));
        format!("{python}, {}", version(&self.py_spy).as_deref().unwrap_or("no py-spy"))
    }

    /// CPUs that we may use.
    pub fn cpus(&self) -> usize {
        available_parallelism().map_or(1, usize::from)
    }
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn variable<T: FromStr>(name: &str, otherwise: T) -> T {
    let Ok(text) = env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} cannot be {text:?}"))
}
