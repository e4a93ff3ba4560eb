//! A folder with the program, ways to start it in namespaces, and what its report must say.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

use crate::live::{copied::copy_program, interpreters::Interpreter, outcome, privilege::is_root};

/// New pid and mount namespaces, with their own `/proc`.
pub const APART: &str = "unshare -pf --mount-proc";

pub struct Stage {
    folder: tempfile::TempDir,
    pub gilscope: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub said: String,
}

impl Stage {
    /// `None`, said aloud, where namespaces cannot be made.
    pub fn new() -> Option<Self> {
        let may =
            Command::new("unshare").args(["-pf", "--mount-proc", "true"]).output().is_ok_and(|it| it.status.success());
        if !(is_root() && may) {
            outcome::skipped("namespaces: need root and unshare");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let gilscope = folder.path().join("gilscope");
        copy_program(env!("CARGO_BIN_EXE_gilscope"), &gilscope);
        for program in ["keeper.py", "newborn.py"] {
            fs::copy(fixture(program), folder.path().join(program)).unwrap();
        }
        fs::create_dir(folder.path().join("mnt")).unwrap();
        Some(Self { folder, gilscope })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command that runs in the folder; its words are separated by blanks, and `gilscope` is the program under test.
    pub fn command(&self, words: &str) -> Command {
        let mut words = words.split_whitespace().map(|word| match word {
            "gilscope" => self.gilscope.as_os_str(),
            word => word.as_ref(),
        });
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(self.folder.path()).env("FIXTURE", fixture("keeper.py"));
        command
    }

    /// Runs it to its end.
    pub fn end(&self, words: &str) -> Ended {
        let output = self.command(words).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { code: output.status.code(), out: text(&output.stdout), said: text(&output.stderr) }
    }

    pub fn profile(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }
}

/// The word that starts this interpreter.
pub fn word(python: &Interpreter) -> &str {
    python.words[0].to_str().unwrap()
}

/// A command line that turns new namespaces into a container with another root directory, where the program is `/keeper.py`.
pub fn container(stage: &Stage, proc: &str) -> String {
    format!("unshare -pfmn {} {} {proc}", fixture("container").display(), stage.path("mnt").display())
}

/// The process that `above` has started in a pid namespace, in our numbering.
pub fn started_by(above: u32) -> u32 {
    for _ in 0..500 {
        let children = fs::read_to_string(format!("/proc/{above}/task/{above}/children")).unwrap_or_default();
        if let Some(child) = children.split_whitespace().next() {
            return child.parse().unwrap();
        }
        sleep(Duration::from_millis(10));
    }
    panic!("{above} has started nobody");
}

/// The report has the program's own numbers of process and threads, and for each thread the time that it kept the lock asleep: never
/// less, and less than 60 ms more, by which they differ. Of the time asleep some may count as waiting for a CPU, which is inferred.
pub fn assert_kept(profile: &Value, said: &str) {
    let last = said.lines().last().unwrap_or_else(|| panic!("the program said nothing: {profile:#}"));
    let said: Value = serde_json::from_str(last).unwrap();
    assert_eq!(profile["target"]["inner_pid"], said["pid"], "{profile:#}");
    let threads = profile["threads"].as_array().unwrap();
    for (inner, kept) in said["kept"].as_object().unwrap() {
        let inner: i64 = inner.parse().unwrap();
        let thread = threads.iter().find(|thread| thread["inner_tid"] == inner).unwrap();
        let state = |name: &str| thread["states_ns"][name].as_f64().unwrap();
        let (kept, blocked) = (kept.as_f64().unwrap(), state("held_blocked"));
        let held = blocked + state("held_preempted") + state("held_running");
        let is_told = held >= kept && (0.9 * kept..kept + 50e6).contains(&blocked);
        assert!(is_told, "{inner} kept it for {kept}, and gilscope says {:#}", thread["states_ns"]);
    }
    let quality = &profile["quality"];
    for broken in ["lost_events", "unmatched_events"] {
        assert_eq!(quality[broken], 0, "{quality:#}");
    }
    assert_eq!(quality["invariants_broken"].as_array().unwrap().len(), 0, "{quality:#}");
}

/// Short threads have held the lock as well, and every one of them has lived under a number of its own.
pub fn assert_short_threads(profile: &Value) {
    let threads = profile["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 1 + 3 + 1 + 100);
    let idle: Vec<_> = threads.iter().filter(|thread| thread["holds"] == 0).collect();
    assert!(idle.is_empty(), "{idle:#?}");
}

pub fn has_note(profile: &Value, words: &str) -> bool {
    profile["quality"]["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains(words))
}

pub fn has_function(profile: &Value, name: &str) -> bool {
    profile["functions"].as_array().unwrap().iter().any(|function| function["function"] == name)
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/spaces").join(name)
}
