//! The description of the VM's memory that outside readers find by the exported symbol `gilscope_toyvm`.
//!
//! All numbers are little endian; everything from `lock` on is 64 bits wide. `docs/toyvm.md` describes each field.
//! The words that change (`lock` to `functions_len`) are zero while no program runs; `lock` is written last and taken
//! back first.
#![expect(unsafe_code, reason = "an exported symbol is an unsafe attribute")]

use std::{
    mem::offset_of,
    path::Path,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

use crate::toyvm::{
    bytecode::Program,
    lock::GlobalLock,
    thread::{Frame, HEAD, ThreadRecord},
};

/// What the exported symbol points to.
#[repr(C)]
#[derive(Debug)]
pub struct Layout {
    magic: [u8; 8],
    version: u32,
    size: u32,
    lock: AtomicU64,
    threads_head: &'static AtomicPtr<ThreadRecord>,
    program_path: AtomicU64,
    program_path_len: AtomicU64,
    functions: AtomicU64,
    functions_len: AtomicU64,
    thread_next: u64,
    thread_tid: u64,
    thread_name_ptr: u64,
    thread_name_len: u64,
    thread_depth: u64,
    thread_frames: u64,
    frame_size: u64,
    frame_function: u64,
    frame_line: u64,
    function_size: u64,
    function_name_ptr: u64,
    function_name_len: u64,
}

const _: () = assert!(size_of::<usize>() == 8 && size_of::<Layout>() == 16 + 18 * 8);

/// A function's name for outside readers.
#[repr(C)]
#[derive(Debug)]
struct FunctionEntry {
    name_ptr: AtomicPtr<u8>,
    name_len: u64,
}

/// The description itself.
// SAFETY: no other symbol of this name exists; it is read from outside only.
#[unsafe(no_mangle)]
pub static gilscope_toyvm: Layout = Layout {
    magic: *b"gstoyvm1",
    version: 1,
    size: size_of::<Layout>() as u32,
    lock: AtomicU64::new(0),
    threads_head: &HEAD,
    program_path: AtomicU64::new(0),
    program_path_len: AtomicU64::new(0),
    functions: AtomicU64::new(0),
    functions_len: AtomicU64::new(0),
    thread_next: offset_of!(ThreadRecord, next) as u64,
    thread_tid: offset_of!(ThreadRecord, tid) as u64,
    thread_name_ptr: offset_of!(ThreadRecord, name_ptr) as u64,
    thread_name_len: offset_of!(ThreadRecord, name_len) as u64,
    thread_depth: offset_of!(ThreadRecord, depth) as u64,
    thread_frames: offset_of!(ThreadRecord, frames) as u64,
    frame_size: size_of::<Frame>() as u64,
    frame_function: offset_of!(Frame, function) as u64,
    frame_line: offset_of!(Frame, line) as u64,
    function_size: size_of::<FunctionEntry>() as u64,
    function_name_ptr: offset_of!(FunctionEntry, name_ptr) as u64,
    function_name_len: offset_of!(FunctionEntry, name_len) as u64,
};

/// A program that outside readers can see; dropping it hides the program again.
#[derive(Debug)]
pub struct Published(());

impl Published {
    /// Shows a program. Its names stay in memory for good, so that no reader ever follows a dangling pointer.
    pub fn new(lock: &GlobalLock, path: &Path, program: &Program) -> Self {
        let path: &'static str = String::leak(path.to_string_lossy().into_owned());
        let functions: Vec<_> = program.functions.iter().map(|function| FunctionEntry::new(&function.name)).collect();
        let functions: &'static [FunctionEntry] = functions.leak();
        let words = &gilscope_toyvm;
        words.program_path.store(path.as_ptr().addr() as u64, Ordering::Relaxed);
        words.program_path_len.store(path.len() as u64, Ordering::Relaxed);
        words.functions.store(functions.as_ptr().addr() as u64, Ordering::Relaxed);
        words.functions_len.store(functions.len() as u64, Ordering::Relaxed);
        // ATOMICS: release, so that whoever sees the lock sees the rest.
        words.lock.store(lock.address() as u64, Ordering::Release);
        Self(())
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        gilscope_toyvm.lock.store(0, Ordering::Release);
        for word in [
            &gilscope_toyvm.program_path,
            &gilscope_toyvm.program_path_len,
            &gilscope_toyvm.functions,
            &gilscope_toyvm.functions_len,
        ] {
            word.store(0, Ordering::Release);
        }
    }
}

impl FunctionEntry {
    fn new(name: &str) -> Self {
        let name: &'static mut str = String::leak(name.to_owned());
        Self { name_len: name.len() as u64, name_ptr: AtomicPtr::new(name.as_mut_ptr()) }
    }
}
