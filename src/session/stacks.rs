//! The stacks of one recording, and who reads those of waits.

use std::{cell::RefCell, rc::Rc};

use crate::model::stack::StackTable;

/// A table that all readers of stacks share.
pub(super) type SharedStacks = Rc<RefCell<StackTable>>;

/// Where the stack of a wait comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitStacks {
    /// It is read from outside once the wait is seen.
    Read,
    /// The source brings it with the wait.
    Brought,
}
