//! Files of a target: ELF and what is in it.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use object::{CompressedData, CompressionFormat};

use crate::{
    bpf::image,
    model::{
        address::{ElfAddress, FileOffset, LiveAddress},
        ids::Pid,
        machine::{MachineState, Registers},
    },
    native::{
        bytes::SharedBytes,
        call_site,
        merge::Extent,
        object::Object,
        outlined,
        symbols::{Symbols, packed::unpack_xz},
        unwind::Unwinder,
    },
    target::{
        dwarf::{
            layout::{NAMES, layout_of},
            structure::DebugSections,
        },
        elf::ElfImage,
        packed,
        usdt::toyvm_sites,
        version::PythonVersion,
    },
};

/// A file of these bytes that has no name and costs no disk.
pub(super) fn nameless(bytes: &[u8]) -> Option<File> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).custom_flags(libc::O_TMPFILE).open("/dev/shm").ok()?;
    file.write_all(bytes).ok()?;
    Some(file)
}

/// Where to find an open file.
pub(super) fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Whose files such are.
pub(super) fn owner() -> Option<u32> {
    Path::new("/proc/self").metadata().ok().map(|seen| seen.uid())
}

fn elf(bytes: &[u8]) -> Option<ElfImage> {
    let file = nameless(bytes)?;
    let path = path_of(&file);
    ElfImage::new(&path, file).ok()
}

/// An executable or a library that may have an interpreter in it.
pub fn elf_file(bytes: &[u8]) {
    let Some(image) = elf(bytes) else { return };
    for name in ["_PyRuntime", "pthread_cond_signal", "gilscope_toyvm", "_thread_db_pthread_tid"] {
        let _ = image.symbol(name);
    }
    let _ = (image.build_id(), image.debug_link(), image.section(".rodata"), image.section(".debug_info"));
    let _ = image.file_offset(ElfAddress::from_file(0x1000));
    let _ = image.bias_when_mapped(LiveAddress::in_target(0x7000_0000), FileOffset::from_start(0x1000));
    let _ = toyvm_sites(&image);
}

/// Debug information that may describe CPython's structures.
pub fn debug_layout(bytes: &[u8]) {
    let Some(sections) = elf(bytes).and_then(|image| DebugSections::read(&image).ok()) else { return };
    let Some(types) = sections.structures(&NAMES) else { return };
    for minor in [8, 10, 12, 15] {
        let _ = layout_of(&types, PythonVersion::release(3, minor, 0));
    }
}

/// An object whose functions are asked for.
pub fn native_symbols(bytes: &[u8]) {
    let pid = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw).expect("pids are positive");
    let mut symbols = Symbols::new(SharedBytes::of_memory(bytes.to_vec()), "/nowhere/lib.so".to_owned(), pid);
    for address in (0x1000..0x1400).step_by(7).chain([0, 1, 0x2000, 0x40_1000, u64::MAX - 1, u64::MAX]) {
        let _ = (symbols.function_start(address), symbols.at(address));
    }
}

/// An object whose unwind tables are followed, from registers and a stack that are its last bytes.
pub fn machine_code(bytes: &[u8]) {
    const STACK: usize = 1024;
    const BIAS: u64 = 0x7000_0000;
    let object = Object::of_bytes(bytes.to_vec(), BIAS, BIAS..BIAS + 0x10_0000);
    let Ok(object) = object else { return };
    let pid = i32::try_from(std::process::id()).ok().and_then(Pid::from_raw).expect("pids are positive");
    let symbols = Symbols::of(&object, pid);
    let _ = outlined::rest_of("_PyEval_EvalFrameDefault", &object, &symbols);
    let mut unwinder = Unwinder::new();
    unwinder.add(&object);
    let stack: Box<[u8]> = bytes[bytes.len().saturating_sub(STACK)..].into();
    let mut calls = Vec::new();
    let sites =
        |_: u64, address: u64| call_site::before(object.code_before(address, call_site::LONGEST)?, address).next();
    for (at, frame) in [(0, 0), (3, 0x7fff_0040), (9, 0x7fff_0040)] {
        let registers = Registers { instruction: BIAS + 0x1000 + at * 13, stack: 0x7fff_0000, frame };
        let state = MachineState { registers, stack: stack.clone(), kernel: None };
        let extent = unwinder.follow(&state, &mut calls, &sites);
        assert!(calls.len() <= 512 && matches!(extent, Extent::Whole | Extent::Cut));
    }
    unwinder.remove(&object);
}

/// Bytes that are packed in one way or another.
pub fn packed(bytes: &[u8]) {
    assert!(unpack_xz(bytes).is_none_or(|unpacked| unpacked.len() <= 64 << 20));
    let _ = packed::bound_of_zstd(bytes);
    for format in [CompressionFormat::Zlib, CompressionFormat::Zstandard] {
        let data = CompressedData { format, data: bytes, uncompressed_size: 1 << 16 };
        let unpacked = packed::unpacked(data, 1 << 20).unwrap_or_default();
        assert!(unpacked.len() <= 1 << 16);
    }
}

/// The object file of programs for the kernel.
pub fn bpf_object(bytes: &[u8]) {
    let _ = image::Image::parse(bytes);
}
