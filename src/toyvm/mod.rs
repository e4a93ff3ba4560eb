//! The bundled toy VM: a small bytecode interpreter with real threads and one global lock that follows CPython's rules.
//!
//! It owns a language, its interpreter and a ground truth that the threads write about themselves; it knows nothing of
//! the profiler, imports nothing else of the crate, and prints nothing but what a program prints. `docs/toyvm.md`
//! describes the language, the trace points, the published memory layout and the ground truth.
//!
//! ```text
//! text ─▶ token ─▶ parse ─▶ script ─▶ compile ─▶ bytecode ─▶ interpreter ─▶ lock ─▶ witness ─▶ account ─▶ truth
//! ```

mod account;
mod breaker;
mod bytecode;
mod clock;
pub(crate) mod compile;
mod cursor;
mod error;
mod interpreter;
mod layout;
mod lock;
mod native;
mod parse;
mod pipe;
mod script;
#[cfg(test)]
mod tests;
mod thread;
mod token;
mod truth;
mod usdt;
mod value;
mod vm;
mod witness;

use std::{
    fs, io,
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use crate::toyvm::error::{Fault, SyntaxFault, ToyError};
use crate::toyvm::{
    bytecode::Program,
    compile::compile,
    layout::Published,
    lock::{GlobalLock, Party},
    thread::ThreadRecord,
    truth::{Run, Truth},
    vm::Vm,
    witness::Witness,
};

/// The switch interval of CPython.
pub const DEFAULT_SWITCH_INTERVAL: Duration = Duration::from_millis(5);

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program's text.
    pub program: PathBuf,
    /// Where to write what really happened.
    pub truth: Option<PathBuf>,
    /// How long a thread waits for the lock before it asks the holder to give way.
    pub switch_interval: Duration,
    /// Whether others want to look before the program starts.
    pub announce: Announce,
}

/// Whether to wait before the first statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// Start at once.
    No,
    /// Print one line, `ready pid=… lock=0x…`, on stdout, and wait for a line or the end of stdin.
    AndWait,
}

/// One program at a time: there is one published layout.
static RUNNING: Mutex<()> = Mutex::new(());

/// Runs a program to its end.
pub fn run(options: Options) -> Result<(), ToyError> {
    let _alone = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let started = clock::monotonic();
    let witness = options.truth.as_ref().map(|_| Witness::started_at(started, Program::MAIN_NAME)).transpose();
    let witness = witness.map_err(ToyError::Schedstat)?;
    let program = load(&options)?;
    let truth = options.truth.map(Truth::create).transpose()?;
    let lock = GlobalLock::new(options.switch_interval);
    let record = ThreadRecord::of_this_thread(Program::MAIN_NAME);
    let vm = Arc::new(Vm::new(options.program, program, lock, truth));
    vm.threads.link(record);
    let published = Published::new(&vm.lock, &vm.path, &vm.program);
    let ready_ns = clock::monotonic();
    if options.announce == Announce::AndWait {
        announce(vm.lock.address()).map_err(ToyError::Announce)?;
    }
    let moments = Run {
        program: vm.path.display().to_string(),
        pid: std::process::id(),
        lock_address: vm.lock.address(),
        switch_interval_ns: u64::try_from(options.switch_interval.as_nanos()).unwrap_or(u64::MAX),
        ready_ns,
        go_ns: clock::monotonic(),
    };
    let party = vm.run_main(Party { record, witness });
    drop(published);
    vm.threads.unlink(record);
    conclude(vm, party, &moments)
}

fn load(options: &Options) -> Result<Program, ToyError> {
    let path = &options.program;
    let text = fs::read_to_string(path).map_err(|source| ToyError::Read { path: path.clone(), source })?;
    compile(&text).map_err(|(line, fault)| ToyError::Syntax { path: path.clone(), line, fault })
}

fn announce(lock: usize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready pid={} lock={lock:#x}", std::process::id())?;
    out.flush()?;
    io::stdin().read_line(&mut String::new()).map(|_| ())
}

fn conclude(vm: Arc<Vm>, party: Party, moments: &Run) -> Result<(), ToyError> {
    let failure = vm.failure();
    let vm = Arc::into_inner(vm).expect("every thread has ended");
    if let (Some(truth), Some(witness)) = (vm.truth, party.witness) {
        truth.hear(witness);
        truth.write(moments)?;
    }
    failure.map_or(Ok(()), Err)
}
