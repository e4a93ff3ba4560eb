//! `_Py_DebugOffsets`: the table of its own offsets that CPython publishes from 3.13 on, at the start of `_PyRuntime`.
//!
//! The table comes from the target and may hold anything. Only its first kilobyte is read, and a table with a wrong
//! mark or with an offset no structure can have is refused as a whole.
//!
//! It publishes neither condition variable of the lock, so those come from the file of the version, and only a lock
//! whose published words sit where the file says is believed.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    model::address::LiveAddress,
    target::{
        layout::{Instruction, PythonLayout, TopFrame},
        memory::{Memory, MemoryError},
        version::{Build, PythonVersion},
    },
};

/// Length of what is read; the longest table known, that of 3.15, has 888 bytes.
const TABLE: usize = 1024;
/// The first eight bytes.
const MARK: &[u8; 8] = b"xdebugpy";
/// No structure that is described is this large; the runtime's own has 340 kB in 3.15.
const LARGEST_OFFSET: u64 = 1 << 20;
/// Positions of the sizes of the runtime and of an interpreter, before all that differs between versions.
const RUNTIME_SIZE: usize = 24;
const INTERPRETER_SIZE: usize = 48;
/// Where each version keeps each number, as a byte position in the table.
const POSITIONS: &str = include_str!("../../probes/debug-offsets.json");

/// Why a published table was refused.
#[derive(Debug, thiserror::Error)]
pub enum DebugOffsetsError {
    /// It could not be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// It does not begin with its mark.
    #[error("the offsets published at {at} lack their mark")]
    Unmarked {
        /// Start of the table.
        at: LiveAddress,
    },
    /// Its version number or its build kind is impossible.
    #[error("the offsets published at {at} are of no known version: {hex:#x}")]
    Version {
        /// Start of the table.
        at: LiveAddress,
        /// What stands in place of the version.
        hex: u64,
    },
    /// An offset is impossible.
    #[error("the offsets published by the target place a field at {offset:#x}")]
    Absurd {
        /// The offset.
        offset: u64,
    },
    /// The lock's words are not where every known lock has them.
    #[error("the offsets published by the target describe a lock of unknown form")]
    Lock,
}

/// A published table, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugOffsets {
    /// The version that wrote it.
    pub version: PythonVersion,
    /// The build kind that wrote it.
    pub build: Build,
    bytes: Box<[u8; TABLE]>,
}

impl DebugOffsets {
    /// Reads the table at the start of `runtime`, the address of `_PyRuntime`.
    pub fn read(memory: &dyn Memory, runtime: LiveAddress) -> Result<Self, DebugOffsetsError> {
        let mut bytes = Box::new([0; TABLE]);
        memory.read(runtime, bytes.as_mut_slice())?;
        if bytes[..8] != MARK[..] {
            return Err(DebugOffsetsError::Unmarked { at: runtime });
        }
        let hex = word(&bytes, 8);
        let unknown = DebugOffsetsError::Version { at: runtime, hex };
        let Some(version) = u32::try_from(hex).ok().and_then(PythonVersion::from_hex) else { return Err(unknown) };
        let build = match word(&bytes, 16) {
            0 => Build::Default,
            1 => Build::FreeThreaded,
            _ => return Err(unknown),
        };
        Ok(Self { version, build, bytes })
    }

    /// `layout`, the file's, with every number that the target publishes; unchanged for a version whose table has
    /// no known form.
    pub fn over(&self, layout: PythonLayout) -> Result<PythonLayout, DebugOffsetsError> {
        let positions: BTreeMap<String, Positions> =
            serde_json::from_str(POSITIONS).expect("the embedded file is checked by a test");
        match positions.get(&format!("{}.{}", self.version.major, self.version.minor)) {
            Some(positions) => self.placed(layout, positions),
            None => Ok(layout),
        }
    }

    fn placed(&self, mut layout: PythonLayout, at: &Positions) -> Result<PythonLayout, DebugOffsetsError> {
        layout.runtime.interpreters_head = self.offset(at.runtime.interpreters_head)?;
        layout.runtime.size = Some(self.offset(RUNTIME_SIZE)?);
        layout.interpreter.size = Some(self.offset(INTERPRETER_SIZE)?);
        self.place_interpreter(&mut layout, &at.interpreter)?;
        self.place_thread(&mut layout, &at.thread)?;
        self.place_frame(&mut layout, &at.frame)?;
        self.place_code(&mut layout, &at.code)?;
        self.place_objects(&mut layout, &at.object)?;
        Ok(layout)
    }

    fn place_interpreter(&self, layout: &mut PythonLayout, at: &Interpreter) -> Result<(), DebugOffsetsError> {
        layout.interpreter.id = self.offset(at.id)?;
        layout.interpreter.next = self.offset(at.next)?;
        layout.interpreter.threads_head = self.offset(at.threads_head)?;
        layout.interpreter.lock = Some(self.offset(at.lock)?);
        layout.interpreter.collecting = self.offset(at.collector)?.checked_add(self.offset(at.collecting)?);
        let own = self.offset(at.own_lock)?;
        let locked = self.offset(at.own_lock_locked)?.checked_sub(own);
        let holder = self.offset(at.own_lock_holder)?.checked_sub(own);
        if locked != Some(layout.lock.locked) || holder != Some(layout.lock.last_holder) {
            return Err(DebugOffsetsError::Lock);
        }
        Ok(())
    }

    fn place_thread(&self, layout: &mut PythonLayout, at: &Thread) -> Result<(), DebugOffsetsError> {
        layout.thread.next = self.offset(at.next)?;
        layout.thread.interpreter = self.offset(at.interpreter)?;
        layout.thread.frame = TopFrame::Direct(self.offset(at.frame)?);
        layout.thread.pthread = self.offset(at.pthread)?;
        layout.thread.native_thread_id = Some(self.offset(at.native_thread_id)?);
        layout.thread.datastack_chunk = Some(self.offset(at.datastack_chunk)?);
        layout.thread.wants_lock = at.wants_lock.map(|position| self.offset(position)).transpose()?;
        Ok(())
    }

    fn place_frame(&self, layout: &mut PythonLayout, at: &Frame) -> Result<(), DebugOffsetsError> {
        layout.frame.previous = self.offset(at.previous)?;
        layout.frame.code = self.offset(at.code)?;
        layout.frame.instruction = Instruction::Pointer { offset: self.offset(at.instruction)? };
        layout.frame.owner = Some(self.offset(at.owner)?);
        layout.frame.local_bytecode_index = self.local(at.local_bytecode_index)?;
        Ok(())
    }

    fn place_code(&self, layout: &mut PythonLayout, at: &Code) -> Result<(), DebugOffsetsError> {
        layout.code.filename = self.offset(at.filename)?;
        layout.code.name = self.offset(at.name)?;
        layout.code.qualname = Some(self.offset(at.qualname)?);
        layout.code.line_table = self.offset(at.line_table)?;
        layout.code.first_line = self.offset(at.first_line)?;
        layout.code.bytecode = Some(self.offset(at.bytecode)?);
        layout.code.local_bytecode = self.local(at.local_bytecode)?;
        Ok(())
    }

    fn place_objects(&self, layout: &mut PythonLayout, at: &Object) -> Result<(), DebugOffsetsError> {
        layout.object.bytes_size = self.offset(at.bytes_size)?;
        layout.object.bytes_data = self.offset(at.bytes_data)?;
        layout.object.str_length = self.offset(at.str_length)?;
        layout.object.str_state = self.offset(at.str_state)?;
        layout.object.str_ascii_data = self.offset(at.str_ascii_size)?;
        // A compact string that is not ASCII has two more words, its UTF-8 form and that form's length.
        layout.object.str_compact_data = layout.object.str_ascii_data + 16;
        Ok(())
    }

    /// The number at a position, if some structure can have such an offset.
    fn offset(&self, position: usize) -> Result<u64, DebugOffsetsError> {
        let offset = word(&self.bytes, position);
        if offset > LARGEST_OFFSET { Err(DebugOffsetsError::Absurd { offset }) } else { Ok(offset) }
    }

    /// A number that only free-threaded builds have; the others publish 0.
    fn local(&self, position: Option<usize>) -> Result<Option<u64>, DebugOffsetsError> {
        match position {
            Some(position) if self.build == Build::FreeThreaded => self.offset(position).map(Some),
            _ => Ok(None),
        }
    }
}

/// The word at a position; positions come from the embedded file and lie inside the table.
fn word(table: &[u8; TABLE], position: usize) -> u64 {
    let bytes = table.get(position..position + 8).and_then(|bytes| bytes.first_chunk());
    u64::from_le_bytes(*bytes.expect("a test keeps every position inside the table"))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Positions {
    runtime: Runtime,
    interpreter: Interpreter,
    thread: Thread,
    frame: Frame,
    code: Code,
    object: Object,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Runtime {
    interpreters_head: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interpreter {
    id: usize,
    next: usize,
    threads_head: usize,
    lock: usize,
    own_lock: usize,
    own_lock_locked: usize,
    own_lock_holder: usize,
    collector: usize,
    collecting: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Thread {
    next: usize,
    interpreter: usize,
    frame: usize,
    pthread: usize,
    native_thread_id: usize,
    datastack_chunk: usize,
    wants_lock: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    previous: usize,
    code: usize,
    instruction: usize,
    owner: usize,
    local_bytecode_index: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    filename: usize,
    name: usize,
    qualname: usize,
    line_table: usize,
    first_line: usize,
    bytecode: usize,
    local_bytecode: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    bytes_size: usize,
    bytes_data: usize,
    str_state: usize,
    str_length: usize,
    str_ascii_size: usize,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{DebugOffsets, DebugOffsetsError, POSITIONS, Positions, TABLE};
    use crate::{
        model::address::LiveAddress,
        target::{
            catalog::layout_on_file,
            memory::{Memory, MemoryError},
            version::Build,
        },
    };

    /// A target whose memory is one table at address 0.
    struct Table(Vec<u8>);

    impl Memory for Table {
        fn read(&self, at: LiveAddress, into: &mut [u8]) -> Result<(), MemoryError> {
            let start = usize::try_from(at.raw()).unwrap();
            match self.0.get(start..start + into.len()) {
                Some(bytes) => into.copy_from_slice(bytes),
                None => {
                    let source = std::io::Error::from_raw_os_error(libc::EIO);
                    return Err(MemoryError::Read { at, length: into.len(), source });
                }
            }
            Ok(())
        }
    }

    /// The table of a 3.13 whose every number is `offset`.
    fn table(hex: u64, offset: u64) -> Table {
        let mut words = vec![u64::from_le_bytes(*b"xdebugpy"), hex, 0];
        words.resize(TABLE / 8, offset);
        Table(words.into_iter().flat_map(u64::to_le_bytes).collect())
    }

    fn read(table: &Table) -> Result<DebugOffsets, DebugOffsetsError> {
        DebugOffsets::read(table, LiveAddress::in_target(0))
    }

    #[test]
    fn every_version_is_placed_from_inside_the_table() {
        let known: BTreeMap<String, Positions> = serde_json::from_str(POSITIONS).unwrap();
        for minor in 13..=15 {
            let mut sound = table(0x0300_00f0 | minor << 16, 40);
            let at = &known[&format!("3.{minor}")].interpreter;
            for (position, offset) in [(at.own_lock_locked, 40 + 16), (at.own_lock_holder, 40 + 8)] {
                sound.0[position] = offset;
            }
            let offsets = read(&sound).unwrap();
            let layout = offsets.over(layout_on_file(offsets.version, Build::Default).unwrap()).unwrap();
            assert_eq!((layout.runtime.interpreters_head, layout.object.str_compact_data), (40, 56));
            assert_eq!(layout.code.local_bytecode, None);
        }
    }

    #[test]
    fn a_lock_of_another_form_is_refused() {
        let offsets = read(&table(0x030d_00f0, 40)).unwrap();
        let layout = layout_on_file(offsets.version, Build::Default).unwrap();
        assert!(matches!(offsets.over(layout), Err(DebugOffsetsError::Lock)));
    }

    #[test]
    fn a_table_without_its_mark_is_refused() {
        let mut unmarked = table(0x030d_00f0, 40);
        unmarked.0[3] = b'!';
        assert!(matches!(read(&unmarked), Err(DebugOffsetsError::Unmarked { .. })));
    }

    #[test]
    fn an_impossible_version_or_build_is_refused() {
        assert!(matches!(read(&table(u64::MAX, 40)), Err(DebugOffsetsError::Version { .. })));
        let mut odd = table(0x030d_00f0, 40);
        odd.0[16] = 2;
        assert!(matches!(read(&odd), Err(DebugOffsetsError::Version { .. })));
    }

    #[test]
    fn an_offset_beyond_every_structure_is_refused() {
        let offsets = read(&table(0x030d_00f0, (1 << 20) + 1)).unwrap();
        let layout = layout_on_file(offsets.version, Build::Default).unwrap();
        assert!(matches!(offsets.over(layout), Err(DebugOffsetsError::Absurd { .. })));
    }

    #[test]
    fn a_short_table_is_an_error() {
        assert!(matches!(read(&Table(b"xdebugpy".to_vec())), Err(DebugOffsetsError::Memory(_))));
    }
}
