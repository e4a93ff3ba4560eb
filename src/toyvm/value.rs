//! The values a toy program computes with: small, copied, never allocated.

use std::fmt;

use crate::toyvm::error::Fault;

/// A value on the operand stack or in a local variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A signed integer; 0 is false, everything else is true.
    Int(i64),
    /// A length of time in nanoseconds.
    Duration(i64),
    /// A pipe, by its number in the program.
    Pipe(usize),
    /// A spawned thread, by its number in the program.
    Thread(usize),
}

/// What stands between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Value {
    /// What kind of value this is, in the words of an error message.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Int(_) => "an integer",
            Self::Duration(_) => "a duration",
            Self::Pipe(_) => "a pipe",
            Self::Thread(_) => "a thread",
        }
    }

    /// Whether a condition holds. Only integers are conditions.
    pub fn truth(self) -> Result<bool, Fault> {
        Ok(self.int()? != 0)
    }

    /// The integer, or a fault.
    pub fn int(self) -> Result<i64, Fault> {
        match self {
            Self::Int(number) => Ok(number),
            other => Err(Fault::WrongKind { wanted: "an integer", found: other.kind() }),
        }
    }

    /// The duration in nanoseconds, or a fault; a negative one is a fault as well.
    pub fn nanos(self) -> Result<u64, Fault> {
        match self {
            Self::Duration(nanos) => u64::try_from(nanos).map_err(|_| Fault::NegativeDuration),
            other => Err(Fault::WrongKind { wanted: "a duration (such as 20ms)", found: other.kind() }),
        }
    }

    /// The negative of a number or duration.
    pub fn negate(self) -> Result<Self, Fault> {
        Self::Int(0).binary(BinaryOp::Subtract, self).or_else(|_| Self::Duration(0).binary(BinaryOp::Subtract, self))
    }

    /// Applies `op`. Integers go with integers, durations with durations; a duration may be multiplied or divided by
    /// an integer.
    pub fn binary(self, op: BinaryOp, right: Self) -> Result<Self, Fault> {
        match (self, right) {
            (Self::Int(a), Self::Int(b)) => op.number(a, b).map(Self::Int),
            (Self::Duration(a), Self::Duration(b)) if op.compares() => op.number(a, b).map(Self::Int),
            (Self::Duration(a), Self::Duration(b)) if op.adds() => op.number(a, b).map(Self::Duration),
            (Self::Duration(a), Self::Int(b)) if op.scales() => op.number(a, b).map(Self::Duration),
            (Self::Int(a), Self::Duration(b)) if op == BinaryOp::Multiply => op.number(a, b).map(Self::Duration),
            _ => Err(Fault::CannotCombine { left: self.kind(), right: right.kind() }),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Duration(nanos) => write!(f, "{nanos}ns"),
            Self::Pipe(number) => write!(f, "<pipe {number}>"),
            Self::Thread(number) => write!(f, "<thread {number}>"),
        }
    }
}

impl BinaryOp {
    const fn compares(self) -> bool {
        matches!(
            self,
            Self::Equal | Self::NotEqual | Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual
        )
    }

    const fn adds(self) -> bool {
        matches!(self, Self::Add | Self::Subtract)
    }

    const fn scales(self) -> bool {
        matches!(self, Self::Multiply | Self::Divide)
    }

    fn number(self, a: i64, b: i64) -> Result<i64, Fault> {
        let result = match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            Self::Divide | Self::Remainder if b == 0 => return Err(Fault::DivisionByZero),
            Self::Divide => a.checked_div(b),
            Self::Remainder => a.checked_rem(b),
            Self::Equal => Some(i64::from(a == b)),
            Self::NotEqual => Some(i64::from(a != b)),
            Self::Less => Some(i64::from(a < b)),
            Self::LessOrEqual => Some(i64::from(a <= b)),
            Self::Greater => Some(i64::from(a > b)),
            Self::GreaterOrEqual => Some(i64::from(a >= b)),
        };
        result.ok_or(Fault::Overflow)
    }
}
