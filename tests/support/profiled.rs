//! Programs under gilscope with native frames, by each way there is, and the report.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

use super::{attached::attached_with, copied::copy_program, interpreters::Interpreter, outcome};

/// Samples a second.
pub const RATE: f64 = 1_000.0;
const OPTIONS: [&str; 3] = ["-n", "-r", "1000"];
/// Becomes somebody without any privilege.
const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

/// How gilscope meets the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It attaches to the running program.
    Attach,
    /// It launches the program.
    Run,
    /// It launches the program, and neither has any privilege.
    Plain,
}

/// A folder for programs and reports that everybody may use.
#[derive(Debug)]
pub struct Stage {
    folder: tempfile::TempDir,
    gilscope: PathBuf,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The report.
    pub profile: Value,
    /// The same stacks, folded.
    pub folded: String,
    /// What the program printed, as JSON.
    pub said: Value,
}

impl Stage {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("the folder is ours");
        let gilscope = folder.path().join("gilscope");
        copy_program(env!("CARGO_BIN_EXE_gilscope"), &gilscope);
        Self { folder, gilscope }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a script with its arguments, all in files that the interpreter is given, and then `words`. `None` where this way
    /// does not lead to this interpreter, which has been said.
    pub fn run(&self, way: Way, interpreter: &Interpreter, files: &[PathBuf], words: &[&str]) -> Option<Outcome> {
        let mut program = interpreter.command();
        program.args(files.iter().map(|file| interpreter.give(self.folder(), file))).args(words);
        let (report, folded) = (self.folder().join("profile.json"), self.folder().join("profile.folded"));
        for file in [&report, &folded] {
            // Of the run before; another user could not write over it.
            let _absent = fs::remove_file(file);
        }
        let said = match way {
            Way::Attach => self.attach(program, [&report, &folded]),
            Way::Run => self.launch(Command::new(&self.gilscope), &program, [&report, &folded]),
            Way::Plain => {
                if !may_be_nobody(&self.gilscope, interpreter) {
                    return None;
                }
                let mut nobody = Command::new("setpriv");
                nobody.args(NOBODY).arg(&self.gilscope);
                self.launch(nobody, &program, [&report, &folded])
            }
        };
        let profile = serde_json::from_slice(&fs::read(&report).expect("a report")).expect("the report is JSON");
        let said = serde_json::from_str(said.trim()).expect("the program prints JSON");
        Some(Outcome { profile, folded: fs::read_to_string(&folded).expect("a report"), said })
    }

    fn launch(&self, mut gilscope: Command, program: &Command, [report, folded]: [&PathBuf; 2]) -> String {
        gilscope
            .args(["run", "-q", "--max-overhead", "none"])
            .args(OPTIONS)
            .arg("-o")
            .arg(folded)
            .arg("--json")
            .arg(report)
            .arg("--");
        gilscope.arg(program.get_program()).args(program.get_args()).stdin(Stdio::null());
        let output = gilscope.env("LC_ALL", "C.UTF-8").output().expect("gilscope starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("the program prints text")
    }

    fn attach(&self, mut program: Command, [report, folded]: [&PathBuf; 2]) -> String {
        let mut program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the interpreter starts");
        // It must have begun before it can be found.
        sleep(Duration::from_millis(500));
        let report = report.to_str().expect("a path in UTF-8");
        let mut gilscope = attached_with(program.id(), folded, &[&OPTIONS[..], &["--json", report]].concat());
        writeln!(program.stdin.take().expect("it is piped")).expect("the program reads its standard input");
        let mut said = String::new();
        program.stdout.take().expect("it is piped").read_to_string(&mut said).expect("the program prints text");
        let ends = [program.wait(), gilscope.wait()].map(|end| end.is_ok_and(|status| status.success()));
        assert_eq!(ends, [true, true]);
        said
    }
}

/// Whether somebody without privileges can run both, and take samples.
fn may_be_nobody(gilscope: &Path, interpreter: &Interpreter) -> bool {
    if interpreter.root.is_some() {
        outcome::skipped(&format!("{} without privileges: chroot needs one", interpreter.name));
        return false;
    }
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    if paranoid.trim().parse().is_ok_and(|level: i32| level > 2) {
        outcome::skipped("sampling without privileges: perf_event_paranoid is above 2");
        return false;
    }
    let runs = |program: &Path, words: &[&str]| {
        let mut nobody = Command::new("setpriv");
        nobody.args(NOBODY).arg(program).args(words).stdout(Stdio::null()).stderr(Stdio::null());
        nobody.status().is_ok_and(|status| status.success())
    };
    let python = interpreter.words[0].to_str().expect("a path in UTF-8");
    let both = runs(gilscope, &["--version"]) && runs(Path::new("test"), &["-x", python]);
    if !both {
        outcome::skipped(&format!("{} without privileges: others than root cannot run it", interpreter.name));
    }
    both
}

impl Outcome {
    /// `holds_by_kind` as far as `is_wanted`, in nanoseconds.
    pub fn held(&self, is_wanted: impl Fn(&Value) -> bool) -> f64 {
        let kinds = self.profile["holds_by_kind"].as_array().expect("a list");
        kinds.iter().filter(|kind| is_wanted(kind)).map(|kind| kind["held_ns"].as_f64().expect("a number")).sum()
    }

    /// Time of the main thread in a state, in nanoseconds.
    pub fn of_main_thread(&self, state: &str) -> f64 {
        let mut threads = self.profile["threads"].as_array().expect("a list").iter();
        let main = threads.find(|thread| thread["tid"] == self.profile["target"]["pid"]);
        main.and_then(|main| main["states_ns"][state].as_f64()).expect("the main thread has been seen")
    }

    /// Stacks joined, those of them with native frames only at their inner end, and all, as the report notes it.
    pub fn joined(&self) -> Option<[f64; 3]> {
        let notes = self.profile["quality"]["notes"].as_array().expect("a list");
        let note =
            notes.iter().filter_map(Value::as_str).find(|note| note.contains("native frames were joined to "))?;
        let number = |behind: &str, before: &str| {
            let words = note.split(behind).nth(1).or(Some(note)).filter(|_| note.contains(before))?;
            words.split(before).next()?.rsplit([' ', ',', ':']).find(|word| !word.is_empty())?.parse::<f64>().ok()
        };
        let joined = number("joined to ", " of ")?;
        let all = number(" of ", " sampled stacks")?;
        Some([joined, number(", ", " with some only below").unwrap_or(0.0), all])
    }
}

/// Four times the standard deviation of what `part` of `whole` is sampled as, in nanoseconds.
pub fn sampling_error(part: f64, whole: f64) -> f64 {
    let share = (part / whole).clamp(0.0, 1.0);
    let samples = (whole / 1e9 * RATE).max(1.0);
    4.0 * whole * (share * (1.0 - share) / samples).sqrt()
}
