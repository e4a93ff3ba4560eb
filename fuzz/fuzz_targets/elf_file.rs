//! See `gilscope::fuzzing::elf_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gilscope::fuzzing::elf_file(bytes));
