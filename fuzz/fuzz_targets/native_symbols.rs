//! See `gilscope::fuzzing::native_symbols`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::native_symbols(bytes));
