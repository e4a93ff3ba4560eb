//! From a pid to a described target, or to one clear sentence on why not.

use std::{io, path::PathBuf};

use crate::{
    model::{
        address::LiveAddress,
        event::Sighting,
        ids::{LockId, Pid, Tid},
        profile::TargetSummary,
    },
    target::{
        debug_offsets::DebugOffsetsError,
        image::Image,
        libc::{CondLibrary, LibcError},
        lock::{InterpreterThread, LockSeat},
        maps::MemoryMap,
        memory::{Memory, MemoryError, ProcessMemory},
        process::{self, Life, Status},
        runtime::{
            Runtime, RuntimeError,
            foreign::Foreign,
            identify::{IdentifyError, Looked, identify},
            pypy::{self, PyPyError},
            toyvm::{self, ToyVm},
        },
        sighting::{self, SeenThread},
        site::{CondFunction, Site, SiteMeaning},
        surroundings,
        usdt::toyvm_sites,
    },
};

/// The first minor version whose interpreters can have locks of their own.
const FIRST_WITH_OWN_LOCKS: u8 = 12;

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
    #[error("process {0} has ended and only its exit status is left")]
    Zombie(Pid),
    /// It is a part of the kernel.
    #[error("process {0} is a part of the kernel and runs no program")]
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
    /// It runs no interpreter that can be observed.
    #[error("process {pid} is {what}")]
    Foreign {
        /// The process.
        pid: Pid,
        /// What it is.
        what: Foreign,
    },
    /// It is about to run an interpreter; a moment later it can be described.
    #[error("the interpreter of process {0} is just starting")]
    Starting(Pid),
    /// It runs CPython, but not one that can be read.
    #[error("cannot observe process {pid}: {why}")]
    Unreadable {
        /// The process.
        pid: Pid,
        /// The one reason.
        why: Box<IdentifyError>,
    },
}

impl Target {
    /// Looks at the process and finds its interpreter.
    ///
    /// A process that was just launched is [`DiscoverError::Foreign`] until its loader has mapped the interpreter, and
    /// [`DiscoverError::Starting`] until that is done; whoever launched it may ask again.
    pub fn discover(pid: Pid) -> Result<Self, DiscoverError> {
        let status = Status::of_process(pid).map_err(|_| DiscoverError::NoSuchProcess(pid))?;
        match status.life {
            Life::Zombie => return Err(DiscoverError::Zombie(pid)),
            Life::Kernel => return Err(DiscoverError::KernelThread(pid)),
            Life::Alive => {}
        }
        let outline = Outline::read(pid).map_err(|source| refusal(pid, status.uid, source))?;
        outline.identify(pid).map_err(|error| still_alive(pid).err().unwrap_or(error))
    }

    /// Every lock in use now; empty while the interpreter starts.
    pub fn locks(&self, memory: &dyn Memory) -> Result<Vec<LockSeat>, RuntimeError> {
        match &self.runtime {
            Runtime::CPython(python) => python.locks(memory),
            Runtime::PyPy(pypy) => Ok(vec![pypy.lock.clone()]),
            Runtime::ToyVm(vm) => Ok(vm.locks()),
        }
    }

    /// Every thread state of every interpreter now, with the observer's id of the kernel thread that runs it. PyPy keeps no
    /// list of them.
    pub fn threads(&self, memory: &dyn Memory) -> Result<Vec<InterpreterThread>, RuntimeError> {
        match &self.runtime {
            Runtime::CPython(python) => python.threads(self.pid, memory),
            Runtime::PyPy(_) => Ok(Vec::new()),
            Runtime::ToyVm(vm) => vm.threads(self.pid, memory),
        }
    }

    /// Whether it has come as far as to have threads of its own.
    pub fn has_begun(&self, memory: &dyn Memory) -> bool {
        let is_listed = || self.threads(memory).is_ok_and(|threads| !threads.is_empty());
        matches!(self.runtime, Runtime::PyPy(_)) || is_listed()
    }

    /// Whether the thread with this state collects garbage now.
    pub fn collects_garbage(&self, memory: &dyn Memory, state: LiveAddress) -> bool {
        match &self.runtime {
            Runtime::CPython(python) => python.collects(memory, state),
            Runtime::PyPy(_) | Runtime::ToyVm(_) => false,
        }
    }

    /// Where to put probes: the toy VM's own where it has them, and else the calls of the C library.
    pub fn sites(&self) -> Result<Vec<Site>, LibcError> {
        if let Runtime::ToyVm(_) = &self.runtime {
            let own = toyvm_probes(self.pid);
            if !own.is_empty() {
                return Ok(own);
            }
        }
        let mut sites = CondLibrary::of_process(self.pid)?.sites;
        if !self.makes_locks() {
            sites.retain(|site| site.meaning != SiteMeaning::Libc(CondFunction::Init));
        }
        Ok(sites)
    }

    /// Whether it may create further locks while it runs.
    fn makes_locks(&self) -> bool {
        match &self.runtime {
            Runtime::CPython(python) => (python.version.major, python.version.minor) >= (3, FIRST_WITH_OWN_LOCKS),
            Runtime::PyPy(_) | Runtime::ToyVm(_) => false,
        }
    }

    /// What every thread of the process is doing now.
    pub fn sightings(&self, memory: &dyn Memory, locks: &[(LockId, LockSeat)]) -> Vec<SeenThread> {
        sighting::look(self.pid, memory, locks, || self.threads(memory).unwrap_or_default())
    }

    /// What every thread is doing while all steps with its locks are seen, and which locks nobody owns.
    pub fn glance(&self, memory: &dyn Memory, locks: &[(LockId, LockSeat)]) -> (Vec<(Tid, Sighting)>, Vec<LockId>) {
        sighting::glance(self.pid, memory, locks, self.threads(memory).unwrap_or_default())
    }

    /// The target as a report names it.
    pub fn summary(&self) -> TargetSummary {
        let (runtime, runtime_version) = match &self.runtime {
            Runtime::CPython(python) => ("cpython", python.version.to_string()),
            Runtime::PyPy(pypy) => ("pypy", pypy.version.clone().unwrap_or_default()),
            Runtime::ToyVm(vm) => ("toyvm", vm.layout.version.to_string()),
        };
        TargetSummary {
            pid: self.pid,
            command: self.command.clone(),
            runtime: runtime.to_owned(),
            runtime_version,
            free_threaded: self.is_free_threaded(),
            surroundings: surroundings::of_process(self.pid),
        }
    }
}

/// What `/proc` shows of a living process to those who may look into it.
struct Outline {
    exe: PathBuf,
    command: String,
    map: MemoryMap,
    memory: ProcessMemory,
}

impl Outline {
    fn read(pid: Pid) -> io::Result<Self> {
        let exe = process::executable(pid)?;
        let command = process::command(pid)?;
        let map = MemoryMap::read(pid)?;
        let memory = ProcessMemory::open(pid).map_err(|error| match error {
            MemoryError::Open { source, .. } | MemoryError::Read { source, .. } => source,
        })?;
        Ok(Self { exe, command, map, memory })
    }

    /// The first mapped file that is an interpreter decides.
    fn identify(self, pid: Pid) -> Result<Target, DiscoverError> {
        let looked = Looked { pid, map: &self.map, memory: &self.memory };
        for mapping in self.map.programs() {
            let Ok(image) = Image::open(pid, &self.map, mapping) else { continue };
            if let Some(runtime) = runtime_in(looked, &image).map_err(|why| unreadable(pid, why))? {
                return Ok(Target { pid, command: self.command, exe: self.exe, runtime });
            }
        }
        Err(DiscoverError::Foreign { pid, what: Foreign::recognise(&self.exe, &self.command, &self.map) })
    }
}

fn runtime_in(looked: Looked<'_>, image: &Image) -> Result<Option<Runtime>, IdentifyError> {
    if let Ok(Some(symbol)) = image.elf.symbol(toyvm::SYMBOL) {
        return Ok(ToyVm::described(looked.memory, image.live(symbol))?.map(Runtime::ToyVm));
    }
    if let Some(python) = pypy::identify(looked, image)? {
        return Ok(Some(Runtime::PyPy(Box::new(python))));
    }
    Ok(identify(looked, image)?.map(|python| Runtime::CPython(Box::new(python))))
}

/// The USDT sites of the executable that describes itself as the toy VM.
fn toyvm_probes(pid: Pid) -> Vec<Site> {
    let map = MemoryMap::read(pid).unwrap_or_default();
    let mut images = map.programs().into_iter().filter_map(|mapping| Image::open(pid, &map, mapping).ok());
    let own = images.find(|image| matches!(image.elf.symbol(toyvm::SYMBOL), Ok(Some(_))));
    own.and_then(|image| toyvm_sites(&image.elf).ok()).unwrap_or_default()
}

/// What it means that an interpreter cannot be read: its memory may just not be there yet, or any more.
fn unreadable(pid: Pid, why: IdentifyError) -> DiscoverError {
    match why {
        IdentifyError::Starting
        | IdentifyError::Memory(_)
        | IdentifyError::PyPy(PyPyError::Memory(_))
        | IdentifyError::Published(DebugOffsetsError::Memory(_)) => DiscoverError::Starting(pid),
        why => DiscoverError::Unreadable { pid, why: Box::new(why) },
    }
}

/// What it means that `/proc` would not show something.
fn refusal(pid: Pid, uid: u32, source: io::Error) -> DiscoverError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => DiscoverError::NotPermitted { pid, owner: process::user_name(uid), source },
        _ => DiscoverError::Ended(pid),
    }
}

/// An error if the process ended: whatever else went wrong is then beside the point.
fn still_alive(pid: Pid) -> Result<(), DiscoverError> {
    match Status::of_process(pid) {
        Ok(status) if status.life == Life::Alive => Ok(()),
        _ => Err(DiscoverError::Ended(pid)),
    }
}
