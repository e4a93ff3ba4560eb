//! See `gilscope::fuzzing::perf_map`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::perf_map(bytes));
