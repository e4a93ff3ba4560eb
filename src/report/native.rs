//! What frames of machine code tell by their names: who collects, destroys, imports, and which function C code was entered by.
//!
//! Names are those of CPython 3.8 to 3.15 and of the toy VM. A name that is not on a list tells nothing.

use crate::{
    model::stack::{self, Frame, FrameKind},
    report::kind::CCode,
};

/// What a function of the interpreter is known to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It looks for garbage.
    Collector,
    /// It takes an object apart.
    Destructor,
    /// It imports a module.
    Importer,
    /// Nothing that its name tells.
    Other,
}

/// Functions of the interpreter's that look for garbage.
const COLLECTORS: [&str; 13] = [
    "gc_collect_main",
    "gc_collect_generations",
    "collect",
    "collect_generations",
    "collect_with_callback",
    "_PyGC_Collect",
    "PyGC_Collect",
    "gc_collect_increment",
    "gc_collect_young",
    "gc_collect_full",
    "gc_collect_region",
    "gc_collect_internal",
    "_Py_RunGC",
];
/// What leads from bytecode to something that is called. Below the innermost function of the program that is a C function:
/// a function of the program would be the innermost one itself.
const LEAD_TO_C: [&str; 18] = [
    "cfunction_",
    "method_vectorcall",
    "method_descr",
    "_PyCFunction",
    "PyCFunction_",
    "_PyMethodDef_",
    "_PyMethodDescr_",
    "wrapperdescr_",
    "PyObject_Call",
    "PyObject_Vectorcall",
    "_PyObject_Call",
    "_PyObject_Vectorcall",
    "_PyObject_FastCall",
    "_PyObject_MakeTpCall",
    "PyVectorcall_Call",
    "_PyVectorcall_Call",
    "vectorcall_",
    "type_call",
];
/// What bytecode does on the way, or afterwards.
const ON_THE_WAY: [&str; 8] = [
    "call_function",
    "trace_call_function",
    "do_call_core",
    "_PyEval_",
    "Py_DECREF",
    "Py_XDECREF",
    "_Py_DECREF",
    "_Py_XDECREF",
];
/// What leads back to a function of the program, whose frame is not there yet or not any more.
const LEAD_TO_SCRIPT: [&str; 4] = ["_PyFunction_", "function_code_fastcall", "slot_tp_", "_PyEvalFrame"];
/// Endings that compilers give to copies of a function.
const COPIES: [&str; 6] = [".lto_priv", ".isra", ".constprop", ".part", ".cold", ".llvm"];
/// Objects that work for whoever calls them.
const RUNTIMES: [&str; 10] =
    ["libc.so", "libc-", "libm.so", "libm-", "libpthread", "libgcc_s", "libstdc++", "ld-linux", "ld-musl", "[vdso]"];
/// Objects that pass calls on to any other object.
const BRIDGES: [&str; 3] = ["_ctypes", "_cffi_backend", "libffi"];

/// The last component of an object's path.
pub(super) fn file_name(object: &str) -> &str {
    let object = object.strip_suffix(" (deleted)").unwrap_or(object);
    object.rsplit('/').next().unwrap_or(object)
}

/// The same for a person: an extension module without the name of the build it is for.
pub(super) fn short_name(object: &str) -> String {
    let name = file_name(object);
    let build = [".cpython-", ".abi3.", ".pypy"].iter().find_map(|mark| name.find(mark));
    match build.filter(|_| name.ends_with(".so")) {
        Some(at) => format!("{}.so", &name[..at]),
        None => name.to_owned(),
    }
}

/// Whether the frame's function has no name but its address.
pub(super) fn is_nameless(frame: &Frame) -> bool {
    frame.function.starts_with("0x") || frame.function.is_empty()
}

/// What the frame's function is known to do.
pub(super) fn role(frame: &Frame) -> Role {
    let name = plain(&frame.function);
    let own = is_interpreter(&frame.file);
    match name {
        _ if frame.kind != FrameKind::Native => Role::Other,
        _ if own && COLLECTORS.contains(&name) => Role::Collector,
        "_Py_Dealloc" | "slot_tp_finalize" | "slot_tp_del" => Role::Destructor,
        _ if name.ends_with("_dealloc") => Role::Destructor,
        _ if own && name.starts_with("PyImport_") => Role::Importer,
        _ => Role::Other,
    }
}

/// The C code among machine code that bytecode runs, outermost first: a function of another object than the interpreter's,
/// or one of the interpreter's that bytecode called as a function.
pub(super) fn c_code<'a>(tail: &[&'a Frame]) -> Option<CCode<'a>> {
    let entry = foreign(tail).or_else(|| builtin(tail))?;
    let innermost = tail.iter().rev().find(|frame| !is_nameless(frame)).unwrap_or(&entry);
    Some(CCode { object: &entry.file, function: plain(&entry.function), innermost: plain(&innermost.function) })
}

/// The outermost frame of an object that is neither the interpreter, nor a runtime library, nor a mere bridge to another.
fn foreign<'a>(tail: &[&'a Frame]) -> Option<&'a Frame> {
    let bridge = tail.iter().rposition(|frame| is_of(frame, &BRIDGES));
    let beyond = bridge.map(|at| &tail[at + 1..]).unwrap_or_default();
    let passed_to = beyond.iter().find(|frame| !is_interpreter(&frame.file));
    let mut foreign = tail.iter().filter(|frame| !is_interpreter(&frame.file) && !is_of(frame, &RUNTIMES));
    passed_to.or_else(|| foreign.next()).copied()
}

fn builtin<'a>(tail: &[&'a Frame]) -> Option<&'a Frame> {
    let mut own = tail.iter().copied().filter(|frame| is_interpreter(&frame.file));
    own.clone().find(|frame| shows_call(frame))?;
    let passes_on = |frame: &Frame| begins(frame, &LEAD_TO_C) || begins(frame, &ON_THE_WAY);
    let called = own.find(|frame| !passes_on(frame) && (!is_toy(frame) || is_toy_native(plain(&frame.function))));
    // Of a call whose function has left no frame, what led to it is all there is.
    let called = called.or_else(|| tail.iter().copied().rfind(|frame| is_interpreter(&frame.file)))?;
    (!begins(called, &LEAD_TO_SCRIPT)).then_some(called)
}

/// Where among machine code that bytecode runs, outermost first, something is first seen to be called.
pub(super) fn first_call(tail: &[&Frame]) -> Option<usize> {
    tail.iter().position(|frame| match is_interpreter(&frame.file) {
        true => shows_call(frame),
        false => !is_of(frame, &RUNTIMES),
    })
}

fn shows_call(frame: &Frame) -> bool {
    let name = plain(&frame.function);
    let ends = ["_impl", "_vectorcall"].iter().any(|end| name.ends_with(end));
    begins(frame, &LEAD_TO_C) || name.starts_with("builtin_") || ends || is_toy_native(name)
}

fn begins(frame: &Frame, with: &[&str]) -> bool {
    with.iter().any(|start| plain(&frame.function).starts_with(start))
}

fn is_of(frame: &Frame, objects: &[&str]) -> bool {
    objects.iter().any(|object| file_name(&frame.file).starts_with(object))
}

/// The toy VM is gilscope itself.
fn is_interpreter(object: &str) -> bool {
    stack::is_interpreter(object) || file_name(object) == "gilscope"
}

fn is_toy(frame: &Frame) -> bool {
    file_name(&frame.file) == "gilscope"
}

/// What stands for C code in the toy VM.
fn is_toy_native(name: &str) -> bool {
    name.ends_with("toyvm::native::perform") || name.ends_with("toyvm::native::busy")
}

/// The name without what compilers append to copies of a function.
fn plain(function: &str) -> &str {
    let cuts = COPIES.iter().filter_map(|copy| function.find(copy));
    cuts.min().filter(|at| *at > 0).map_or(function, |at| &function[..at])
}
