//! See `gilscope::fuzzing::toy_program`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::toy_program(bytes));
