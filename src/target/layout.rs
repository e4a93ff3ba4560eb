//! Where CPython keeps things, as data: one `probes/cpython-3.N.json` a minor version deserialises into [`PythonLayout`].
//!
//! All numbers are byte offsets on 64-bit Linux. From 3.13 on the running interpreter publishes most of them itself
//! (`_Py_DebugOffsets`), and what it publishes wins over the file.

use serde::Deserialize;

use crate::target::lock::LockLayout;

/// Everything version-dependent that gilscope needs to know about one CPython build.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonLayout {
    /// `_PyRuntime`.
    pub runtime: RuntimeLayout,
    /// `PyInterpreterState`.
    pub interpreter: InterpreterLayout,
    /// `PyThreadState`.
    pub thread: ThreadLayout,
    /// `PyFrameObject` or `_PyInterpreterFrame`.
    pub frame: FrameLayout,
    /// `PyCodeObject`.
    pub code: CodeLayout,
    /// Heads of the built-in objects that are read.
    pub object: ObjectLayout,
    /// `struct _gil_runtime_state`.
    pub lock: LockLayout,
}

/// Offsets inside `_PyRuntime`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeLayout {
    /// Pointer to the first `PyInterpreterState`.
    pub interpreters_head: u64,
    /// The one lock, embedded in the runtime (up to 3.11); absent from 3.12 on.
    pub lock: Option<u64>,
    /// A word, signed 32 bits, that is not 0 while garbage is collected (3.8); later each interpreter has its own.
    pub collecting: Option<u64>,
    /// Bytes of the whole (from 3.13 on, as published).
    pub size: Option<u64>,
}

/// Offsets inside `PyInterpreterState`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterpreterLayout {
    /// Pointer to the next interpreter.
    pub next: u64,
    /// The interpreter's number, signed 64 bits.
    pub id: u64,
    /// Pointer to the first `PyThreadState`.
    pub threads_head: u64,
    /// Pointer to the interpreter's lock (from 3.12 on); absent before.
    pub lock: Option<u64>,
    /// A word, signed 32 bits, that is not 0 while the interpreter collects garbage (from 3.9 on).
    pub collecting: Option<u64>,
    /// Bytes of the whole (from 3.13 on, as published).
    pub size: Option<u64>,
}

/// Offsets inside `PyThreadState`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadLayout {
    /// Pointer to the next thread state of the same interpreter.
    pub next: u64,
    /// Pointer to the interpreter.
    pub interpreter: u64,
    /// How to reach the innermost frame.
    pub frame: TopFrame,
    /// `pthread_self()` of the thread.
    pub pthread: u64,
    /// The kernel's thread id as the target sees it (from 3.11 on); absent before: then read the `tid` field of the
    /// libc's thread descriptor, whose offset libc publishes in `_thread_db_pthread_tid`.
    pub native_thread_id: Option<u64>,
    /// Head of the list of data stack chunks (from 3.11 on).
    pub datastack_chunk: Option<u64>,
    /// A word, signed 32 bits, that is not 0 while the thread wants the lock and has not got it yet (from 3.15 on).
    pub wants_lock: Option<u64>,
    /// The word that the thread is parked at while another has stopped the world (free-threaded builds).
    pub suspended: Option<u64>,
}

/// How to reach a thread's innermost frame from its `PyThreadState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopFrame {
    /// A pointer in the thread state.
    Direct(u64),
    /// A pointer to a C frame in the thread state, and in it a pointer to the frame (3.11 and 3.12).
    ThroughCframe {
        /// Offset of the C frame pointer in the thread state.
        cframe: u64,
        /// Offset of the frame pointer in the C frame.
        frame: u64,
    },
}

/// Offsets inside a frame.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameLayout {
    /// Pointer to the caller's frame.
    pub previous: u64,
    /// Pointer to the code object; its two lowest bits may be tags and are to be masked.
    pub code: u64,
    /// Where execution is.
    pub instruction: Instruction,
    /// One byte that tells whose frame it is (from 3.11 on).
    pub owner: Option<u64>,
    /// Values of `owner` whose frames are shims of the interpreter and are skipped.
    #[serde(default)]
    pub shim_owners: Vec<u8>,
    /// Index, signed 32 bits, of the thread's own copy of the bytecode in [`CodeLayout::local_bytecode`]
    /// (free-threaded builds from 3.14 on).
    pub local_bytecode_index: Option<u64>,
    /// One byte that tells whether the frame executes (up to 3.10, where an ended frame forgets its caller).
    pub executing: Option<ByteField>,
    /// One byte that tells whether the frame is the outermost of its call of the evaluation loop (3.11). Later, those
    /// are the frames whose caller is a shim; before, all are.
    pub entry: Option<ByteField>,
}

/// A byte of a frame that says yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByteField {
    /// Offset of the byte in the frame.
    pub offset: u64,
    /// The value that means yes.
    pub value: u8,
}

/// How a frame records where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Instruction {
    /// A signed 32-bit index of the last instruction; multiplied by `scale` it is in bytes.
    Index {
        /// Offset in the frame.
        offset: u64,
        /// Bytes a unit: 1 up to 3.9, 2 in 3.10.
        scale: u64,
    },
    /// A pointer into the bytecode, which starts at [`CodeLayout::bytecode`] (from 3.11 on).
    Pointer {
        /// Offset in the frame.
        offset: u64,
    },
}

/// Offsets inside `PyCodeObject`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeLayout {
    /// Line of the definition, signed 32 bits.
    pub first_line: u64,
    /// Pointer to the file name, a `str`.
    pub filename: u64,
    /// Pointer to the name, a `str`.
    pub name: u64,
    /// Pointer to the qualified name, a `str` (from 3.11 on).
    pub qualname: Option<u64>,
    /// Pointer to the line table, a `bytes`.
    pub line_table: u64,
    /// The line table's encoding.
    pub line_table_format: LineTableFormat,
    /// Start of the bytecode inside the code object (from 3.11 on).
    pub bytecode: Option<u64>,
    /// Pointer to the copies of the bytecode that instruction pointers point into: a signed 64-bit count, then that
    /// many pointers (free-threaded builds from 3.14 on; copy 0 is the bytecode itself).
    pub local_bytecode: Option<u64>,
}

/// Encodings of the map from instructions to lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineTableFormat {
    /// `co_lnotab`, up to 3.9.
    Lnotab,
    /// `co_linetable` of 3.10.
    Linetable310,
    /// The location table, from 3.11 on.
    Locations,
}

/// Offsets inside built-in objects.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectLayout {
    /// Size of a `bytes` object, signed 64 bits.
    pub bytes_size: u64,
    /// First byte of a `bytes` object.
    pub bytes_data: u64,
    /// Length of a `str` in characters, signed 64 bits.
    pub str_length: u64,
    /// The `str`'s state word, 32 bits.
    pub str_state: u64,
    /// The lowest of the three bits of the state word that hold the kind (bytes a character); `compact` and `ascii`
    /// are the two bits above them.
    pub str_kind_bit: u8,
    /// First character of a compact ASCII `str`.
    pub str_ascii_data: u64,
    /// First character of any other compact `str`.
    pub str_compact_data: u64,
}
