//! See `gilscope::fuzzing::layout_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::layout_file(bytes));
