//! Texts: what `/proc` shows, maps of generated code, names of symbols, programs of the toy VM.

use std::io::Write;

use crate::{
    model::address::LiveAddress,
    native::{
        object::vdso_of_line,
        symbols::{jit::PerfMap, name},
    },
    source::run_delay,
    target::{
        maps::MemoryMap,
        parked,
        process::{Pause, Status},
        version::PythonVersion,
    },
    toyvm::compile::compile,
};

/// Everything that is read of `/proc`, from the same bytes.
pub fn proc_files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let map = MemoryMap::parse(&text);
    let files = map.files();
    assert!(files.len() <= bytes.len());
    assert!(files.iter().all(|file| map.of(file.file).next().is_some()));
    let _ = (Status::parse(&text), Pause::parse(&text));
    let (first, second) = text.split_once('\n').unwrap_or((&text, ""));
    let _ = (parked::parse(first, second), run_delay::parse(bytes));
    let _ = text.lines().filter_map(vdso_of_line).count();
    let _ = PythonVersion::from_text(&text);
}

/// A map of generated code, in two portions.
pub fn perf_map(bytes: &[u8]) {
    let (Some(mut file), Some(owner)) = (super::files::nameless(b""), super::files::owner()) else { return };
    let mut map = PerfMap::at(super::files::path_of(&file), owner);
    let middle = bytes.len() / 2;
    for portion in [&bytes[..middle], &bytes[middle..]] {
        if file.write_all(portion).is_err() {
            return;
        }
        for address in [0, 0x1000, 0x1234, u64::MAX] {
            let _ = map.name(LiveAddress::in_target(address));
        }
    }
}

/// A symbol's name.
pub fn names(bytes: &[u8]) {
    for shown in [name::shown(bytes), name::plain(bytes)].into_iter().flatten() {
        assert!(shown.len() <= name::LONGEST && !shown.chars().any(char::is_control));
    }
}

/// A program of the toy VM; it is compiled, not run.
pub fn toy_program(bytes: &[u8]) {
    let _ = compile(&String::from_utf8_lossy(bytes));
}
