//! CPython's layout from its debug information: the same names in every version, or the names of the version.

use crate::target::{
    dwarf::structure::Structures,
    layout::{
        ByteField, CodeLayout, FrameLayout, Instruction, InterpreterLayout, LineTableFormat, ObjectLayout,
        PythonLayout, RuntimeLayout, ThreadLayout, TopFrame,
    },
    lock::{LockLayout, LockShape},
    version::PythonVersion,
};

/// Every type that is asked for.
pub const NAMES: [&str; 12] = [
    "pyruntimestate",
    "_gil_runtime_state",
    "_is",
    "_ts",
    "_PyCFrame",
    "_frame",
    "_PyInterpreterFrame",
    "_frameowner",
    "PyCodeObject",
    "PyBytesObject",
    "PyASCIIObject",
    "PyCompactUnicodeObject",
];

/// The layout that `types` describe; `None` when some structure lacks what every known version has.
pub fn layout_of(types: &Structures<'_>, version: PythonVersion) -> Option<PythonLayout> {
    let lock_in_runtime = types.offset("pyruntimestate", "ceval.gil");
    Some(PythonLayout {
        runtime: RuntimeLayout {
            interpreters_head: types.offset("pyruntimestate", "interpreters.head")?,
            lock: lock_in_runtime,
            collecting: types.offset("pyruntimestate", "gc.collecting"),
            size: None,
        },
        interpreter: interpreter(types, lock_in_runtime)?,
        thread: thread(types)?,
        frame: frame(types)?,
        code: code(types, version)?,
        object: object(types)?,
        lock: lock(types)?,
    })
}

fn interpreter(types: &Structures<'_>, lock_in_runtime: Option<u64>) -> Option<InterpreterLayout> {
    let own = types.offset("_is", "ceval.gil");
    Some(InterpreterLayout {
        next: types.offset("_is", "next")?,
        id: types.offset("_is", "id")?,
        threads_head: types.offset("_is", "threads.head").or_else(|| types.offset("_is", "tstate_head"))?,
        lock: if lock_in_runtime.is_some() { None } else { Some(own?) },
        collecting: types.offset("_is", "gc.collecting"),
        size: None,
    })
}

fn thread(types: &Structures<'_>) -> Option<ThreadLayout> {
    let direct = types.offset("_ts", "current_frame").or_else(|| types.offset("_ts", "frame"));
    let frame = match direct {
        Some(offset) => TopFrame::Direct(offset),
        None => TopFrame::ThroughCframe {
            cframe: types.offset("_ts", "cframe")?,
            frame: types.offset("_PyCFrame", "current_frame")?,
        },
    };
    Some(ThreadLayout {
        next: types.offset("_ts", "next")?,
        interpreter: types.offset("_ts", "interp")?,
        frame,
        pthread: types.offset("_ts", "thread_id")?,
        native_thread_id: types.offset("_ts", "native_thread_id"),
        datastack_chunk: types.offset("_ts", "datastack_chunk"),
        wants_lock: types.offset("_ts", "gil_requested"),
        suspended: None,
    })
}

fn frame(types: &Structures<'_>) -> Option<FrameLayout> {
    const FRAME: &str = "_PyInterpreterFrame";
    let Some(previous) = types.offset(FRAME, "previous") else { return object_frame(types) };
    let instruction = types.offset(FRAME, "instr_ptr").or_else(|| types.offset(FRAME, "prev_instr"))?;
    Some(FrameLayout {
        previous,
        code: types.offset(FRAME, "f_executable").or_else(|| types.offset(FRAME, "f_code"))?,
        instruction: Instruction::Pointer { offset: instruction },
        owner: types.offset(FRAME, "owner"),
        shim_owners: types.enumerators("_frameowner", &["CSTACK", "INTERPRETER"]).unwrap_or_default(),
        local_bytecode_index: types.offset(FRAME, "tlbc_index"),
        executing: None,
        entry: types.offset(FRAME, "is_entry").map(|offset| ByteField { offset, value: 1 }),
    })
}

/// The frame up to 3.10, an object.
fn object_frame(types: &Structures<'_>) -> Option<FrameLayout> {
    let flag = types.offset("_frame", "f_executing").map(|offset| ByteField { offset, value: 1 });
    // In 3.10 the last instruction counts in units of two bytes, and the flag became one of several states.
    let state = types.offset("_frame", "f_state").map(|offset| ByteField { offset, value: 0 });
    let scale = if flag.is_some() { 1 } else { 2 };
    Some(FrameLayout {
        previous: types.offset("_frame", "f_back")?,
        code: types.offset("_frame", "f_code")?,
        instruction: Instruction::Index { offset: types.offset("_frame", "f_lasti")?, scale },
        owner: None,
        shim_owners: Vec::new(),
        local_bytecode_index: None,
        executing: flag.or(state),
        entry: None,
    })
}

fn code(types: &Structures<'_>, version: PythonVersion) -> Option<CodeLayout> {
    const CODE: &str = "PyCodeObject";
    let lnotab = types.offset(CODE, "co_lnotab");
    let line_table_format = match lnotab {
        Some(_) => LineTableFormat::Lnotab,
        None if (version.major, version.minor) < (3, 11) => LineTableFormat::Linetable310,
        None => LineTableFormat::Locations,
    };
    Some(CodeLayout {
        first_line: types.offset(CODE, "co_firstlineno")?,
        filename: types.offset(CODE, "co_filename")?,
        name: types.offset(CODE, "co_name")?,
        qualname: types.offset(CODE, "co_qualname"),
        line_table: lnotab.or_else(|| types.offset(CODE, "co_linetable"))?,
        line_table_format,
        bytecode: types.offset(CODE, "co_code_adaptive"),
        local_bytecode: types.offset(CODE, "co_tlbc"),
    })
}

fn object(types: &Structures<'_>) -> Option<ObjectLayout> {
    let kind = types.lowest_bit("PyASCIIObject", "state.kind");
    Some(ObjectLayout {
        bytes_size: types.offset("PyBytesObject", "ob_base.ob_size")?,
        bytes_data: types.offset("PyBytesObject", "ob_sval")?,
        str_length: types.offset("PyASCIIObject", "length")?,
        str_state: types.offset("PyASCIIObject", "state")?,
        // Compilers before DWARF 5 count bits from the other end; all their versions have two bits before the kind.
        str_kind_bit: u8::try_from(kind.unwrap_or(2)).ok()?,
        str_ascii_data: types.size("PyASCIIObject")?,
        str_compact_data: types.size("PyCompactUnicodeObject")?,
    })
}

fn lock(types: &Structures<'_>) -> Option<LockLayout> {
    let offset = |member| types.offset("_gil_runtime_state", member);
    Some(LockLayout {
        interval: offset("interval")?,
        last_holder: offset("last_holder")?,
        locked: offset("locked")?,
        cond: offset("cond")?,
        switch_cond: offset("switch_cond")?,
        shape: LockShape::Structure,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::File, path::PathBuf};

    use super::{NAMES, layout_of};
    use crate::target::{
        catalog::layout_on_file,
        dwarf::structure::DebugSections,
        elf::ElfImage,
        version::{Build, PythonVersion},
    };

    /// Libraries with debug information, and the files of their versions, say the same.
    #[test]
    fn debug_information_confirms_the_files() {
        let versions = PathBuf::from(std::env::var("HOME").unwrap_or_default()).join(".pyenv/versions");
        for (name, minor) in
            [("3.8.18", 8), ("3.9.18", 9), ("3.10.13", 10), ("3.11.7", 11), ("3.12.1", 12), ("3.13.0", 13)]
        {
            let path = versions.join(name).join(format!("lib/libpython3.{minor}.so.1.0"));
            let Ok(file) = File::open(&path) else {
                eprintln!("skipped: {} is absent", path.display());
                continue;
            };
            let elf = ElfImage::new(&path, file).unwrap();
            let sections = DebugSections::read(&elf).unwrap();
            let version = PythonVersion::release(3, minor, 0);
            let described = layout_of(&sections.structures(&NAMES).unwrap(), version);
            assert_eq!(described, layout_on_file(version, Build::Default), "{name}");
        }
    }
}
