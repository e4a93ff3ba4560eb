//! A program in some interpreter, and a source on it.

use std::{
    cell::RefCell,
    fs,
    io::{BufRead, BufReader, ErrorKind},
    num::NonZeroU32,
    process::{Child, Command, Stdio},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use gilscope::{
    bpf::error::BpfError,
    model::{
        event::Event,
        ids::Pid,
        recorded::RecordedStack,
        stack::{Frame, StackTable},
    },
    perf::{clock, sampling::Taken},
    source::{
        Source,
        bpf::{Beside, BpfSource, Ticks, error::BpfSourceError},
        calls::{FindLocks, Translator},
        scheduler::Scope,
    },
    stack::{ScriptFrame, StackFailure, resolver::Resolver},
    target::{
        discover::Target,
        lock::LockSeat,
        memory::{MemoryError, ProcessMemory},
    },
};

use crate::live::interpreters::Interpreter;

/// A running program, ended when dropped.
pub struct Program {
    pub child: Child,
    /// The first line it wrote.
    pub ready: String,
    _folder: tempfile::TempDir,
}

impl Program {
    pub fn start(interpreter: &Interpreter, source: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program.py");
        fs::write(&file, source).unwrap();
        let mut command = Command::new(&interpreter.words[0]);
        command.args(&interpreter.words[1..]).arg(interpreter.give(folder.path(), &file));
        command.env("PYTHONUTF8", "1").env("LC_ALL", "C.UTF-8").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        Self { child, ready, _folder: folder }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed()).unwrap()
    }

    pub fn target(&self) -> Target {
        Target::discover(self.pid()).unwrap()
    }

    pub fn memory(&self) -> ProcessMemory {
        ProcessMemory::open(self.pid()).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

struct Locks(Target, ProcessMemory);

impl FindLocks for Locks {
    fn find_locks(&mut self) -> Option<Vec<LockSeat>> {
        self.0.locks(&self.1).ok()
    }
}

/// A source on a program, and the stacks it gave.
pub struct Observed {
    pub source: BpfSource,
    pub events: Vec<Event>,
    /// The frames of every stack, by their id.
    pub table: Rc<RefCell<StackTable>>,
    /// Every stack, with the marks of its frames.
    pub scripts: Rc<RefCell<Vec<Vec<ScriptFrame>>>>,
    /// Stacks that could not be believed.
    pub failures: Rc<RefCell<Vec<StackFailure>>>,
}

impl Observed {
    pub fn begin(program: &Program, rate: u32) -> Result<Self, BpfSourceError> {
        let (target, memory) = (program.target(), program.memory());
        let finder = Box::new(Locks(target.clone(), program.memory()));
        let translator = Rc::new(RefCell::new(Translator::new(None)));
        translator.borrow_mut().find_with(finder);
        let sites = target.sites().unwrap();
        let mut source = BpfSource::arm(target.pid, Scope::Running, &sites, translator)?;
        let table = Rc::new(RefCell::new(StackTable::default()));
        let failures = Rc::new(RefCell::new(Vec::new()));
        let scripts = Rc::new(RefCell::new(Vec::new()));
        let (into, failed, marked) = (Rc::clone(&table), Rc::clone(&failures), Rc::clone(&scripts));
        let mut resolver = Resolver::new(&target, Box::new(program.memory())).unwrap();
        let on_stack = move |stack: &RecordedStack, _: Beside<'_>| match resolver.resolve_script(stack) {
            Ok(script) => {
                let frames: Vec<Frame> = script.iter().map(|script| script.frame.clone()).collect();
                marked.borrow_mut().push(script);
                Some(into.borrow_mut().intern(&frames))
            }
            Err(why) => {
                failed.borrow_mut().push(why);
                None
            }
        };
        let ticks = Ticks { rate: NonZeroU32::new(rate).unwrap(), taken: Taken::Nothing };
        assert!(source.read_stacks((&target, &memory), ticks, Box::new(on_stack))?);
        Ok(Self { source, events: Vec::new(), table, scripts, failures })
    }

    pub fn watch(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.source.drain(clock::now(), &mut self.events);
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn frames(&self, stack: gilscope::model::stack::StackId) -> Vec<Frame> {
        self.table.borrow().frames(stack).cloned().collect()
    }
}

/// Says why a test is skipped, if it is a matter of this machine.
pub fn skip(why: &BpfSourceError) {
    let excused = match why {
        BpfSourceError::Bpf(BpfError::NoObject | BpfError::OldKernel(_)) => true,
        BpfSourceError::Bpf(BpfError::Map { source, .. }) => source.kind() == ErrorKind::PermissionDenied,
        _ => false,
    };
    assert!(excused, "{why:?}");
    println!("skipped: {why}");
}

/// Memory of a process that may be gone.
pub fn memory_of(pid: Pid) -> Result<ProcessMemory, MemoryError> {
    ProcessMemory::open(pid)
}
