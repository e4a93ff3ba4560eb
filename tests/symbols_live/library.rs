//! Libraries made for a test, and a process that has one loaded.

use std::{path::Path, process::Command};

use gilscope::{
    native::{
        object::Object,
        symbols::{Function, Symbols},
    },
    target::maps::MemoryMap,
};

pub use crate::live::libraries::{Listed, build, listed, run};
use crate::live::{interpreters::usual, running::Running};

/// Loads a library, says so, and then lives in the folder that it is told, which may be the root as it is.
const LOADER: &str = "import ctypes, os, sys
ctypes.CDLL(sys.argv[1])
if sys.argv[2] != '/':
    os.chroot(sys.argv[2])
print('ready', flush=True)
sys.stdin.readline()";

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
