//! Which functions an address of an object belongs to, from everything that is known about the object.
//!
//! Nothing is read before the first question. An address beyond the end of a symbol is not that symbol's: no answer is
//! better than a wrong name.

mod name;
mod plt;
mod spans;
mod table;
mod unwind_table;

use std::cell::OnceCell;

use rustc_hash::FxHashMap;

use crate::{
    model::ids::Pid,
    native::{
        bytes::SharedBytes,
        object::Object,
        symbols::{table::Table, unwind_table::UnwindTable},
    },
};

/// Answers that are kept; past that many, all are forgotten, so that no target makes them endless.
const MOST_ANSWERS: usize = 1 << 16;

/// The functions of one object.
#[derive(Debug)]
pub struct Symbols {
    bytes: SharedBytes,
    unwind_table: OnceCell<UnwindTable>,
    table: OnceCell<Table>,
    answers: FxHashMap<u64, Vec<Function>>,
}

/// A function at an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Function {
    /// Its name, demangled.
    pub name: String,
    /// Whether it was inlined into the next outer one.
    pub inlined: bool,
}

impl Symbols {
    /// The functions of `object`, which `pid` has mapped.
    pub fn of(object: &Object, _pid: Pid) -> Self {
        Self {
            bytes: object.shared_bytes(),
            unwind_table: OnceCell::new(),
            table: OnceCell::new(),
            answers: FxHashMap::default(),
        }
    }

    /// The functions at `address`, in the file's own terms, innermost first: inlined ones, and then the one with code of
    /// its own. Empty when nothing is known.
    pub fn at(&mut self, address: u64) -> Vec<Function> {
        if let Some(answer) = self.answers.get(&address) {
            return answer.clone();
        }
        if self.answers.len() >= MOST_ANSWERS {
            self.answers.clear();
        }
        let unwind_table = self.unwind_table.get_or_init(|| UnwindTable::of(&self.bytes));
        let table = self.table.get_or_init(|| Table::of(std::slice::from_ref(&self.bytes), unwind_table));
        let name = table.name(address);
        let answer: Vec<Function> = name.map(|name| Function { name, inlined: false }).into_iter().collect();
        self.answers.insert(address, answer.clone());
        answer
    }
}
