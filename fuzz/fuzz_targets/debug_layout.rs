//! See `gilscope::fuzzing::debug_layout`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::debug_layout(bytes));
