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

/// Bytes of all that is remembered of them.
const MOST_KEPT: usize = 32 << 20;

/// Bytes of code objects that one stack makes us read; past that it is none of a sound program.
const MOST_LEARNED: usize = 16 << 20;

/// Bytes of line tables that are searched for one stack; lines past that are not known.
const MOST_SEARCHED: usize = 16 << 20;

/// What remembering one takes beside its texts and its table.
const EACH: usize = 256;

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
    /// The offset that was asked about last, and its line.
    last_line: Option<(i64, Option<u32>)>,
}

/// Everything known about code objects of one target.
#[derive(Debug)]
pub struct CodeCache {
    code: CodeLayout,
    object: ObjectLayout,
    start: u64,
    length: usize,
    known: FxHashMap<LiveAddress, Entry>,
    /// Bytes of all that is known.
    kept: usize,
    learned: u64,
    reading: u64,
    /// What the stack that is being read may still cost.
    allowance: Allowance,
}

/// Bytes that may still be read, and searched for lines.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    learned: usize,
    searched: usize,
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
    /// The frame at byte `offset` of the bytecode; `None` if the function is the interpreter's own.
    fn frame_at(&mut self, offset: i64, allowance: &mut usize) -> Option<Frame> {
        let line = self.line_at(offset, allowance);
        if self.file_is_name && line.is_none() {
            return None;
        }
        Some(Frame { kind: FrameKind::Script, function: self.function.clone(), file: self.file.clone(), line })
    }

    /// The line at `offset`: the one asked for last, which in a recursion is the next one, too, or that of the table.
    fn line_at(&mut self, offset: i64, allowance: &mut usize) -> Option<u32> {
        if let Some((_, line)) = self.last_line.filter(|(last, _)| *last == offset) {
            return line;
        }
        *allowance = allowance.checked_sub(self.line_table.len())?;
        let line = line_at(self.line_table_format, &self.line_table, self.first_line, offset);
        self.last_line = Some((offset, line));
        line
    }

    /// Bytes that it takes.
    fn size(&self) -> usize {
        EACH + self.function.len() + self.file.len() + self.line_table.len()
    }
}

impl Allowance {
    const WHOLE: Self = Self { learned: MOST_LEARNED, searched: MOST_SEARCHED };
}

impl CodeCache {
    /// An empty cache; `None` when the layout's fields lie too far apart to be those of a code object.
    pub fn new(code: &CodeLayout, object: &ObjectLayout) -> Option<Self> {
        let mut fields = vec![(code.first_line, 4), (code.filename, 8), (code.name, 8), (code.line_table, 8)];
        fields.extend(code.qualname.map(|offset| (offset, 8)));
        let start = fields.iter().map(|(offset, _)| *offset).min()?;
        let ends = fields.iter().map(|(offset, size)| offset.checked_add(*size));
        let end = ends.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        let length = usize::try_from(end.checked_sub(start)?).ok().filter(|length| *length <= LARGEST_HEAD)?;
        Some(Self {
            code: code.clone(),
            object: object.clone(),
            start,
            length,
            known: FxHashMap::default(),
            kept: 0,
            learned: 0,
            reading: 0,
            allowance: Allowance::WHOLE,
        })
    }

    /// Begins the reading of one stack: every head is compared once in it.
    pub fn begin_reading(&mut self) {
        self.reading += 1;
        self.allowance = Allowance::WHOLE;
    }

    /// How often a code object had to be read in full.
    pub fn learned(&self) -> u64 {
        self.learned
    }

    /// The frame of the code object at `at` whose execution is at byte `offset` of the bytecode; `None` if the function is
    /// the interpreter's own, which its tracebacks leave out as well.
    pub fn frame(&mut self, memory: &dyn Memory, at: LiveAddress, offset: i64) -> Result<Option<Frame>, ObjectError> {
        if self.known.get(&at).is_none_or(|entry| entry.compared != self.reading) {
            self.compare(memory, at)?;
        }
        let entry = self.known.get_mut(&at).expect("it was compared or inserted just now");
        Ok(entry.code.frame_at(offset, &mut self.allowance.searched))
    }

    /// Whether the name of the code object at `at`, whose frame was asked for just now, is the object at `name`: else it is
    /// another code object than the one that was there when somebody noted both addresses.
    pub fn is_named(&self, at: LiveAddress, name: LiveAddress) -> bool {
        let found = self.known.get(&at).map(|entry| u64::from_le_bytes(self.field(&entry.head, self.code.name)));
        found == Some(name.raw())
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
        let size = code.size();
        self.allowance.learned = self.allowance.learned.checked_sub(size).ok_or(ObjectError::Excess { at })?;
        if self.known.len() >= MOST_CODES || self.kept + size > MOST_KEPT {
            self.known.clear();
            self.kept = 0;
        }
        self.kept += size;
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
            last_line: None,
        })
    }

    fn field<const N: usize>(&self, head: &[u8], offset: u64) -> [u8; N] {
        let from = usize::try_from(offset - self.start).expect("the head begins at its first field");
        head[from..from + N].try_into().expect("the head ends after its last field")
    }
}
