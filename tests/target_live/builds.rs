//! Builds that are not as their version's file says: stripped, with debug information apart, of a version yet unknown,
//! or lying.

use std::{path::PathBuf, process::Command};

use gilscope::{
    model::address::ElfAddress,
    target::{
        discover::{DiscoverError, Target},
        dwarf::described_layout,
        elf::ElfImage,
        image::Image,
        maps::MemoryMap,
        memory::ProcessMemory,
        runtime::Runtime,
    },
};

use crate::{
    THREADS,
    live::{interpreters::pyenv, outcome, running::Running},
};

/// A layout read from debug information is the one that the version's file and the interpreter itself give.
#[test]
fn debug_information_describes_a_running_interpreter() {
    let Some(home) = pyenv("3.13") else { return };
    let copy = tempfile::tempdir().unwrap();
    let library = "libpython3.13.so.1.0";
    let original = home.join("lib").join(library);
    let (stripped, debug) = (copy.path().join(library), copy.path().join(".debug/split.debug"));
    std::fs::create_dir(copy.path().join(".debug")).unwrap();
    let link = format!("--add-gnu-debuglink={}", debug.display());
    for (option, more, to) in [("--only-keep-debug", None, &debug), ("--strip-all", Some(&link), &stripped)] {
        let objcopy = Command::new("objcopy").arg(option).args(more).arg(&original).arg(to).status();
        if !objcopy.is_ok_and(|status| status.success()) {
            outcome::skipped(&format!("objcopy cannot split {}", original.display()));
            return;
        }
    }
    let mut command = Command::new(home.join("bin/python3"));
    command.args(["-c", THREADS]).env("LD_LIBRARY_PATH", copy.path());
    let mut running = Running::start(command);
    let _version = running.line();
    assert_eq!(running.line(), "ready");

    let target = Target::discover(running.pid()).unwrap();
    let Runtime::CPython(python) = &target.runtime else { panic!("{target:?}") };
    let map = MemoryMap::read(target.pid).unwrap();
    let mapping = map.files().into_iter().find(|file| file.file_name() == library).unwrap();
    assert_eq!(mapping.path, stripped.to_str().unwrap());
    let image = Image::open(target.pid, &map, mapping).unwrap();
    let mut published = python.layout.clone();
    // How large these are is told by the running interpreter alone; nobody needs it of a build with the lock.
    (published.runtime.size, published.interpreter.size) = (None, None);
    assert_eq!(described_layout(target.pid, &image, python.version), Some(published));
    std::fs::remove_file(debug).unwrap();
    assert_eq!(described_layout(target.pid, &image, python.version), None);
}

/// A copy of a libpython with some bytes changed, and an interpreter that uses it.
struct Altered {
    folder: tempfile::TempDir,
    library: PathBuf,
    python: PathBuf,
}

/// Whether a copy keeps its debug information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DebugInformation {
    Kept,
    Stripped,
}

impl Altered {
    /// Changes 3.`minor`: at each symbol, so many bytes on, these bytes. `None`, having said so, when it is absent.
    fn copy(minor: u8, changes: &[(&str, u64, &[u8])], debug: DebugInformation) -> Option<Self> {
        let home = pyenv(&format!("3.{minor}"))?;
        let name = format!("libpython3.{minor}.so.1.0");
        let original = home.join("lib").join(&name);
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join(name);
        let mut bytes = std::fs::read(&original).unwrap();
        let elf = ElfImage::new(&original, std::fs::File::open(&original).unwrap()).unwrap();
        for (symbol, more, change) in changes {
            let address = elf.symbol(symbol).unwrap().unwrap().address.raw() + more;
            let offset = elf.file_offset(ElfAddress::from_file(address)).unwrap().raw();
            let offset = usize::try_from(offset).unwrap();
            bytes[offset..offset + change.len()].copy_from_slice(change);
        }
        std::fs::write(&library, bytes).unwrap();
        if debug == DebugInformation::Stripped {
            let strip = Command::new("strip").arg("--strip-all").arg(&library).status();
            if !strip.is_ok_and(|status| status.success()) {
                outcome::skipped(&format!("strip cannot strip {}", library.display()));
                return None;
            }
        }
        Some(Self { folder, library, python: home.join("bin/python3") })
    }

    fn discover(&self) -> Result<Target, DiscoverError> {
        let mut command = Command::new(&self.python);
        command.args(["-c", THREADS]).env("LD_LIBRARY_PATH", self.folder.path());
        let mut running = Running::start(command);
        let _version = running.line();
        assert_eq!(running.line(), "ready", "{}", self.library.display());
        let target = Target::discover(running.pid())?;
        let memory = ProcessMemory::open(target.pid).unwrap();
        assert_eq!(target.locks(&memory).unwrap().len(), 1);
        assert_eq!(target.threads(&memory).unwrap().len(), 4);
        Ok(target)
    }

    fn refusal(&self) -> String {
        self.discover().unwrap_err().to_string()
    }
}

#[test]
fn a_version_without_a_file_is_learnt_from_its_debug_information() {
    let hex = 0x0363_00f0_u32.to_le_bytes();
    let changes: [(&str, u64, &[u8]); 2] = [("Py_Version", 0, &hex), ("_PyRuntime", 8, &hex)];
    let Some(altered) = Altered::copy(13, &changes, DebugInformation::Kept) else { return };
    assert_eq!(altered.discover().unwrap().summary().runtime_version, "3.99.0");
    let Some(altered) = Altered::copy(13, &changes, DebugInformation::Stripped) else { return };
    let refusal = altered.refusal();
    let reason = "Python 3.99.0 is newer than this gilscope knows, and has no debug information to learn from";
    assert!(refusal.ends_with(reason), "{refusal}");
}

/// A 3.12 that calls itself 3.11 has everything elsewhere than 3.11 does.
#[test]
fn an_odd_build_is_learnt_from_its_debug_information() {
    let hex = 0x030b_00f0_u32.to_le_bytes();
    let Some(altered) = Altered::copy(12, &[("Py_Version", 0, &hex)], DebugInformation::Kept) else { return };
    let Runtime::CPython(python) = altered.discover().unwrap().runtime else { panic!("not CPython") };
    assert_eq!(python.layout.interpreter.lock, Some(384));
    let Some(altered) = Altered::copy(12, &[("Py_Version", 0, &hex)], DebugInformation::Stripped) else { return };
    let refusal = altered.refusal();
    assert!(refusal.contains("this build of Python 3.11.0 keeps its lock elsewhere"), "{refusal}");
}

#[test]
fn a_target_that_lies_about_its_offsets_is_refused() {
    let absurd = (2_u64 << 20).to_le_bytes();
    let lies: [(u64, &[u8], &str); 3] = [
        (0, b"xdebugpX", "lack their mark"),
        (40, &absurd, "place a field at 0x200000"),
        (136, &[0; 8], "describe a lock of unknown form"),
    ];
    for (position, bytes, complaint) in lies {
        let Some(altered) = Altered::copy(13, &[("_PyRuntime", position, bytes)], DebugInformation::Stripped) else {
            return;
        };
        let refusal = altered.refusal();
        assert!(refusal.contains(complaint), "{refusal}");
    }
}

/// A program that contains an interpreter and exports nothing of it.
const EMBEDDING: &str = r#"
#include <Python.h>
int main(void) {
    Py_Initialize();
    PyRun_SimpleString("import sys, time; sys.stdout.write(sys.version.split()[0] + '\\n'); sys.stdout.flush(); time.sleep(60)");
    return 0;
}
"#;

#[test]
fn an_embedded_interpreter_is_found_though_not_exported() {
    for minor in [8, 12] {
        let Some(prefix) = pyenv(&format!("3.{minor}")) else { continue };
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("embedding.c"), folder.path().join("embedding"));
        std::fs::write(&source, EMBEDDING).unwrap();
        let mut compiler = Command::new("cc");
        compiler.arg(&source).arg("-o").arg(&program).arg("-I").arg(prefix.join(format!("include/python3.{minor}")));
        let archive = format!("lib/python3.{minor}/config-3.{minor}-x86_64-linux-gnu/libpython3.{minor}.a");
        compiler.arg(prefix.join(archive)).args(["-lpthread", "-ldl", "-lutil", "-lm"]);
        if !compiler.output().is_ok_and(|output| output.status.success()) {
            outcome::skipped(&format!("cannot compile a program with Python 3.{minor} in it"));
            continue;
        }
        let mut command = Command::new(&program);
        command.env("PYTHONHOME", &prefix);
        let mut running = Running::start(command);
        let version = running.line();
        let target = Target::discover(running.pid()).unwrap();
        assert_eq!(target.summary().runtime_version, version);
        let memory = ProcessMemory::open(target.pid).unwrap();
        assert_eq!(target.locks(&memory).unwrap().len(), 1);
        assert_eq!(target.threads(&memory).unwrap()[0].tid, target.pid.main_thread());
        assert!(target.sites().unwrap().len() >= 3);
        eprintln!("3.{minor}: embedded {version} found");
    }
}
