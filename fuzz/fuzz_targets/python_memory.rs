//! See `gilscope::fuzzing::python_memory`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::python_memory(bytes));
