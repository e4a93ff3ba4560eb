//! Libraries made for a test, and a process that has one loaded.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use gilscope::{
    native::{
        object::Object,
        symbols::{Function, Symbols},
    },
    target::maps::MemoryMap,
};

use crate::live::{interpreters::usual, outcome, running::Running};

/// Loads a library, says so, and then lives in the folder that it is told, which may be the root as it is.
const LOADER: &str = "import ctypes, os, sys
ctypes.CDLL(sys.argv[1])
if sys.argv[2] != '/':
    os.chroot(sys.argv[2])
print('ready', flush=True)
sys.stdin.readline()";

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

/// A function as `nm` lists it.
#[derive(Debug, Clone)]
pub struct Listed {
    pub address: u64,
    pub size: u64,
    pub name: String,
}

/// All functions with a size.
pub fn listed(path: &Path, words: &[&str]) -> Vec<Listed> {
    let output = Command::new("nm").args(["-S", "--defined-only"]).args(words).arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let functions = text.lines().filter_map(|line| {
        let mut columns = line.splitn(4, ' ');
        let mut number = || u64::from_str_radix(columns.next()?, 16).ok();
        let (address, size) = (number()?, number()?);
        let code = matches!(columns.next()?, "t" | "T" | "w" | "W" | "i");
        code.then(|| Listed { address, size, name: columns.next().unwrap_or_default().to_owned() })
    });
    functions.collect()
}

/// A process with a library loaded.
#[derive(Debug)]
pub struct Loaded {
    _process: Running,
    pub object: Object,
    pub symbols: Symbols,
}

impl Loaded {
    pub fn library(path: &Path) -> Self {
        Self::in_root(path, Path::new("/"))
    }

    /// The process changes its root to `root` when it has loaded the library.
    pub fn in_root(path: &Path, root: &Path) -> Self {
        let interpreter = usual();
        let mut command = Command::new(&interpreter.words[0]);
        command.args(&interpreter.words[1..]).args(["-c", LOADER]).args([path, root]);
        let mut process = Running::start(command);
        assert_eq!(process.line(), "ready");
        let map = MemoryMap::read(process.pid()).unwrap();
        let name = path.file_name().unwrap().to_str();
        let mapping = map.files().into_iter().find(|mapping| Some(mapping.file_name()) == name).unwrap();
        let object = Object::open(process.pid(), &map, mapping).unwrap();
        let symbols = Symbols::of(&object, process.pid());
        Self { _process: process, object, symbols }
    }

    /// The name of the function with code of its own.
    pub fn name(&mut self, address: u64) -> Option<String> {
        self.symbols.at(address).pop().map(|function| function.name)
    }

    /// All that was inlined at any address of a function, and the function itself.
    pub fn all_within(&mut self, listed: &Listed) -> Vec<Function> {
        let mut all: Vec<Function> = Vec::new();
        for address in listed.address..listed.address + listed.size {
            let new = self.symbols.at(address).into_iter().filter(|function| !all.contains(function));
            let new: Vec<_> = new.collect();
            all.extend(new);
        }
        all
    }

    /// Every function from its first byte to its last has exactly its name, and the byte after it another or none.
    pub fn must_agree(&mut self, functions: &[Listed]) {
        for function in functions {
            let end = function.address + function.size;
            assert_eq!(self.name(function.address).as_deref(), Some(function.name.as_str()), "{function:?}");
            assert_eq!(self.name(end - 1).as_deref(), Some(function.name.as_str()), "{function:?}");
            assert_ne!(self.name(end).as_deref(), Some(function.name.as_str()), "{function:?}");
        }
    }
}
