//! What can go wrong with a toy program, with the place where it went wrong.

use std::{io, path::PathBuf};

/// Why a toy program did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ToyError {
    /// The program cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program's text is wrong.
    #[error("{}:{line}: {fault}", path.display())]
    Syntax {
        /// The program.
        path: PathBuf,
        /// The line, from 1 on.
        line: u32,
        /// What is wrong there.
        fault: SyntaxFault,
    },
    /// A statement failed.
    #[error("{}:{line}: in {function}: {fault}", path.display())]
    Runtime {
        /// The program.
        path: PathBuf,
        /// The line of the statement, from 1 on.
        line: u32,
        /// The function it belongs to.
        function: Box<str>,
        /// What happened.
        fault: Fault,
    },
    /// The caller did not let the announced program start.
    #[error("cannot announce the program on stdout and wait for a line on stdin")]
    Announce(#[source] io::Error),
    /// The kernel does not tell a thread's run-queue delay, without which there is no ground truth.
    #[error("cannot read /proc/thread-self/schedstat")]
    Schedstat(#[source] io::Error),
    /// The ground truth cannot be written.
    #[error("cannot write {}", path.display())]
    Truth {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ToyError {
    /// The exit code that tells a wrong text (2) from everything that happens while running (1).
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Syntax { .. } => 2,
            _ => 1,
        }
    }
}

/// What is wrong with a program's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxFault {
    /// Something else should stand here.
    #[error("expected {wanted}, found {found}")]
    Unexpected {
        /// What may stand here.
        wanted: &'static str,
        /// What stands here.
        found: String,
    },
    /// A character that is no part of the language.
    #[error("unexpected character {0:?}")]
    Character(char),
    /// A text without its closing quote.
    #[error("text without a closing quote")]
    OpenText,
    /// A number too large for 64 bits.
    #[error("number out of range: {0}")]
    Range(String),
    /// Letters after a number that are no unit of time.
    #[error("unknown unit of time {0:?} (use ns, us, ms or s)")]
    Unit(String),
    /// A variable that does not exist here.
    #[error("unknown variable {0} (introduce it with let)")]
    Variable(String),
    /// A function that does not exist.
    #[error("unknown function {0}")]
    Function(String),
    /// A second definition of the same name.
    #[error("{0} is defined twice")]
    Twice(String),
    /// A call with too few or too many arguments.
    #[error("{name} takes {wanted} arguments, not {found}")]
    Arguments {
        /// The function.
        name: String,
        /// How many parameters it has.
        wanted: usize,
        /// How many arguments the call has.
        found: usize,
    },
    /// Blocks or expressions nested too deeply.
    #[error("nested more than {0} levels deep")]
    Nesting(usize),
}

/// What can happen to a running program.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A value of the wrong kind.
    #[error("expected {wanted}, found {found}")]
    WrongKind {
        /// What is needed.
        wanted: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// An operation that does not exist for these kinds.
    #[error("cannot combine {left} and {right} this way")]
    CannotCombine {
        /// Kind of the left operand.
        left: &'static str,
        /// Kind of the right operand.
        right: &'static str,
    },
    /// A duration below zero.
    #[error("negative duration")]
    NegativeDuration,
    /// A division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A result that does not fit in 64 bits.
    #[error("integer overflow")]
    Overflow,
    /// More nested calls than a thread has frames.
    #[error("stack too deep (more than {0} calls)")]
    StackTooDeep(usize),
    /// A thread that joins itself.
    #[error("a thread cannot join itself")]
    JoinsItself,
    /// A pipe that cannot be made, read or written.
    #[error("pipe: {0}")]
    Pipe(io::Error),
    /// A thread that cannot be started.
    #[error("cannot start a thread: {0}")]
    Spawn(io::Error),
    /// Output that cannot be written.
    #[error("cannot print: {0}")]
    Print(io::Error),
}
