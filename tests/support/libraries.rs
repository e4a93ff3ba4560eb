//! Libraries built with this machine's compilers, and what `nm` says of them.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use super::outcome;

/// Runs a tool; `false`, and a word about it, where it is missing or fails.
pub fn run<I: AsRef<OsStr>>(program: &str, words: impl IntoIterator<Item = I>) -> bool {
    let mut command = Command::new(program);
    let done = command.args(words).status().is_ok_and(|status| status.success());
    if !done {
        outcome::skipped(&format!("{program} is absent or cannot do this: {command:?}"));
    }
    done
}

/// Builds `source` of `fixtures/native` in `folder`, with more `words` for the compiler.
pub fn build(source: &str, folder: &Path, words: &[&str]) -> Option<PathBuf> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/native").join(source);
    let to = folder.join(format!("lib{}.so", source.replace('.', "_")));
    let (program, usual): (_, &[&str]) = match from.extension().and_then(OsStr::to_str) {
        Some("c") => ("gcc", &["-O2", "-shared", "-fPIC"]),
        Some("cpp") => ("g++", &["-O2", "-shared", "-fPIC"]),
        _ => ("rustc", &["--edition", "2021", "--crate-type", "cdylib", "-O"]),
    };
    let words = usual.iter().chain(words).map(OsStr::new);
    run(program, words.chain([OsStr::new("-o"), to.as_os_str(), from.as_os_str()])).then_some(to)
}

/// Builds the C file `source` of `fixtures` as `name` in `folder`; the compiler must be there.
pub fn built(source: &str, folder: &Path, name: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(source);
    let to = folder.join(name);
    let gcc = Command::new("gcc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&to).arg(from).status();
    assert!(gcc.expect("gcc starts").success());
    to
}

/// A function as `nm` lists it.
#[derive(Debug, Clone)]
pub struct Listed {
    pub address: u64,
    pub size: u64,
    pub name: String,
}

/// All functions with a size.
pub fn listed(path: &Path, words: &[&str]) -> Vec<Listed> {
    let output =
        Command::new("nm").args(["-S", "--defined-only"]).args(words).arg(path).output().expect("nm lists symbols");
    let text = String::from_utf8(output.stdout).expect("nm prints text");
    let functions = text.lines().filter_map(|line| {
        let mut columns = line.splitn(4, ' ');
        let mut number = || u64::from_str_radix(columns.next()?, 16).ok();
        let (address, size) = (number()?, number()?);
        let code = matches!(columns.next()?, "t" | "T" | "w" | "W" | "i");
        code.then(|| Listed { address, size, name: columns.next().unwrap_or_default().to_owned() })
    });
    functions.collect()
}
