//! What a code object says about itself, kept by address.
//!
//! Code objects die and their addresses are used again, so an entry is believed only after the object's head (its first
//! line and its pointers to names and line table) has been read again and is byte for byte what it was.

use rustc_hash::FxHashMap;

use crate::{
    model::{
        address::LiveAddress,
        stack::{Frame, FrameKind},
    },
    stack::python::{
        lines::line_at,
        objects::{ObjectError, read_bytes, read_text},
    },
    target::{
        layout::{CodeLayout, LineTableFormat, ObjectLayout},
        memory::Memory,
    },
};

/// How many code objects are remembered; programs have some ten thousand at most.
const MOST_CODES: usize = 1 << 15;

/// The largest part of a code object that is compared.
const LARGEST_HEAD: usize = 256;

/// What is known of one code object.
#[derive(Debug)]
pub struct Code {
    function: String,
    file: String,
    /// Whether one object is both, as in the code that the interpreter has for its own use (from 3.13 on, to call
    /// `__init__`).
    file_is_name: bool,
    first_line: i32,
    line_table: Vec<u8>,
    line_table_format: LineTableFormat,
}

/// Everything known about code objects of one target.
#[derive(Debug)]
pub struct CodeCache {
    code: CodeLayout,
    object: ObjectLayout,
    start: u64,
    length: usize,
    known: FxHashMap<LiveAddress, Entry>,
    learned: u64,
    reading: u64,
}

/// A code object and the head from which it was read.
#[derive(Debug)]
struct Entry {
    head: Box<[u8]>,
    code: Code,
    /// The reading in which the head was compared last.
    compared: u64,
}

impl Code {
    /// The frame of this function whose execution is at byte `offset` of the bytecode; `None` if the function is the
    /// interpreter's own, which its tracebacks leave out as well.
    pub fn frame_at(&self, offset: i64) -> Option<Frame> {
        let line = line_at(self.line_table_format, &self.line_table, self.first_line, offset);
        if self.file_is_name && line.is_none() {
            return None;
        }
        Some(Frame { kind: FrameKind::Script, function: self.function.clone(), file: self.file.clone(), line })
    }
}

impl CodeCache {
    /// An empty cache; `None` when the layout's fields lie too far apart to be those of a code object.
    pub fn new(code: &CodeLayout, object: &ObjectLayout) -> Option<Self> {
        let mut fields = vec![(code.first_line, 4), (code.filename, 8), (code.name, 8), (code.line_table, 8)];
        fields.extend(code.qualname.map(|offset| (offset, 8)));
        let start = fields.iter().map(|(offset, _)| *offset).min()?;
        let end = fields.iter().filter_map(|(offset, size)| offset.checked_add(*size)).max()?;
        let length = usize::try_from(end.checked_sub(start)?).ok().filter(|length| *length <= LARGEST_HEAD)?;
        Some(Self {
            code: code.clone(),
            object: object.clone(),
            start,
            length,
            known: FxHashMap::default(),
            learned: 0,
            reading: 0,
        })
    }

    /// Begins the reading of one stack: every head is compared once in it.
    pub fn begin_reading(&mut self) {
        self.reading += 1;
    }

    /// How often a code object had to be read in full.
    pub fn learned(&self) -> u64 {
        self.learned
    }

    /// The code object at `at`.
    pub fn code(&mut self, memory: &dyn Memory, at: LiveAddress) -> Result<&Code, ObjectError> {
        if self.known.get(&at).is_none_or(|entry| entry.compared != self.reading) {
            self.compare(memory, at)?;
        }
        Ok(&self.known.get(&at).expect("it was compared or inserted just now").code)
    }

    /// The same, if its name is the object at `name`: else it is another code object than the one that was there when
    /// somebody noted both addresses.
    pub fn code_named(
        &mut self,
        memory: &dyn Memory,
        at: LiveAddress,
        name: LiveAddress,
    ) -> Result<Option<&Code>, ObjectError> {
        self.code(memory, at)?;
        let entry = self.known.get(&at).expect("it was compared or inserted just now");
        let found = u64::from_le_bytes(self.field(&entry.head, self.code.name));
        Ok((found == name.raw()).then_some(&entry.code))
    }

    fn compare(&mut self, memory: &dyn Memory, at: LiveAddress) -> Result<(), ObjectError> {
        let mut buffer = [0; LARGEST_HEAD];
        let head = &mut buffer[..self.length];
        memory.read(at.plus(self.start), head)?;
        if let Some(entry) = self.known.get_mut(&at).filter(|entry| *entry.head == *head) {
            entry.compared = self.reading;
            return Ok(());
        }
        let code = self.learn(memory, head)?;
        if self.known.len() >= MOST_CODES {
            self.known.clear();
        }
        self.known.insert(at, Entry { head: Box::from(&*head), code, compared: self.reading });
        self.learned += 1;
        Ok(())
    }

    fn learn(&self, memory: &dyn Memory, head: &[u8]) -> Result<Code, ObjectError> {
        let pointer = |offset| LiveAddress::in_target(u64::from_le_bytes(self.field(head, offset)));
        let qualname = self.code.qualname.map(pointer).filter(|qualname| !qualname.is_null());
        let name = qualname.unwrap_or_else(|| pointer(self.code.name));
        Ok(Code {
            function: read_text(memory, &self.object, name)?,
            file: read_text(memory, &self.object, pointer(self.code.filename))?,
            file_is_name: pointer(self.code.filename) == pointer(self.code.name),
            first_line: i32::from_le_bytes(self.field(head, self.code.first_line)),
            line_table: read_bytes(memory, &self.object, pointer(self.code.line_table))?,
            line_table_format: self.code.line_table_format,
        })
    }

    fn field<const N: usize>(&self, head: &[u8], offset: u64) -> [u8; N] {
        let from = usize::try_from(offset - self.start).expect("the head begins at its first field");
        head[from..from + N].try_into().expect("the head ends after its last field")
    }
}
