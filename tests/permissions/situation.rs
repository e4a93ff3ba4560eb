//! The situations, and having a program observed in each of them.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cell::Cell,
    filter,
    live::{copied::copy_program, interpreters::usual, outcome},
};

const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];
const BOTH: [&str; 2] = ["--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon"];
const PATIENCE: Duration = Duration::from_secs(10);
/// On a busy machine a piece of work is now and then measured with what came between.
const ATTEMPTS: usize = 5;

/// Who looks at whose program, from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Situation {
    Root,
    PlainOwn,
    PlainOther,
    TwoRights,
    Container,
}

/// How gilscope meets the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    AttachOwn,
    AttachOther,
    Run,
}

impl Mode {
    pub const fn row(self) -> &'static str {
        match self {
            Self::AttachOwn | Self::AttachOther => "attach",
            Self::Run => "run",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::AttachOwn => "own",
            Self::AttachOther => "other",
            Self::Run => "run",
        }
    }
}

impl Situation {
    pub const ALL: [Self; 5] = [Self::Root, Self::PlainOwn, Self::PlainOther, Self::TwoRights, Self::Container];

    pub const fn words(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::PlainOwn => "plain user, own process",
            Self::PlainOther => "plain user, another's process",
            Self::TwoRights => "CAP_BPF and CAP_PERFMON, own process",
            Self::Container => "container without capabilities",
        }
    }

    pub const fn modes(self) -> &'static [Mode] {
        match self {
            Self::PlainOther => &[Mode::AttachOther],
            _ => &[Mode::AttachOwn, Mode::Run],
        }
    }

    /// The beginning of a command in this situation.
    fn command(self) -> Command {
        let mut command = Command::new("setpriv");
        match self {
            Self::Root => return Command::new("env"),
            Self::PlainOwn | Self::PlainOther => command.args(NOBODY),
            Self::TwoRights => command.args(NOBODY).args(BOTH),
            Self::Container => {
                command = Command::new("unshare");
                command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount", "--mount-proc"]);
                filter::refuse_perf_and_bpf(&mut command);
                command.args(["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
            }
        };
        command
    }
}

/// A rung as the doctor names it.
#[derive(Debug, Clone)]
pub struct Rung {
    pub name: String,
    pub attaches: bool,
}

impl Rung {
    pub fn fits(&self, mode: Mode) -> bool {
        self.attaches || mode == Mode::Run
    }
}

/// A folder that everybody may use, with all that is needed in it.
pub struct Stage {
    folder: TempDir,
    python: PathBuf,
}

impl Stage {
    pub fn new() -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap(), python: everybodys_python() };
        open(stage.folder.path());
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/permissions");
        for name in ["work.py", "situation.sh"] {
            fs::copy(fixtures.join(name), stage.folder.path().join(name)).unwrap();
        }
        copy_program(env!("CARGO_BIN_EXE_gilscope"), &stage.gilscope());
        stage
    }

    fn gilscope(&self) -> PathBuf {
        self.folder.path().join("gilscope")
    }

    /// Every rung there is.
    pub fn rungs(&self) -> Vec<Rung> {
        let output = Command::new(self.gilscope()).args(["doctor", "--json"]).output().unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rung = |rung: &Value| Rung {
            name: rung["rung"].as_str().unwrap().to_owned(),
            attaches: rung["attaches"].as_bool().unwrap(),
        };
        found["rungs"].as_array().unwrap().iter().map(rung).collect()
    }

    /// What came of observing by each of the rungs.
    pub fn observe(&self, situation: Situation, mode: Mode, rungs: &[&str]) -> Vec<Cell> {
        let mut cells = self.attempt(situation, mode, rungs);
        for _ in 1..ATTEMPTS {
            let noisy: Vec<usize> = (0..cells.len()).filter(|index| cells[*index].is_noisy()).collect();
            if noisy.is_empty() {
                break;
            }
            let again: Vec<&str> = noisy.iter().map(|index| rungs[*index]).collect();
            for (index, cell) in noisy.into_iter().zip(self.attempt(situation, mode, &again)) {
                cells[index] = cell;
            }
        }
        cells
    }

    fn attempt(&self, situation: Situation, mode: Mode, rungs: &[&str]) -> Vec<Cell> {
        let place = tempfile::tempdir_in(self.folder.path()).unwrap();
        open(place.path());
        let others: Vec<Child> = rungs.iter().filter_map(|rung| self.prepare(&place.path().join(rung), mode)).collect();
        let mut command = situation.command();
        command.arg("sh").arg(self.folder.path().join("situation.sh")).arg(place.path()).arg(self.gilscope());
        command.arg(&self.python).arg(mode.word()).arg(rungs.join(" ")).current_dir(place.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        for mut other in others {
            assert!(other.wait().unwrap().success());
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let doctor = fs::read(place.path().join("doctor.json")).unwrap();
        let doctor: Value =
            serde_json::from_slice(&doctor).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&doctor)));
        let cell = |rung: &&str| Cell::read(&place.path().join(rung), doctor_says(&doctor, rung));
        rungs.iter().map(cell).collect()
    }

    /// The folder of one rung; with `AttachOther`, also the program of another user, which is ours.
    fn prepare(&self, place: &Path, mode: Mode) -> Option<Child> {
        fs::create_dir(place).unwrap();
        open(place);
        if mode != Mode::AttachOther {
            return None;
        }
        let mut program = Command::new(&self.python);
        program.arg(self.folder.path().join("work.py")).arg(place);
        let truth = fs::File::create(place.join("truth")).unwrap();
        // In a group of its own it outlives nobody: it ends by itself once it may go on.
        let child = program.stdout(truth).stdin(Stdio::null()).process_group(0).spawn().unwrap();
        fs::write(place.join("pid"), child.id().to_string()).unwrap();
        let since = Instant::now();
        while !place.join("ready").exists() {
            assert!(since.elapsed() < PATIENCE, "the program does not start");
            sleep(Duration::from_millis(5));
        }
        Some(child)
    }
}

fn doctor_says(doctor: &Value, rung: &str) -> bool {
    let mut rungs = doctor["rungs"].as_array().unwrap().iter();
    rungs.find(|found| found["rung"] == rung).unwrap()["works"].as_bool().unwrap()
}

/// Everybody may write in it.
fn open(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
}

/// An interpreter that every user can run.
fn everybodys_python() -> PathBuf {
    let system = PathBuf::from("/usr/bin/python3");
    let runs = || {
        let mut nobody = Command::new("setpriv");
        nobody
            .args(NOBODY)
            .arg(&system)
            .args(["-c", "import threading"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if runs() {
        outcome::used("/usr/bin/python3");
        return system;
    }
    PathBuf::from(&usual().words[0])
}
