//! The files that know an object's symbols: itself, its debug file, the small ELF file that it may carry packed.

use object::read::{Object as _, ObjectSection};

use crate::{
    model::ids::Pid,
    native::{
        bytes::SharedBytes,
        symbols::{debug_file, packed},
    },
    target::elf,
};

/// All of them, the object first.
pub fn of(object: &SharedBytes, path: &str, pid: Pid) -> Vec<SharedBytes> {
    let mut files = vec![object.clone()];
    let Ok(elf) = elf::parse(&**object) else { return files };
    files.extend(debug_file::find(pid, path, &elf));
    let carried = elf.section_by_name(".gnu_debugdata").and_then(|section| section.data().ok());
    files.extend(carried.and_then(packed::unpack_xz).map(SharedBytes::of_memory));
    files
}
