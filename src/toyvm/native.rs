//! What stands for C code: busy work, sleep, pipes, threads and output.
//!
//! Busy work is measured in processor time of the thread, sleep in time of the clock. Only [`perform`] touches the lock.

use std::{hint::black_box, io::Write, thread, time::Duration};

use crate::toyvm::{
    clock,
    error::Fault,
    interpreter::{Halt, Interpreter},
    script::Native,
    value::Value,
};

/// Steps of arithmetic in one round: a few microseconds.
const ROUND: u64 = 1_000;

/// Does a native operation, whose operands are on the stack.
pub fn perform(thread: &mut Interpreter<'_>, operation: Native) -> Result<(), Halt> {
    match operation {
        Native::Sleep => {
            let time = thread.pop().nanos()?;
            thread.outside(|| sleep(time));
        }
        Native::SleepHolding => sleep(thread.pop().nanos()?),
        Native::BusyReleased => {
            let time = thread.pop().nanos()?;
            thread.outside(|| busy(time));
        }
        Native::BusyHolding => busy(thread.pop().nanos()?),
        Native::Pipe => {
            let number = thread.vm.pipes.open().map_err(Fault::Pipe)?;
            thread.push(Value::Pipe(number));
        }
        Native::Read => read(thread)?,
        Native::Write => write(thread)?,
        Native::Join => join(thread)?,
        Native::JoinAll => {
            let children = std::mem::take(&mut thread.children);
            let vm = thread.vm;
            thread.outside(|| children.into_iter().for_each(|number| vm.join(number)));
        }
    }
    if thread.vm.breaker.is_stopped() { Err(Halt::Stopped) } else { Ok(()) }
}

/// What `compute` begins with: the processor time at which a duration is used up, or a number of rounds.
pub fn compute_begin(amount: Value) -> Result<Value, Fault> {
    match amount {
        Value::Int(rounds) => Ok(Value::Int(rounds)),
        Value::Duration(_) => {
            let until = clock::thread_cpu().saturating_add(amount.nanos()?);
            Ok(Value::Duration(i64::try_from(until).unwrap_or(i64::MAX)))
        }
        other => Err(Fault::WrongKind { wanted: "a duration or a number of rounds", found: other.kind() }),
    }
}

/// Works for one round and returns what is left to do; `None` when nothing was left before.
pub fn compute_round(amount: Value) -> Result<Option<Value>, Fault> {
    let left = match amount {
        Value::Duration(_) if clock::thread_cpu() >= amount.nanos()? => return Ok(None),
        Value::Int(rounds) if rounds <= 0 => return Ok(None),
        Value::Int(rounds) => Value::Int(rounds - 1),
        until => until,
    };
    round();
    Ok(Some(left))
}

/// Prints a line, with the lock held: as in CPython, output that is buffered does not release it.
pub fn print(mut line: String) -> Result<(), Fault> {
    line.push('\n');
    std::io::stdout().lock().write_all(line.as_bytes()).map_err(Fault::Print)
}

fn read(thread: &mut Interpreter<'_>) -> Result<(), Halt> {
    let pipe = thread.vm.pipes.get(pipe_number(thread.pop())?);
    let number = thread.outside(|| pipe.read());
    if thread.vm.breaker.is_stopped() {
        return Err(Halt::Stopped);
    }
    thread.push(Value::Int(number.map_err(Fault::Pipe)?));
    Ok(())
}

fn write(thread: &mut Interpreter<'_>) -> Result<(), Halt> {
    let number = thread.pop().int()?;
    let pipe = thread.vm.pipes.get(pipe_number(thread.pop())?);
    let result = thread.outside(|| pipe.write(number));
    if thread.vm.breaker.is_stopped() {
        return Err(Halt::Stopped);
    }
    Ok(result.map_err(Fault::Pipe)?)
}

fn join(thread: &mut Interpreter<'_>) -> Result<(), Halt> {
    let number = match thread.pop() {
        Value::Thread(number) if Some(number) == thread.number => return Err(Fault::JoinsItself.into()),
        Value::Thread(number) => number,
        other => return Err(Fault::WrongKind { wanted: "a thread", found: other.kind() }.into()),
    };
    let vm = thread.vm;
    thread.outside(|| vm.join(number));
    Ok(())
}

fn pipe_number(value: Value) -> Result<usize, Fault> {
    match value {
        Value::Pipe(number) => Ok(number),
        other => Err(Fault::WrongKind { wanted: "a pipe", found: other.kind() }),
    }
}

fn sleep(nanos: u64) {
    thread::sleep(Duration::from_nanos(nanos));
}

#[inline(never)]
fn busy(nanos: u64) {
    let until = clock::thread_cpu().saturating_add(nanos);
    while clock::thread_cpu() < until {
        round();
    }
}

#[inline(never)]
fn round() {
    let mut number = 1u64;
    for _ in 0..ROUND {
        number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}
