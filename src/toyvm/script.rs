//! The syntax tree of a toy program.

use crate::toyvm::value::{BinaryOp, Value};

/// A whole program: its functions and what stands outside of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The functions in the order of their definitions.
    pub functions: Vec<Function>,
    /// The statements outside of every function, which the main thread runs.
    pub top: Vec<Statement>,
}

/// A function definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// The line of its `fn`.
    pub line: u32,
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub parameters: Vec<String>,
    /// Its statements.
    pub body: Vec<Statement>,
}

/// A statement and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The line it begins on.
    pub line: u32,
    /// What it does.
    pub kind: StatementKind,
}

/// The kinds of statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatementKind {
    /// `let name = value`
    Let(String, Expression),
    /// `name = value`
    Assign(String, Expression),
    /// `if condition { … } else { … }`
    If(Expression, Vec<Statement>, Vec<Statement>),
    /// `while condition { … }`
    While(Expression, Vec<Statement>),
    /// `loop count { … }`
    Loop(Expression, Vec<Statement>),
    /// `return value`
    Return(Option<Expression>),
    /// `print part, part`
    Print(Vec<PrintPart>),
    /// `compute amount`
    Compute(Expression),
    /// A native operation and its operands in order.
    Native(Native, Vec<Expression>),
    /// `pipe name`
    Pipe(String),
    /// An expression whose value is dropped.
    Expression(Expression),
}

/// One part of what `print` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrintPart {
    /// A text as it stands.
    Text(String),
    /// The value of an expression.
    Value(Expression),
}

/// What the interpreter does outside of its own loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Native {
    /// Release the lock, sleep, take it again.
    Sleep,
    /// Sleep without releasing the lock.
    SleepHolding,
    /// Release the lock, keep a CPU busy, take it again.
    BusyReleased,
    /// Keep a CPU busy without releasing the lock and without looking at the drop request.
    BusyHolding,
    /// Make a pipe.
    Pipe,
    /// Read one number from a pipe, with the lock released.
    Read,
    /// Write one number to a pipe, with the lock released.
    Write,
    /// Wait for one thread to end, with the lock released.
    Join,
    /// Wait for every thread spawned so far to end, with the lock released.
    JoinAll,
}

/// An expression and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// The line it begins on.
    pub line: u32,
    /// What it computes.
    pub kind: ExpressionKind,
}

/// The kinds of expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpressionKind {
    /// A number or duration.
    Literal(Value),
    /// A variable.
    Name(String),
    /// `-operand`
    Negate(Box<Expression>),
    /// `left op right`
    Binary(BinaryOp, Box<Expression>, Box<Expression>),
    /// `function(arguments)`
    Call(String, Vec<Expression>),
    /// `spawn function(arguments)`
    Spawn(String, Vec<Expression>),
    /// `read pipe`
    Read(Box<Expression>),
}
