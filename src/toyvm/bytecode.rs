//! The instructions of the stack machine.

use crate::toyvm::{
    script::Native,
    value::{BinaryOp, Value},
};

/// One instruction. Jump targets are indices into the code of the same function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A statement of this line begins.
    Line(u32),
    /// Push a constant.
    Push(Value),
    /// Push a local variable.
    Load(usize),
    /// Pop into a local variable.
    Store(usize),
    /// Drop the top.
    Pop,
    /// Pop the right operand, then the left one; push the result.
    Binary(BinaryOp),
    /// Pop a number; push its negative.
    Negate,
    /// Go on at the target, which lies ahead.
    Jump(usize),
    /// Pop a condition; when it does not hold, go on at the target.
    JumpIfFalse(usize),
    /// Go back to the target, and look at the eval breaker.
    JumpBack(usize),
    /// Call a function with the topmost values as its arguments, and look at the eval breaker.
    Call(Target),
    /// Start a thread that calls a function with the topmost values as its arguments; push its handle.
    Spawn(Target),
    /// Leave the function with the topmost value as its result.
    Return,
    /// Do something outside of this loop.
    Native(Native),
    /// Turn a duration on top into the processor time at which it is used up; leave a number of rounds as it is.
    ComputeBegin,
    /// Work for one round; push whether there is more to do. The amount below stays.
    ComputeRound,
    /// Print a text.
    PrintText(usize),
    /// Pop and print a value.
    PrintValue,
    /// End the printed line.
    PrintEnd,
}

/// A function to call and the number of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Index into [`Program::functions`].
    pub function: usize,
    /// How many of the topmost values are its arguments.
    pub arguments: usize,
}

/// A compiled function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Its name.
    pub name: Box<str>,
    /// How many local variables it has, parameters included.
    pub locals: usize,
    /// Its instructions; the last one is a [`Op::Return`].
    pub ops: Vec<Op>,
}

/// A compiled program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The functions; the first one holds the statements outside of every function.
    pub functions: Vec<Code>,
    /// The texts that are printed.
    pub texts: Vec<Box<str>>,
}

impl Program {
    /// The function that the main thread runs.
    pub const MAIN: usize = 0;
    /// Its name, which no other function can have.
    pub const MAIN_NAME: &'static str = "<main>";
}
