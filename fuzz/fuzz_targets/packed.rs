//! See `gilscope::fuzzing::packed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::packed(bytes));
