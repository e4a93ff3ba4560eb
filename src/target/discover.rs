//! From a pid to a described target, or to one clear sentence on why not.

use std::{io, path::PathBuf};

use crate::{
    model::ids::Pid,
    target::{
        catalog,
        image::Image,
        lock::{InterpreterThread, LockSeat},
        maps::MemoryMap,
        memory::{Memory, ProcessMemory},
        process::{self, Life, Status},
        runtime::{Runtime, RuntimeError, cpython::CPython},
        version::{Build, PythonVersion},
    },
};

/// A process whose global lock can be observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The process.
    pub pid: Pid,
    /// Its command line, arguments joined by spaces.
    pub command: String,
    /// Its executable, in its own mount namespace.
    pub exe: PathBuf,
    /// What it runs.
    pub runtime: Runtime,
}

/// Why a process is no target.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// There is no such process.
    #[error("there is no process {0}")]
    NoSuchProcess(Pid),
    /// It ended and its parent has not yet noticed.
    #[error("process {0} has ended; only its exit status is left")]
    Zombie(Pid),
    /// It is a part of the kernel.
    #[error("process {0} is a thread of the kernel and runs no program")]
    KernelThread(Pid),
    /// The observer may not look into it.
    #[error("process {pid} belongs to {owner}, and looking into it is not permitted")]
    NotPermitted {
        /// The process.
        pid: Pid,
        /// The login name of its user.
        owner: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It ended while it was looked at.
    #[error("process {0} ended while it was looked at")]
    Ended(Pid),
    /// It runs no interpreter that is known.
    #[error("process {pid} is {what}, not a Python interpreter")]
    NotAnInterpreter {
        /// The process.
        pid: Pid,
        /// What it is.
        what: String,
    },
    /// Its lists could not be read.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl Target {
    /// Looks at the process and finds its interpreter.
    pub fn discover(pid: Pid) -> Result<Self, DiscoverError> {
        let status = Status::of_process(pid).map_err(|_| DiscoverError::NoSuchProcess(pid))?;
        match status.life {
            Life::Zombie => return Err(DiscoverError::Zombie(pid)),
            Life::Kernel => return Err(DiscoverError::KernelThread(pid)),
            Life::Alive => {}
        }
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => {
                DiscoverError::NotPermitted { pid, owner: process::user_name(status.uid), source }
            }
            _ => DiscoverError::Ended(pid),
        };
        let exe = process::executable(pid).map_err(refused)?;
        let map = MemoryMap::read(pid).map_err(refused)?;
        let memory = ProcessMemory::open(pid).map_err(|_| DiscoverError::Ended(pid))?;
        let command = process::command(pid).map_err(refused)?;
        for mapping in map.files() {
            let Ok(image) = Image::open(pid, &map, mapping) else { continue };
            if let Some(python) = cpython_in(&image, &memory) {
                return Ok(Self { pid, command, exe, runtime: Runtime::CPython(Box::new(python)) });
            }
        }
        Err(DiscoverError::NotAnInterpreter { pid, what: exe.display().to_string() })
    }

    /// Every lock in use now.
    pub fn locks(&self, memory: &dyn Memory) -> Result<Vec<LockSeat>, RuntimeError> {
        match &self.runtime {
            Runtime::CPython(python) => python.locks(memory),
        }
    }

    /// Every thread of the interpreter now.
    pub fn threads(&self, memory: &dyn Memory) -> Result<Vec<InterpreterThread>, RuntimeError> {
        match &self.runtime {
            Runtime::CPython(python) => python.threads(self.pid, memory),
        }
    }
}

fn cpython_in(image: &Image, memory: &dyn Memory) -> Option<CPython> {
    let runtime = image.live(image.elf.dynamic_symbol("_PyRuntime").ok()??);
    let version = image.live(image.elf.dynamic_symbol("Py_Version").ok()??);
    let version = PythonVersion::from_hex(memory.read_u32(version).ok()?)?;
    let layout = catalog::layout_on_file(version, Build::Default)?;
    Some(CPython { version, build: Build::Default, layout, runtime, pthread_tid: None })
}
