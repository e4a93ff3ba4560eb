//! The checked-in object is what its source compiles to.

use std::{fs, path::Path, process::Command};

/// The compiler whose output is checked in; another one makes other instructions of the same source.
const COMPILER: &str = "clang version 14.";

#[test]
fn the_object_is_current() {
    let version = Command::new("clang").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version).into_owned();
    if !version.contains(COMPILER) || Command::new("llvm-strip").arg("--version").output().is_err() {
        println!("skipped: needs {COMPILER}x and llvm-strip, and has {:?}", version.lines().next());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let built = folder.path().join("built.o");
    let probes = Path::new(env!("CARGO_MANIFEST_DIR")).join("probes/bpf");
    assert!(Command::new(probes.join("build")).arg(&built).status().unwrap().success());
    let same = fs::read(built).unwrap() == fs::read(probes.join("gilscope.bpf.o")).unwrap();
    assert!(same, "gilscope.bpf.c has changed; run probes/bpf/build");
}
