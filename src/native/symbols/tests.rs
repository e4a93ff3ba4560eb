//! Damaged files: whatever the bytes are, every question has an answer, soon.

use std::{path::Path, process::Command, sync::OnceLock};

use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::Symbols;
use crate::{model::ids::Pid, native::bytes::SharedBytes};

/// A library with debug information, made by this machine's compiler; `None`, and a word about it, where there is none.
fn library() -> Option<&'static [u8]> {
    static BYTES: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let bytes = BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (Path::new("fixtures/native/keeper.cpp"), folder.path().join("lib.so"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let built =
            Command::new("g++").args(["-g", "-O2", "-shared", "-fPIC", "-o"]).args([&library, &source]).status();
        if !built.is_ok_and(|status| status.success()) {
            eprintln!("skipped: no g++");
            return None;
        }
        std::fs::read(library).ok()
    });
    bytes.as_deref()
}

fn symbols(bytes: &[u8]) -> Symbols {
    let pid = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
    Symbols::new(SharedBytes::of_memory(bytes.to_vec()), "/nowhere/lib.so".to_owned(), pid)
}

/// How many of some addresses have a name.
fn interrogate(bytes: &[u8]) -> usize {
    let mut symbols = symbols(bytes);
    let addresses = (0x1000..0x1300).step_by(5).chain([0, 1, 0x2000, u64::MAX - 1, u64::MAX]);
    addresses.filter(|address| symbols.function_start(*address).is_some() | !symbols.at(*address).is_empty()).count()
}

#[test]
fn a_sound_library_has_names() {
    let Some(bytes) = library() else { return };
    let found = interrogate(bytes);
    assert!(found > 50, "{found}");
}

#[test]
fn truncated_files_are_survived() {
    let Some(bytes) = library() else { return };
    for length in (0..bytes.len()).step_by(193) {
        interrogate(&bytes[..length]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn damaged_files_are_survived(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let Some(bytes) = library() else { return Ok(()) };
        let mut damaged = bytes.to_vec();
        for (at, byte) in damage {
            damaged[at.index(bytes.len())] = byte;
        }
        interrogate(&damaged);
    }

    #[test]
    fn damaged_debug_information_is_survived(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10)) {
        let Some(bytes) = library() else { return Ok(()) };
        let elf = crate::target::elf::parse(bytes).unwrap();
        let mut damaged = bytes.to_vec();
        for (section, (at, byte)) in [".debug_info", ".debug_abbrev", ".debug_rnglists", ".eh_frame", ".eh_frame_hdr"].iter().cycle().zip(damage) {
            use object::read::{Object as _, ObjectSection};
            let (offset, length) = elf.section_by_name(section).unwrap().file_range().unwrap();
            damaged[usize::try_from(offset).unwrap() + at.index(usize::try_from(length).unwrap())] = byte;
        }
        interrogate(&damaged);
    }
}
