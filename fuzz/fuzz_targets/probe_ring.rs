//! See `gilscope::fuzzing::probe_ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::probe_ring(bytes));
