//! The interpreters of this machine: those of pyenv, the system's, and those of whole Linux systems unpacked into folders
//! that `GILSCOPE_TEST_ROOTS` names, separated by colons. What is looked for and absent is printed.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// One CPython.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// Where it was found; for messages.
    pub name: String,
    /// The words that start it, without a script.
    pub words: Vec<OsString>,
    /// The system that it is started inside of by chroot; scripts must lie below it.
    pub root: Option<PathBuf>,
}

impl Interpreter {
    /// Puts a copy of `file` where the interpreter can see it, and returns its path as the interpreter sees it.
    pub fn give(&self, folder: &Path, file: &Path) -> PathBuf {
        let Some(root) = &self.root else { return file.to_owned() };
        let inside = Path::new("tmp").join(folder.file_name().expect("a folder has a name"));
        fs::create_dir_all(root.join(&inside)).expect("the other system is writable");
        let inside = inside.join(file.file_name().expect("a file has a name"));
        fs::copy(file, root.join(&inside)).expect("the file can be copied");
        Path::new("/").join(inside)
    }
}

/// Every CPython from 3.8 on, the newest of each minor version. Fails if there is none at all.
pub fn interpreters() -> Vec<Interpreter> {
    let mut found: Vec<Interpreter> = (8..=15).filter_map(of_pyenv).collect();
    found.extend(of_system("/usr/bin/python3"));
    let roots = env::var_os("GILSCOPE_TEST_ROOTS").unwrap_or_default();
    for root in env::split_paths(&roots).filter(|root| !root.as_os_str().is_empty()) {
        found.extend((8..=15).filter_map(|minor| of_root(&root, minor)));
    }
    if roots.is_empty() {
        println!("skipped: interpreters of other systems (GILSCOPE_TEST_ROOTS is not set)");
    }
    assert!(!found.is_empty(), "no CPython from 3.8 on was found");
    found
}

fn of_pyenv(minor: u8) -> Option<Interpreter> {
    let home = PathBuf::from(env::var_os("PYENV_ROOT").unwrap_or_else(|| {
        let mut home = env::var_os("HOME").unwrap_or_default();
        home.push("/.pyenv");
        home
    }));
    let prefix = format!("3.{minor}.");
    let versions = fs::read_dir(home.join("versions")).into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path().join("bin/python3"))
        .filter(|path| path.exists())
        .collect();
    versions.sort();
    match versions.pop() {
        Some(path) => Some(plain(&path)),
        None => {
            println!("skipped: no Python 3.{minor} under pyenv");
            None
        }
    }
}

fn of_system(path: &str) -> Option<Interpreter> {
    let path = Path::new(path);
    path.exists().then(|| plain(path))
}

fn plain(path: &Path) -> Interpreter {
    Interpreter { name: path.display().to_string(), words: vec![path.into()], root: None }
}

fn of_root(root: &Path, minor: u8) -> Option<Interpreter> {
    let inside = format!("/usr/bin/python3.{minor}");
    let name = root.join(&inside[1..]);
    let may_chroot = Command::new("chroot").arg(root).arg(&inside).arg("-V").output().is_ok_and(|o| o.status.success());
    if name.exists() && !may_chroot {
        println!("skipped: {} cannot be run by chroot", name.display());
    }
    may_chroot.then(|| Interpreter {
        name: name.display().to_string(),
        words: ["chroot".into(), root.into(), inside.into()].into(),
        root: Some(root.to_owned()),
    })
}
