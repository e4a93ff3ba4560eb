//! See `gilscope::fuzzing::machine_code`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::machine_code(bytes));
