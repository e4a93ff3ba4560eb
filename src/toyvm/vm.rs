//! What the threads of a running program share, and the life of each from its first to its last moment.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use crate::toyvm::{
    breaker::EvalBreaker,
    bytecode::Program,
    error::{Fault, ToyError},
    interpreter::{Halt, Interpreter},
    lock::{GlobalLock, Party},
    pipe::Pipes,
    thread::{ThreadList, ThreadRecord},
    truth::Truth,
    value::Value,
    witness::Witness,
};

/// A running program.
#[derive(Debug)]
pub struct Vm {
    /// Where the program came from.
    pub path: PathBuf,
    /// Its code.
    pub program: Program,
    /// The one lock.
    pub lock: Box<GlobalLock>,
    /// What interpreting threads look at.
    pub breaker: EvalBreaker,
    /// The live threads.
    pub threads: ThreadList,
    /// The pipes made so far.
    pub pipes: Pipes,
    /// Where the threads leave their notes, when there is to be a ground truth.
    pub truth: Option<Truth>,
    spawned: Mutex<Vec<Arc<Spawned>>>,
    failure: Mutex<Option<ToyError>>,
}

/// A function to call and its arguments.
#[derive(Debug, Clone)]
pub struct Call {
    /// Index of the function.
    pub function: usize,
    /// Its arguments.
    pub arguments: Vec<Value>,
}

/// A thread that can be joined; whoever comes second waits for whoever joins first.
#[derive(Debug)]
struct Spawned(Mutex<Option<JoinHandle<()>>>);

impl Vm {
    /// A program that is ready to run.
    pub fn new(path: PathBuf, program: Program, lock: Box<GlobalLock>, truth: Option<Truth>) -> Self {
        Self {
            path,
            program,
            lock,
            breaker: EvalBreaker::default(),
            threads: ThreadList::default(),
            pipes: Pipes::default(),
            truth,
            spawned: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Runs the statements outside of every function, then waits for all threads.
    pub fn run_main(self: &Arc<Self>, party: Party) -> Party {
        let mut main = Interpreter::new(self, party, None);
        main.take();
        let outcome = main.run(Call { function: Program::MAIN, arguments: Vec::new() });
        self.conclude(outcome, main.record());
        main.outside(|| self.join_everybody());
        main.leave_for_good()
    }

    /// Starts a thread and returns its number.
    pub fn spawn(self: &Arc<Self>, call: Call) -> Result<usize, Fault> {
        let mut spawned = self.spawned.lock().unwrap_or_else(PoisonError::into_inner);
        let number = spawned.len();
        let vm = Arc::clone(self);
        let builder = thread::Builder::new().name(self.program.functions[call.function].name.to_string());
        let handle = builder.spawn(move || vm.run_thread(call, number)).map_err(Fault::Spawn)?;
        spawned.push(Arc::new(Spawned(Mutex::new(Some(handle)))));
        Ok(number)
    }

    /// Waits for the end of the thread with this number.
    pub fn join(&self, number: usize) {
        let spawned = self.spawned(number).expect("a handle holds the number of a thread that was started");
        spawned.join();
    }

    /// The first failure, when there was one.
    pub fn failure(&self) -> Option<ToyError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn run_thread(self: Arc<Self>, call: Call, number: usize) {
        let name = &self.program.functions[call.function].name;
        let witness = match self.truth.as_ref().map(|_| Witness::start(name)).transpose() {
            Ok(witness) => witness,
            Err(source) => return self.fail(ToyError::Schedstat(source)),
        };
        let record = ThreadRecord::of_this_thread(name);
        self.threads.link(record);
        let mut thread = Interpreter::new(&self, Party { record, witness }, Some(number));
        thread.take();
        let outcome = thread.run(call);
        self.conclude(outcome, record);
        let party = thread.leave_for_good();
        self.threads.unlink(record);
        if let (Some(truth), Some(witness)) = (&self.truth, party.witness) {
            truth.hear(witness);
        }
    }

    fn conclude(&self, outcome: Result<Value, Halt>, record: &ThreadRecord) {
        let Err(Halt::Fault(fault)) = outcome else { return };
        let (function, line) = record.place().unwrap_or((Program::MAIN, 0));
        let function = self.program.functions[function].name.clone();
        self.fail(ToyError::Runtime { path: self.path.clone(), line, function, fault });
    }

    /// Keeps the first failure and ends the program: nobody may go on waiting for a thread that is no more.
    fn fail(&self, error: ToyError) {
        self.breaker.stop();
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.pipes.shut();
    }

    fn join_everybody(&self) {
        let mut number = 0;
        while let Some(spawned) = self.spawned(number) {
            spawned.join();
            number += 1;
        }
    }

    fn spawned(&self, number: usize) -> Option<Arc<Spawned>> {
        self.spawned.lock().unwrap_or_else(PoisonError::into_inner).get(number).cloned()
    }
}

impl Spawned {
    fn join(&self) {
        let mut handle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handle.take()
            && let Err(panic) = handle.join()
        {
            std::panic::resume_unwind(panic);
        }
    }
}
