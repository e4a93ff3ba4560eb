//! See `gilscope::fuzzing::perf_records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::perf_records(bytes));
