//! Every entry with real inputs that have been damaged: no panic, and memory within bounds.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use proptest::{
    prelude::{Just, Strategy, any, prop, prop_oneof},
    sample::Index,
    test_runner::{Config, RngSeed, TestCaseError, TestRunner},
};

use super::allocated::peak;

/// Bytes that reading one small input may take at a time.
const MOST: usize = 48 << 20;

/// A piece of damage.
#[derive(Debug, Clone)]
enum Damage {
    Bit(Index, u8),
    Byte(Index, u8),
    /// An aligned word with a number that breaks sums, or is a likely place.
    Word(Index, u64),
    /// The beginning of the rest stands here as well.
    Copy(Index, Index),
    End(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let numbers = prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(1 << 62),
        Just(u64::from(u32::MAX)),
        Just(i64::MAX.cast_unsigned()),
        0_u64..1 << 16,
        any::<u64>(),
    ];
    prop_oneof![
        4 => (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Damage::Bit(at, bit)),
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        4 => (any::<Index>(), numbers).prop_map(|(at, word)| Damage::Word(at, word)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(at, from)| Damage::Copy(at, from)),
        1 => any::<Index>().prop_map(Damage::End),
    ]
}

fn damaged(seed: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for damage in damages.iter().filter(|_| !seed.is_empty()) {
        let length = bytes.len().max(1);
        match damage {
            Damage::Bit(at, bit) => bytes.get_mut(at.index(length)).into_iter().for_each(|byte| *byte ^= 1 << bit),
            Damage::Byte(at, byte) => bytes.get_mut(at.index(length)).into_iter().for_each(|old| *old = *byte),
            Damage::Word(at, word) => {
                let to = bytes.get_mut(at.index(length) / 8 * 8..).unwrap_or_default();
                to.iter_mut().zip(word.to_le_bytes()).for_each(|(old, new)| *old = new);
            }
            Damage::Copy(at, from) => {
                let part: Vec<u8> = bytes.iter().copied().skip(from.index(length)).take(64).collect();
                bytes.iter_mut().skip(at.index(length)).zip(part).for_each(|(old, new)| *old = new);
            }
            Damage::End(at) => bytes.truncate(at.index(length)),
        }
    }
    bytes
}

/// Feeds `entry` with `cases` damaged forms of the seeds, and with the seeds themselves.
fn survives(entry: fn(&[u8]), seeds: &[Vec<u8>], cases: u32) {
    survives_within(MOST, entry, seeds, cases);
}

fn survives_within(most: usize, entry: fn(&[u8]), seeds: &[Vec<u8>], cases: u32) {
    let feed = |bytes: &[u8]| {
        let held = peak(|| entry(bytes));
        if held <= most { Ok(()) } else { Err(TestCaseError::fail(format!("{held} bytes"))) }
    };
    seeds.iter().for_each(|seed| feed(seed).unwrap());
    if seeds.is_empty() {
        return;
    }
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, rng_seed: seed(), ..Config::default() });
    let input = (0..seeds.len(), prop::collection::vec(damage(), 1..24));
    let result = runner.run(&input, |(seed, damages)| feed(&damaged(&seeds[seed], &damages)));
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// The same damage in every run, for the same verdict; other damage with another `PROPTEST_RNG_SEED`, and in `fuzz/` without end.
fn seed() -> RngSeed {
    match Config::default().rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        fixed @ RngSeed::Fixed(_) => fixed,
    }
}

/// What a command prints; `None`, and a word about it, where it cannot.
fn printed(program: &Path, words: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new(program).args(words).stderr(Stdio::null()).output();
    let bytes = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    if bytes.is_none() {
        eprintln!("skipped: {} is absent or cannot do this", program.display());
    }
    bytes
}

/// Libraries with debug information of two forms, and one with it packed.
fn libraries() -> &'static [Vec<u8>] {
    static LIBRARIES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/native/keeper.cpp");
        let forms = [&["-g"][..], &["-g", "-gdwarf-4"], &["-g", "-gz=zlib"]];
        let built = forms.iter().enumerate().filter_map(|(number, form)| {
            let to = folder.path().join(number.to_string());
            let mut words = vec!["-O2", "-shared", "-fPIC", "-o", to.to_str()?, source.to_str()?];
            words.extend(form.iter());
            printed(Path::new("g++"), &words)?;
            std::fs::read(to).ok()
        });
        built.collect()
    })
}

/// The interpreters of this machine.
fn pythons() -> Vec<PathBuf> {
    let versions = Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".pyenv/versions");
    let ours =
        std::fs::read_dir(versions).into_iter().flatten().flatten().map(|entry| entry.path().join("bin/python3"));
    ours.filter(|path| path.exists()).chain([PathBuf::from("/usr/bin/python3")]).collect()
}

/// The version, the build, and the first bytes of `_PyRuntime`, of running interpreters.
fn runtimes() -> Vec<Vec<u8>> {
    let program = "import ctypes, sys\nat = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, '_PyRuntime'))\n\
                   sys.stdout.buffer.write(bytes([sys.version_info[1] - 8, 0]) + ctypes.string_at(at, 4096))";
    pythons().iter().filter_map(|python| printed(python, &["-c", program])).collect()
}

#[test]
fn damaged_files_with_an_interpreter_are_survived() {
    survives(super::elf_file, libraries(), 300);
    survives(super::debug_layout, libraries(), 200);
    let python: Vec<Vec<u8>> = std::fs::read("/usr/bin/python3").into_iter().collect();
    // Its damage is mostly where nobody looks, but for its headers.
    let headers: Vec<Vec<u8>> = python.iter().map(|bytes| bytes[..bytes.len().min(64 << 10)].to_vec()).collect();
    survives(super::elf_file, &headers, 200);
    survives_within(3 * MOST, super::elf_file, &python, 8);
}

#[test]
fn damaged_objects_are_survived() {
    survives(super::native_symbols, libraries(), 200);
    survives(super::machine_code, libraries(), 60);
}

#[test]
fn damaged_packed_bytes_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    let Some(library) = libraries().first() else { return };
    std::fs::write(&plain, &library[..library.len().min(30_000)]).unwrap();
    let packed = ["xz", "zstd"].map(|way| printed(Path::new(way), &["-c", plain.to_str().unwrap()]));
    survives(super::packed, &packed.into_iter().flatten().collect::<Vec<_>>(), 400);
    let object = include_bytes!("../../probes/bpf/gilscope.bpf.o").to_vec();
    survives(super::bpf_object, &[object], 200);
}

#[test]
fn memory_that_lies_is_survived() {
    survives(super::python_memory, &runtimes(), 40);
    let mut description = b"gstoyvm1\x01\0\0\0\xa0\0\0\0".to_vec();
    let words = [0x7000_u64, 8, 16, 5, 24, 40, 48, 56, 64, 72, 80, 88, 16, 0, 4, 16, 0, 8];
    description.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    description.extend((0_u64..64).flat_map(|word| (word * 8).to_le_bytes()));
    survives(super::toy_memory, &[description], 150);
    let layouts = ["3.8", "3.11", "3.15"].map(|version| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("probes/cpython-{version}.json"));
        std::fs::read(path).unwrap()
    });
    survives(super::layout_file, &layouts, 300);
}

#[test]
fn an_offset_at_the_end_of_the_address_space_is_no_field() {
    let layout =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("probes/cpython-3.12.json")).unwrap();
    for field in ["previous", "filename"] {
        let at = layout.find(&format!("\"{field}\": ")).unwrap() + field.len() + 4;
        let end = at + layout[at..].find(|digit: char| !digit.is_ascii_digit()).unwrap();
        super::layout_file(format!("{}{}{}", &layout[..at], u64::MAX - 2, &layout[end..]).as_bytes());
    }
}

#[test]
fn damaged_records_are_survived() {
    let stamp = [7_u32.to_le_bytes(), 8_u32.to_le_bytes()].concat();
    let stamp = [&stamp[..], &1000_u64.to_le_bytes(), &42_u64.to_le_bytes()].concat();
    let perf = [(14_u32, 0x2000_u16, 24_u16), (3, 0, 40), (7, 0, 48), (2, 0, 40)].map(|(kind, misc, length)| {
        let head = [&kind.to_le_bytes()[..], &misc.to_le_bytes(), &(length + 8).to_le_bytes()].concat();
        [&head[..], &vec![b'n'; usize::from(length) - stamp.len()], &stamp].concat()
    });
    survives(super::perf_records, &[perf.concat()], 400);
    let hits = (0..21_u8).flat_map(|kind| {
        let body = [&7_u64.to_le_bytes()[..], &1_u32.to_le_bytes(), &[kind, 0, 0, 0], &[1; 8 + 48]].concat();
        [&u16::try_from(body.len()).unwrap().to_le_bytes()[..], &body].concat()
    });
    survives(super::bpf_records, &[hits.collect()], 400);
}

/// A thread's slot with a chunk of calls on a lock; damage then writes other words to other places.
#[test]
fn scribbled_memory_of_the_probe_is_survived() {
    const SLOTS: u64 = 4096;
    const CHUNKS: u64 = SLOTS + 4096 * 64;
    let tid = u64::from(std::process::id());
    let mut words = vec![(SLOTS, tid), (SLOTS + 8, 1), (136, 1), (CHUNKS, 8 << 32)];
    for (number, (kind, operand)) in
        (0..).zip([(1, 0x1020), (4, 2), (0, 1), (0, 1), (0, 0x1078), (0, 0x1020), (3, 5), (2, 0x1078)])
    {
        words.extend([(CHUNKS + 16 + 16 * number, 1), (CHUNKS + 24 + 16 * number, operand << 3 | kind)]);
    }
    let bytes: Vec<u8> = words.iter().flat_map(|(at, word)| [at.to_le_bytes(), word.to_le_bytes()].concat()).collect();
    survives(super::probe_ring, &[bytes], 60);
}

#[test]
fn damaged_texts_are_survived() {
    let own =
        ["maps", "status", "syscall", "schedstat"].map(|name| std::fs::read(format!("/proc/self/{name}")).unwrap());
    survives(super::proc_files, &own, 200);
    survives(super::perf_map, &[b"1000 20 py::first:/a b.py\n2000 10 second\n1010 8 over\n".to_vec()], 200);
    let names = [&b"_ZNSt6vectorIiSaIiEE9push_backERKi"[..], b"_RNvNtCs1234_6kitbag3foo3bar", b"take_gil.part.0"];
    survives(super::names, &names.map(<[u8]>::to_vec), 300);
    let toy = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/toy/demo.toy")).unwrap();
    survives(super::toy_program, &[toy], 200);
}
