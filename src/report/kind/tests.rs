//! Stacks and what they mean. `s:` stands for a function of the program, `k:` for the kernel, `m:` for a marker; anything
//! else is `object!function`.

use super::{HoldKind, NativeFrames};
use crate::model::{
    stack::{Frame, FrameKind},
    state::State,
};

const PYTHON: &str = "/usr/bin/python3.12";

fn frame(word: &str) -> Frame {
    let script = |function: &str, file: &str| Frame {
        kind: FrameKind::Script,
        function: function.to_owned(),
        file: file.to_owned(),
        line: Some(1),
    };
    match word.split_once(':') {
        Some(("s", name)) => match name.split_once('@') {
            Some((function, file)) => script(function, &format!("<frozen {file}>")),
            None => script(name, "/srv/app.py"),
        },
        Some(("k", call)) => Frame::kernel(&call.replace('_', " ")),
        Some(("m", text)) => Frame::marker(&text.replace('_', " ")),
        _ => match word.split_once('!') {
            Some(("py", function)) => Frame::native(function, PYTHON),
            Some((object, function)) => Frame::native(function, &format!("/usr/lib/{object}")),
            None => panic!("{word}"),
        },
    }
}

/// What a thread does in short: the kind, and for C code the object, function and innermost function.
fn told(state: State, stack: &str, native: NativeFrames) -> String {
    let frames: Vec<Frame> = stack.split_whitespace().map(frame).collect();
    let frames: Vec<&Frame> = frames.iter().collect();
    match HoldKind::of(state, &frames, native) {
        HoldKind::CCode(code) => {
            format!("{} {}…{}", HoldKind::CCode(code).words(), code.function, code.innermost)
        }
        kind => kind.words(),
    }
}

/// Stacks of owners that run, and what they are told to be doing.
const RUNNING: &[(&str, &str)] = &[
    ("s:main s:work", "bytecode"),
    ("s:main s:work m:garbage_collection py!0x4f10", "garbage collection"),
    ("s:main m:garbage_collection s:callback", "bytecode"),
    ("s:main s:work m:native_frames_not_read", "bytecode or C code"),
    ("s:main s:work py!PyNumber_Add py!long_add", "bytecode"),
    ("s:main s:work py!PyNumber_Add libc.so.6!malloc", "bytecode"),
    ("s:main s:work py!0x4f10", "bytecode or C code"),
    (
        "s:work py!cfunction_vectorcall_FASTCALL py!builtin_sorted py!list_sort",
        "C code: python3.12 builtin_sorted…list_sort",
    ),
    ("s:work py!builtin_sum py!long_add.lto_priv.0", "C code: python3.12 builtin_sum…long_add"),
    ("s:work py!list_sort py!list_sort_impl.isra.0", "C code: python3.12 list_sort…list_sort_impl"),
    ("s:work py!method_vectorcall_O py!0x4f10", "C code: python3.12 0x4f10…method_vectorcall_O"),
    ("s:work py!cfunction_vectorcall_O", "C code: python3.12 cfunction_vectorcall_O…cfunction_vectorcall_O"),
    (
        "s:work py!cfunction_call zlib.cpython-312-x86_64-linux-gnu.so!zlib_compress libz.so.1!deflate libc.so.6!memcpy",
        "C code: zlib.so zlib_compress…memcpy",
    ),
    ("s:work libfoo.so!foo::Bar::parse libfoo.so!0x33", "C code: libfoo.so foo::Bar::parse…foo::Bar::parse"),
    ("s:work libfoo.so!0x33", "C code: libfoo.so 0x33…0x33"),
    (
        "s:work _ctypes.cpython-312.so!PyCFuncPtr_call _ctypes.cpython-312.so!_call libffi.so.8!ffi_call libfoo.so!bar",
        "C code: libfoo.so bar…bar",
    ),
    ("s:work _ctypes.so!call libffi.so.8!ffi_call libc.so.6!usleep", "C code: libc.so.6 usleep…usleep"),
    ("s:work _ctypes.so!call libffi.so.8!ffi_call", "C code: _ctypes.so call…ffi_call"),
    ("s:work libfoo.so!collect", "C code: libfoo.so collect…collect"),
    ("s:work py!_PyObject_GC_New py!gc_collect_main py!visit_decref", "garbage collection"),
    ("s:work py!cfunction_vectorcall_FASTCALL py!gc_collect py!collect.constprop.0", "garbage collection"),
    ("s:work py!gc_collect_main s:handler", "bytecode"),
    ("s:work py!_Py_Dealloc py!dict_dealloc", "destructor"),
    ("s:work libfoo.so!Tree_dealloc libfoo.so!free_node", "destructor"),
    ("s:work py!gc_collect_main py!slot_tp_finalize s:Tree.__del__ s:close", "destructor"),
    ("s:work s:__delitem__", "bytecode"),
    ("s:work py!call_function py!_Py_DECREF py!list_dealloc", "destructor"),
    (
        "s:work py!builtin_sum py!builtin_sum_impl py!Py_DECREF py!long_dealloc",
        "C code: python3.12 builtin_sum…long_dealloc",
    ),
    (
        "s:work py!PyObject_Vectorcall py!list_vectorcall py!list_dealloc",
        "C code: python3.12 list_vectorcall…list_dealloc",
    ),
    (
        "s:work py!call_function py!_PyObject_Vectorcall py!method_vectorcall_O py!PyUnicode_Join",
        "C code: python3.12 PyUnicode_Join…PyUnicode_Join",
    ),
    ("s:work py!_PyObject_MakeTpCall py!cfunction_call py!min_max", "C code: python3.12 min_max…min_max"),
    (
        "s:work py!list_extend py!map_next py!_PyObject_VectorcallTstate py!builtin_chr",
        "C code: python3.12 list_extend…builtin_chr",
    ),
    ("s:work py!PyObject_Vectorcall py!_PyFunction_Vectorcall py!_PyEval_Vector", "bytecode"),
    ("s:work py!call_function", "bytecode"),
    ("s:main s:_find_and_load@importlib._bootstrap s:<module>", "import"),
    ("s:main py!PyImport_ImportModuleLevelObject py!0x12", "import"),
    ("s:work k:page_fault", "page fault"),
    ("s:work libfoo.so!fill k:page_fault", "page fault"),
    ("s:work libfoo.so!fill k:read", "C code: libfoo.so fill…fill"),
    (
        "s:parse gilscope!gilscope::toyvm::interpreter::step gilscope!gilscope::toyvm::native::busy",
        "C code: gilscope gilscope::toyvm::native::busy…gilscope::toyvm::native::busy",
    ),
    ("s:parse gilscope!gilscope::toyvm::native::compute_round gilscope!gilscope::toyvm::native::round", "bytecode"),
    ("m:no_stack_read", "unknown"),
    ("", "unknown"),
    ("libfoo.so!thread_main libfoo.so!work", "C code: libfoo.so thread_main…work"),
];

#[test]
fn running_owners_are_told_by_their_native_frames() {
    for (stack, expected) in RUNNING {
        assert_eq!(told(State::HeldRunning, stack, NativeFrames::Shown), *expected, "{stack}");
    }
}

#[test]
fn without_native_frames_bytecode_is_not_claimed() {
    for (stack, expected) in [
        ("s:main s:work", "bytecode or C code"),
        ("s:main s:Tree.__del__", "destructor"),
        ("s:main s:exec_module@importlib._bootstrap_external s:<module>", "import"),
        ("s:main k:page_fault", "page fault"),
        ("m:no_script_frames", "unknown"),
    ] {
        assert_eq!(told(State::HeldRunning, stack, NativeFrames::Hidden), expected, "{stack}");
    }
}

#[test]
fn owners_off_the_cpu_are_told_by_the_kernel() {
    for (state, stack, expected) in [
        (State::HeldPreempted, "s:work libfoo.so!fill k:read", "preempted"),
        (State::HeldBlocked, "s:work libfoo.so!fill k:read", "blocked in read"),
        (State::HeldBlocked, "s:work k:clock_nanosleep", "blocked in clock nanosleep"),
        (State::HeldBlocked, "s:work libfoo.so!lock k:futex", "on another lock"),
        (State::HeldBlocked, "s:work k:page_fault", "page fault"),
        (State::HeldBlocked, "s:work libfoo.so!fill", "blocked"),
        (State::HeldBlocked, "m:no_stack_read", "blocked"),
        (State::WaitQueued, "s:work k:futex", "unknown"),
    ] {
        for native in [NativeFrames::Shown, NativeFrames::Hidden] {
            assert_eq!(told(state, stack, native), expected, "{state}: {stack}");
        }
    }
}
