//! One run of a toy program under the profiler: its profile and its truth.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::live::{attached::attached_with, privilege::without_programs};

/// How the profiler meets the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    RunPreload,
    /// Probes on libc's calls.
    RunUprobe,
    /// The same without programs in the kernel.
    RunTracepoints,
    /// Probes on the toy VM's own trace points.
    AttachUsdt,
    /// Watchpoints on the lock's words.
    AttachWatchpoint,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::RunPreload, Self::RunUprobe, Self::AttachUsdt];

    /// Whether the recording begins in the pause before the first statement.
    pub fn attaches(self) -> bool {
        matches!(self, Self::AttachUsdt | Self::AttachWatchpoint)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::RunPreload => "preload",
            Self::RunUprobe => "uprobe",
            Self::RunTracepoints => "tracefs",
            Self::AttachUsdt => "usdt",
            Self::AttachWatchpoint => "watchpt",
        }
    }
}

/// What a run gave.
pub struct Profiled {
    pub profile: Value,
    pub truth: Value,
}

impl Profiled {
    pub fn run(program: &Path, way: Way) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (profile, truth) = (folder.path().join("profile.json"), folder.path().join("truth.json"));
        let mut vm = gilscope(&["toyvm"]);
        vm.arg(program).arg("--truth").arg(&truth);
        match way {
            Way::RunPreload => launch(gilscope(&[]), "preload", &vm, &profile),
            Way::RunUprobe => launch(gilscope(&[]), "uprobe", &vm, &profile),
            Way::RunTracepoints => {
                let mut without = without_programs();
                without.arg(env!("CARGO_BIN_EXE_gilscope"));
                launch(without, "uprobe", &vm, &profile);
            }
            Way::AttachUsdt => attach(vm.arg("--announce"), &profile, &[]),
            Way::AttachWatchpoint => attach(vm.arg("--announce"), &profile, &["--backend", "watchpoint"]),
        }
        let read = |path: &Path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        Self { profile: read(&profile), truth: read(&truth) }
    }
}

fn gilscope(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    command.args(words);
    command
}

fn launch(mut run: Command, backend: &str, vm: &Command, profile: &Path) {
    run.args(["run", "-q", "--max-overhead", "none", "--backend", backend, "-o"])
        .arg(profile)
        .arg("--")
        .arg(vm.get_program())
        .args(vm.get_args());
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Lets the program start once the profiler is armed.
fn attach(vm: &mut Command, profile: &Path, options: &[&str]) {
    let mut vm = vm.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(vm.stdout.take().unwrap());
    let mut announcement = String::new();
    stdout.read_line(&mut announcement).unwrap();
    let mut profiler = attached_with(vm.id(), profile, options);
    writeln!(vm.stdin.take().unwrap()).unwrap();
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    assert!(vm.wait().unwrap().success());
    assert!(profiler.wait().unwrap().success());
}
