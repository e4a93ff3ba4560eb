//! See `gilscope::fuzzing::bpf_records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::bpf_records(bytes));
