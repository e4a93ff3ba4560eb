//! A script under gilscope, and its report.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::live::{copied::copy_program, interpreters::Interpreter, libraries::built};

/// Becomes somebody without any privilege.
const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

/// Who records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Ourselves,
    /// Somebody without any privilege.
    Nobody,
}

/// A folder that everybody may use, with gilscope and the twins' library in it.
pub struct Stage {
    folder: tempfile::TempDir,
    gilscope: PathBuf,
    pub library: PathBuf,
}

/// What came of a run.
pub struct Outcome {
    pub profile: Value,
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

impl Stage {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let gilscope = folder.path().join("gilscope");
        copy_program(env!("CARGO_BIN_EXE_gilscope"), &gilscope);
        let library = built("twins/twin.c", folder.path(), "libtwin.so");
        Self { folder, gilscope, library }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The words that run a script of this text.
    pub fn script(&self, interpreter: &Interpreter, text: &str) -> Vec<OsString> {
        let file = self.path("script.py");
        fs::write(&file, text).unwrap();
        self.file(interpreter, &file)
    }

    /// The words that run a script.
    pub fn file(&self, interpreter: &Interpreter, file: &Path) -> Vec<OsString> {
        let given = interpreter.give(self.folder.path(), file).into();
        interpreter.words.iter().cloned().chain([given]).collect()
    }

    /// Runs the words under gilscope.
    pub fn run(&self, who: Who, options: &[&str], words: &[OsString]) -> Outcome {
        let report = self.path("profile.json");
        // Another user could not write over it.
        let _absent = fs::remove_file(&report);
        let mut command = match who {
            Who::Ourselves => Command::new(&self.gilscope),
            Who::Nobody => {
                let mut nobody = Command::new("setpriv");
                nobody.args(NOBODY).arg(&self.gilscope);
                nobody
            }
        };
        command
            .args(["run", "-q", "--max-overhead", "none"])
            .args(options)
            .arg("-o")
            .arg(&report)
            .arg("--")
            .args(words);
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (stdout, stderr) = (text(stdout), text(stderr));
        let profile = fs::read(&report).unwrap_or_else(|why| panic!("no report: {why}: {stderr}"));
        Outcome { profile: serde_json::from_slice(&profile).unwrap(), stdout, stderr, code: status.code() }
    }
}

/// A file of `fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// All processes of a report, the root among them.
pub fn processes(profile: &Value) -> Vec<&Value> {
    let others = profile["processes"].as_array().unwrap();
    std::iter::once(profile).chain(others.iter().filter(|other| other["recorded"] == true)).collect()
}

/// Events of a process that fit no legal step.
pub fn unmatched(process: &Value) -> u64 {
    process["quality"]["unmatched_events"].as_u64().unwrap()
}

/// No broken invariant, nothing lost, nothing unmatched, in any process.
pub fn assert_all_sound(profile: &Value, case: &str) {
    for process in processes(profile) {
        crate::live::compare::assert_sound(process, case);
        assert_eq!(unmatched(process), 0, "{case}: pid {}: {}", process["target"]["pid"], process["quality"]);
    }
}
