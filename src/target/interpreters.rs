//! Where a CPython's own structures lie: its runtime, which holds the main interpreter, and other interpreters.

use crate::{
    model::address::LiveAddress,
    target::{discover::Target, memory::Memory, runtime::Runtime, version::Build},
};

/// A stretch of the target's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// Where it begins.
    pub start: LiveAddress,
    /// Its bytes.
    pub size: u64,
}

impl Extent {
    /// Whether the address lies in it.
    pub fn contains(self, address: LiveAddress) -> bool {
        address.minus(self.start.raw()).raw() < self.size
    }
}

impl Target {
    /// Whether the build can run without its lock.
    pub fn is_free_threaded(&self) -> bool {
        matches!(&self.runtime, Runtime::CPython(python) if python.build == Build::FreeThreaded)
    }

    /// The runtime and its interpreters, as far as they publish how large they are (from 3.13 on) and can be read.
    pub fn interpreters(&self, memory: &dyn Memory) -> Vec<Extent> {
        let Runtime::CPython(python) = &self.runtime else { return Vec::new() };
        let layout = &python.layout;
        let runtime = layout.runtime.size.map(|size| Extent { start: python.runtime, size });
        let each = layout.interpreter.size.into_iter().flat_map(|size| {
            let starts = python.interpreter_addresses(memory).unwrap_or_default();
            starts.into_iter().map(move |start| Extent { start, size })
        });
        runtime.into_iter().chain(each).collect()
    }
}
