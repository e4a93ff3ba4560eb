//! One entry for each parser of foreign bytes, for those who feed it with any: the fuzz targets of `fuzz/`, and the
//! properties in `tests`.
//!
//! An entry asks everything that can be asked of the bytes and throws the answers away: what counts is that it returns,
//! soon and without panic, and what it has allocated meanwhile. It exists in tests and under `cfg(fuzzing)` only.

#[cfg(test)]
mod allocated;
mod files;
mod memory;
mod rings;
#[cfg(test)]
mod tests;
mod texts;

pub use files::{bpf_object, debug_layout, elf_file, machine_code, native_symbols, packed};
pub use memory::{layout_file, python_memory, toy_memory};
pub use rings::{bpf_records, perf_records, probe_ring};
pub use texts::{names, perf_map, proc_files, toy_program};
