//! The interpreter loop of one thread: fetches instructions, keeps the thread's record up to date, and looks at the eval
//! breaker on every backward jump and call.

use std::sync::Arc;

use crate::toyvm::{
    bytecode::{Op, Target},
    error::Fault,
    lock::Party,
    native,
    thread::{MAX_DEPTH, ThreadRecord},
    value::{BinaryOp, Value},
    vm::{Call, Vm},
    witness::Release,
};

/// Why a thread ends before its last statement.
#[derive(Debug)]
pub enum Halt {
    /// A statement failed.
    Fault(Fault),
    /// Another thread failed, which ends the program.
    Stopped,
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// One thread of a running program.
#[derive(Debug)]
pub struct Interpreter<'vm> {
    /// What it shares with the others.
    pub vm: &'vm Arc<Vm>,
    /// Its number; `None` for the main thread.
    pub number: Option<usize>,
    /// The threads it has spawned and not yet joined by `join all`.
    pub children: Vec<usize>,
    party: Party,
    stack: Vec<Value>,
    callers: Vec<Place>,
    at: Place,
    /// What `print` has put together so far.
    line: String,
}

/// Where a function is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    function: usize,
    /// Index of the next instruction.
    next: usize,
    /// Index of its first local variable on the stack.
    base: usize,
}

impl<'vm> Interpreter<'vm> {
    /// A thread that has not begun yet.
    pub fn new(vm: &'vm Arc<Vm>, party: Party, number: Option<usize>) -> Self {
        let (children, stack, callers) = (Vec::new(), Vec::new(), Vec::new());
        Self { vm, number, children, party, stack, callers, at: Place::default(), line: String::new() }
    }

    /// The thread's record.
    pub fn record(&self) -> &'static ThreadRecord {
        self.party.record
    }

    /// Releases the lock for the last time.
    pub fn leave_for_good(mut self) -> Party {
        self.release(Release::Final);
        self.party
    }

    /// Takes the lock.
    pub fn take(&mut self) {
        self.vm.lock.take(&mut self.party, &self.vm.breaker);
    }

    fn release(&mut self, release: Release) {
        self.vm.lock.release(&mut self.party, &self.vm.breaker, release);
    }

    /// Does something with the lock released.
    pub fn outside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.release(Release::Voluntary);
        let result = work();
        self.take();
        result
    }

    /// Runs a function to its end.
    pub fn run(&mut self, call: Call) -> Result<Value, Halt> {
        let target = Target { function: call.function, arguments: call.arguments.len() };
        self.stack.extend(call.arguments);
        self.enter(target)?;
        loop {
            let op = self.vm.program.functions[self.at.function].ops[self.at.next];
            self.at.next += 1;
            if let Some(result) = self.step(op)? {
                return Ok(result);
            }
        }
    }

    /// Carries out one instruction; gives a value when it was the return from the outermost function.
    fn step(&mut self, op: Op) -> Result<Option<Value>, Halt> {
        match op {
            Op::Line(line) => self.record().set_line(line),
            Op::Push(value) => self.push(value),
            Op::Load(slot) => self.push(self.stack[self.at.base + slot]),
            Op::Store(slot) => self.store(slot),
            Op::Pop => {
                self.pop();
            }
            Op::Binary(op) => self.binary(op)?,
            Op::Negate => {
                let operand = self.pop();
                self.push(operand.negate()?);
            }
            Op::Jump(target) => self.at.next = target,
            Op::JumpIfFalse(target) => {
                if !self.pop().truth()? {
                    self.at.next = target;
                }
            }
            Op::JumpBack(target) => {
                self.at.next = target;
                self.check_breaker()?;
            }
            Op::Call(target) => {
                self.check_breaker()?;
                self.enter(target)?;
            }
            Op::Spawn(target) => self.spawn(target)?,
            Op::Return => return Ok(self.leave()),
            Op::Native(operation) => native::perform(self, operation)?,
            Op::ComputeBegin => {
                let amount = self.pop();
                self.push(native::compute_begin(amount)?);
            }
            Op::ComputeRound => self.compute_round()?,
            Op::PrintText(text) => self.line.push_str(&self.vm.program.texts[text]),
            Op::PrintValue => {
                let value = self.pop();
                self.line.push_str(&value.to_string());
            }
            Op::PrintEnd => native::print(std::mem::take(&mut self.line))?,
        }
        Ok(None)
    }

    fn store(&mut self, slot: usize) {
        let value = self.pop();
        self.stack[self.at.base + slot] = value;
    }

    fn binary(&mut self, op: BinaryOp) -> Result<(), Halt> {
        let right = self.pop();
        let left = self.pop();
        self.push(left.binary(op, right)?);
        Ok(())
    }

    /// Pushes a value.
    pub fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    /// Pops a value.
    pub fn pop(&mut self) -> Value {
        self.stack.pop().expect("the compiler pushes what it pops")
    }

    fn check_breaker(&mut self) -> Result<(), Halt> {
        if !self.vm.breaker.is_set() {
            return Ok(());
        }
        if self.vm.breaker.is_stopped() {
            return Err(Halt::Stopped);
        }
        if self.vm.breaker.drop_requested() {
            self.release(Release::Forced);
            self.take();
        }
        Ok(())
    }

    fn enter(&mut self, target: Target) -> Result<(), Halt> {
        let code = &self.vm.program.functions[target.function];
        let line = code.ops.iter().find_map(|op| if let Op::Line(line) = op { Some(*line) } else { None });
        self.record().push_frame(target.function, line.unwrap_or(0)).ok_or(Fault::StackTooDeep(MAX_DEPTH))?;
        self.callers.push(self.at);
        let base = self.stack.len() - target.arguments;
        self.stack.resize(base + code.locals, Value::Int(0));
        self.at = Place { function: target.function, next: 0, base };
        Ok(())
    }

    /// Leaves a function; gives its result when it was the outermost one.
    fn leave(&mut self) -> Option<Value> {
        let result = self.pop();
        self.stack.truncate(self.at.base);
        self.at = self.callers.pop().expect("whoever leaves has entered");
        self.record().pop_frame();
        if self.callers.is_empty() {
            return Some(result);
        }
        self.push(result);
        None
    }

    fn spawn(&mut self, target: Target) -> Result<(), Halt> {
        let arguments = self.stack.split_off(self.stack.len() - target.arguments);
        let number = self.vm.spawn(Call { function: target.function, arguments })?;
        self.children.push(number);
        self.push(Value::Thread(number));
        Ok(())
    }

    fn compute_round(&mut self) -> Result<(), Halt> {
        let amount = self.pop();
        let left = native::compute_round(amount)?;
        self.push(left.unwrap_or(amount));
        self.push(Value::Int(i64::from(left.is_some())));
        Ok(())
    }
}
