//! Copies of programs that are to be run.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::{ffi::OsStr, path::Path, process::Command};

/// Copies a program, by another process: one that writes the copy itself cannot run it for as long as any child, which another
/// test has just forked, still has the file open for writing ("text file busy").
pub fn copy_program(from: impl AsRef<OsStr>, to: &Path) {
    let copied = Command::new("cp").arg("--preserve=mode").arg(from).arg(to).status().expect("cp starts");
    assert!(copied.success(), "{} cannot be written", to.display());
}
