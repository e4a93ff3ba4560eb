//! The in-target probe: interposes four condition-variable functions of libc and writes each call to shared memory; in a
//! free-threaded interpreter also the sleeps of its threads, from three functions of semaphores (`park.rs`).
//!
//! It is loaded with `LD_PRELOAD` into whatever gilscope launches, stays passive unless it finds an interpreter, and
//! must never crash, block, allocate or change what the program sees. It needs no library and no symbol version, so
//! that it loads into any libc. The calls themselves are passed on unchanged; the four functions below are its whole
//! outer face beside those, unless it is compiled with `--cfg family`, to follow the program into the processes that it starts: then
//! those of `execute.rs` belong to it.

#![no_std]
#![no_builtins]

mod emit;
mod environ;
#[cfg(family)]
mod execute;
#[cfg(family)]
mod family;
mod follow;
mod gate;
mod layout;
mod local;
mod meter;
mod page;
mod park;
mod pool;
mod real;
mod start;
mod system;
mod walk;

use core::{
    ffi::{c_int, c_void},
    mem::transmute,
};

use crate::layout::{KIND_INIT, KIND_SIGNAL, KIND_TIMED_WAIT, KIND_WAIT};

type OneArgument = unsafe extern "C" fn(*mut c_void) -> c_int;
type TwoArguments = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;
type ThreeArguments = unsafe extern "C" fn(*mut c_void, *mut c_void, *const c_void) -> c_int;

/// What is returned when no libc function was found to pass the call to, which no libc allows: `ENOSYS`.
const NOT_FOUND: c_int = 38;

/// Records the call and passes it on.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_signal(cond: *mut c_void) -> c_int {
    emit::emit(KIND_SIGNAL, cond.addr());
    let real = real::SIGNAL.get();
    if real.is_null() {
        return NOT_FOUND;
    }
    // SAFETY: `real` is libc's function of this name and type.
    let real = unsafe { transmute::<*mut c_void, OneArgument>(real) };
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real(cond) }
}

/// Records the call and passes it on.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_wait(cond: *mut c_void, mutex: *mut c_void) -> c_int {
    emit::emit(KIND_WAIT, cond.addr());
    let real = real::WAIT.get();
    if real.is_null() {
        return NOT_FOUND;
    }
    // SAFETY: `real` is libc's function of this name and type.
    let real = unsafe { transmute::<*mut c_void, TwoArguments>(real) };
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real(cond, mutex) }
}

/// Records the call and passes it on.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_timedwait(cond: *mut c_void, mutex: *mut c_void, until: *const c_void) -> c_int {
    emit::emit(KIND_TIMED_WAIT, cond.addr());
    let real = real::TIMED_WAIT.get();
    if real.is_null() {
        return NOT_FOUND;
    }
    // SAFETY: `real` is libc's function of this name and type.
    let real = unsafe { transmute::<*mut c_void, ThreeArguments>(real) };
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real(cond, mutex, until) }
}

/// Records the call and passes it on.
///
/// # Safety
/// As libc demands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_init(cond: *mut c_void, attributes: *mut c_void) -> c_int {
    emit::emit_always(KIND_INIT, cond.addr());
    let real = real::INIT.get();
    if real.is_null() {
        return NOT_FOUND;
    }
    // SAFETY: `real` is libc's function of this name and type.
    let real = unsafe { transmute::<*mut c_void, TwoArguments>(real) };
    // SAFETY: the caller's arguments, unchanged.
    unsafe { real(cond, attributes) }
}

#[panic_handler]
fn never(_: &core::panic::PanicInfo<'_>) -> ! {
    // The linker keeps this only if something can panic; nothing does.
    system::trap()
}
