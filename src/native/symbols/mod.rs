//! Which functions an address of an object belongs to, from everything that is known about the object.
//!
//! Nothing is read before the first question. An address beyond the end of a symbol is not that symbol's: no answer is
//! better than a wrong name.

mod debug_file;
mod debug_info;
mod files;
mod inlines;
pub mod jit;
pub(crate) mod name;
pub(crate) mod packed;
mod plt;
mod scopes;
mod spans;
mod table;
#[cfg(test)]
mod tests;
mod unwind_table;

use std::{
    cell::OnceCell,
    ops::Range,
    thread::{self, JoinHandle},
};

use rustc_hash::FxHashMap;

use crate::{
    model::ids::Pid,
    native::{
        bytes::SharedBytes,
        object::Object,
        symbols::{debug_info::DebugInfo, inlines::Inlines, table::Table, unwind_table::UnwindTable},
    },
};

/// Bytes of answers that are kept; past that many, all are forgotten, so that no target makes them endless.
const MOST_KEPT: usize = 32 << 20;
/// What an answer takes beside its names.
const EACH: usize = 128;

/// The functions of one object.
#[derive(Debug)]
pub struct Symbols {
    bytes: SharedBytes,
    path: String,
    pid: Pid,
    unwind_table: OnceCell<UnwindTable>,
    tables: Option<Tables>,
    answers: FxHashMap<u64, Vec<Function>>,
    /// Bytes of all answers together.
    kept: usize,
}

/// What is read at the first question for a name.
#[derive(Debug)]
struct Tables {
    symbols: Table,
    inlines: Inlining,
}

/// Who was inlined where, as far as it is known.
#[derive(Debug)]
enum Inlining {
    Known(Option<Inlines>),
    /// It takes long to read, so a thread does it; until it has, answers do without.
    Underway(JoinHandle<Option<Inlines>>),
}

impl Inlining {
    fn begin(files: Vec<SharedBytes>) -> Self {
        let read = |files: &[SharedBytes]| DebugInfo::of(files).map(Inlines::of);
        if DebugInfo::is_soon_read(&files) {
            return Self::Known(read(&files));
        }
        let reader = thread::Builder::new().name("symbols".to_owned());
        reader.spawn(move || read(&files)).map_or(Self::Known(None), Self::Underway)
    }

    /// What is known by now.
    fn look(&mut self) -> Option<&mut Inlines> {
        if matches!(self, Self::Underway(reader) if reader.is_finished())
            && let Self::Underway(reader) = std::mem::replace(self, Self::Known(None))
        {
            // A thread that has panicked has found nothing.
            *self = Self::Known(reader.join().unwrap_or_default());
        }
        match self {
            Self::Known(inlines) => inlines.as_mut(),
            Self::Underway(_) => None,
        }
    }
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
    pub fn of(object: &Object, pid: Pid) -> Self {
        Self::new(object.shared_bytes(), object.path().to_owned(), pid)
    }

    pub(crate) fn new(bytes: SharedBytes, path: String, pid: Pid) -> Self {
        Self { bytes, path, pid, unwind_table: OnceCell::new(), tables: None, answers: FxHashMap::default(), kept: 0 }
    }

    /// The functions at `address`, in the file's own terms, innermost first: inlined ones, and then the one with code of
    /// its own. Empty when nothing is known.
    ///
    /// A return address belongs to the instruction before it: ask for the address less one.
    pub fn at(&mut self, address: u64) -> Vec<Function> {
        if let Some(answer) = self.answers.get(&address) {
            return answer.clone();
        }
        let answer = self.find(address);
        if self.is_settled() {
            if self.kept > MOST_KEPT {
                self.answers.clear();
                self.kept = 0;
            }
            self.kept += EACH + answer.iter().map(|function| EACH + function.name.len()).sum::<usize>();
            self.answers.insert(address, answer.clone());
        }
        answer
    }

    /// Whether all that is to be known is: answers stay the same.
    pub fn is_settled(&self) -> bool {
        self.tables.as_ref().is_some_and(|tables| matches!(tables.inlines, Inlining::Known(_)))
    }

    /// Where the function that has `address` begins, by the unwind table, whether or not its name is known.
    pub fn function_start(&self, address: u64) -> Option<u64> {
        self.function(address).map(|function| function.start)
    }

    /// The bytes of that function.
    pub fn function(&self, address: u64) -> Option<Range<u64>> {
        self.unwind_table().function(address)
    }

    fn unwind_table(&self) -> &UnwindTable {
        self.unwind_table.get_or_init(|| UnwindTable::of(&self.bytes))
    }

    fn find(&mut self, address: u64) -> Vec<Function> {
        let tables = match self.tables.take() {
            Some(tables) => tables,
            None => self.read(),
        };
        let tables = self.tables.insert(tables);
        let symbol = tables.symbols.name(address);
        let mut levels = tables.inlines.look().map(|inlines| inlines.at(address)).unwrap_or_default();
        // The symbol's name wins over the debug information's, so that a function has one name in all its code.
        let described = levels.pop_if(|level| !level.inlined).and_then(|level| level.name);
        let inlined = levels.into_iter().filter_map(|level| level.name);
        let inlined = inlined.map(|name| Function { name, inlined: true });
        inlined.chain(symbol.or(described).map(|name| Function { name, inlined: false })).collect()
    }

    fn read(&self) -> Tables {
        let files = files::of(&self.bytes, &self.path, self.pid);
        let symbols = Table::of(&files, self.unwind_table());
        Tables { symbols, inlines: Inlining::begin(files) }
    }
}
