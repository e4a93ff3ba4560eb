//! See `gilscope::fuzzing::toy_memory`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::toy_memory(bytes));
