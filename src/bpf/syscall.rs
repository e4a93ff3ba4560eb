//! The system call `bpf`, one function a command.
//!
//! Invariant: every buffer that a command names lives until the call returns, and is as large as the command says.
#![expect(unsafe_code, reason = "bpf(2) takes addresses")]

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
};

use crate::bpf::image::{MapDefinition, ProgramKind};

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
const PROGRAM_LOAD: libc::c_long = 5;
const PROGRAM_RUN: libc::c_long = 10;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const LINK_CREATE: libc::c_long = 28;

const TRACE_UPROBE_MULTI: u32 = 48;
const PERF_EVENT: u32 = 41;

/// `union bpf_attr` for one command each.
#[repr(C)]
#[derive(Default)]
struct CreateMap {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct LoadProgram {
    program_type: u32,
    instructions: u32,
    code: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkUprobes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    semaphores: u64,
    cookies: u64,
    count: u32,
    uprobe_flags: u32,
    pid: u32,
    padding: u32,
}

#[repr(C)]
struct LinkEvent {
    program: u32,
    event: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct OpenRawTracepoint {
    name: u64,
    program: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct RunProgram {
    program: u32,
    outcome: u32,
    data_sizes: [u32; 2],
    data: [u64; 2],
    repeat: u32,
    duration: u32,
    context_sizes: [u32; 2],
    context: [u64; 2],
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

/// Whether an element may exist already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Existing {
    /// It is replaced.
    Replace,
    /// It stays as it is.
    Keep,
}

pub(super) fn create_map(definition: &MapDefinition) -> io::Result<OwnedFd> {
    let MapDefinition { map_type, key, value, entries, flags, .. } = *definition;
    let (name, none) = (name(&definition.name), 0);
    let attributes = CreateMap {
        map_type,
        key_size: key,
        value_size: value,
        max_entries: entries,
        flags,
        inner_map: none,
        numa_node: none,
        name,
    };
    descriptor(MAP_CREATE, &attributes)
}

pub(super) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], existing: Existing) -> io::Result<()> {
    let flags = u64::from(existing == Existing::Keep);
    let element = Element { map: number(map), key: address(key), value: address(value), flags, ..Element::default() };
    call(MAP_UPDATE, &element).map(|_| ())
}

pub(super) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    let value = value.as_mut_ptr() as u64;
    call(MAP_LOOKUP, &Element { map: number(map), key: address(key), value, ..Element::default() }).map(|_| ())
}

pub(super) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    call(MAP_DELETE, &Element { map: number(map), key: address(key), ..Element::default() }).map(|_| ())
}

/// Loads a program; what the verifier has to say goes into `log`, if there is room in it.
pub(super) fn load(
    (name_of, kind): (&str, ProgramKind),
    code: &[u8],
    licence: &CStr,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let (program_type, attach_type) = match kind {
        ProgramKind::Uprobes => (2, TRACE_UPROBE_MULTI),
        ProgramKind::PerfEvent => (7, 0),
        ProgramKind::RawTracepoint => (17, 0),
    };
    let attributes = LoadProgram {
        program_type,
        instructions: count(code.len() / 8),
        code: address(code),
        licence: licence.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: count(log.len()),
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        name: name(name_of),
        attach_type,
        ..LoadProgram::default()
    };
    descriptor(PROGRAM_LOAD, &attributes)
}

/// In the flags of a link to probes: they are at the returns of functions.
pub(super) const AT_RETURN: u32 = 1;

/// Links a program to places in the file that `path` leads to, each with its cookie, for the process `pid` alone.
pub(super) fn link_uprobes(
    program: BorrowedFd<'_>,
    path: &CStr,
    (offsets, cookies): (&[u64], &[u64]),
    (pid, uprobe_flags): (i32, u32),
) -> io::Result<OwnedFd> {
    assert_eq!(offsets.len(), cookies.len(), "every place has a cookie");
    let attributes = LinkUprobes {
        program: number(program),
        attach_type: TRACE_UPROBE_MULTI,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        cookies: cookies.as_ptr() as u64,
        count: count(offsets.len()),
        uprobe_flags,
        pid: pid.cast_unsigned(),
        ..LinkUprobes::default()
    };
    descriptor(LINK_CREATE, &attributes)
}

pub(super) fn link_event(program: BorrowedFd<'_>, event: &impl AsRawFd) -> io::Result<OwnedFd> {
    let event = event.as_raw_fd().cast_unsigned();
    let attributes = LinkEvent { program: number(program), event, attach_type: PERF_EVENT, flags: 0 };
    descriptor(LINK_CREATE, &attributes)
}

pub(super) fn open_raw_tracepoint(program: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let attributes = OpenRawTracepoint { name: name.as_ptr() as u64, program: number(program), padding: 0 };
    descriptor(RAW_TRACEPOINT_OPEN, &attributes)
}

/// In the flags of a run: on the CPU that is told, in whatever thread runs there.
const ON_CPU: u32 = 1;
/// Words that a raw tracepoint can tell.
const TOLD: usize = 12;

/// Runs a program of a raw tracepoint once on `cpu`, and returns when it has.
pub(super) fn run_on(program: BorrowedFd<'_>, cpu: u32) -> io::Result<()> {
    // It is told nothing: all that it may be told is 0.
    let nothing = [0_u64; TOLD];
    let context_sizes = [count(size_of_val(&nothing)), 0];
    let context = [nothing.as_ptr() as u64, 0];
    let program = number(program);
    let attributes = RunProgram { program, flags: ON_CPU, cpu, context_sizes, context, ..RunProgram::default() };
    call(PROGRAM_RUN, &attributes).map(|_| ())
}

/// An error if something before the kernel's own code answers. The kernel reads the attributes before it asks for any right.
pub(super) fn reaches_kernel() -> io::Result<()> {
    // SAFETY: the kernel checks the address, finds nothing there and says so.
    unsafe {
        libc::syscall(libc::SYS_bpf, MAP_CREATE, std::ptr::null::<u8>(), size_of::<Element>());
    }
    let answer = io::Error::last_os_error();
    if answer.raw_os_error() == Some(libc::EFAULT) { Ok(()) } else { Err(answer) }
}

fn descriptor<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    let number = call(command, attributes)?;
    // SAFETY: the command has just opened this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn call<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: the attributes are a prefix of the kernel's union, of the size that is told, and the buffers they name live
    // in the callers above, borrowed for as long as this call takes.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(outcome).unwrap_or(i32::MAX)) }
}

/// A path that leads to an open file wherever it lies, whatever its name.
pub(super) fn path_of(file: BorrowedFd<'_>) -> std::ffi::CString {
    let path = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
    std::ffi::CString::new(path.into_os_string().into_encoded_bytes()).expect("digits contain no zero byte")
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("programs and their buffers are small")
}

/// The kernel keeps fifteen bytes of a name, for those who list programs.
fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    for (into, byte) in name.iter_mut().take(15).zip(text.bytes()) {
        *into = byte;
    }
    name
}
