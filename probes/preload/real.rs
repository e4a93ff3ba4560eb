//! The functions of libc behind the interposed ones, and whatever else is asked of the dynamic loader.
//!
//! The loader's functions are weak references: where a libc lacks one, the probe still loads.

use core::{
    arch::global_asm,
    ffi::{CStr, c_char, c_int, c_void},
    ptr::{null_mut, without_provenance_mut},
    sync::atomic::{AtomicPtr, Ordering},
};

/// The version of the condition-variable functions with today's layout of `pthread_cond_t`. Plain `dlsym` may find
/// the older ones of the same names.
const VERSION: &CStr = c"GLIBC_2.3.2";

const RTLD_DEFAULT: *mut c_void = null_mut();
const RTLD_NEXT: *mut c_void = without_provenance_mut(usize::MAX);

type Dlsym = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;
type Dlvsym = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> *mut c_void;
type Dlerror = unsafe extern "C" fn() -> *const c_char;
type ErrnoLocation = unsafe extern "C" fn() -> *mut c_int;
#[cfg(family)]
type Handler = Option<extern "C" fn()>;
#[cfg(family)]
type RegisterAtfork = unsafe extern "C" fn(Handler, Handler, Handler, *const c_void) -> c_int;
#[cfg(family)]
type PthreadAtfork = unsafe extern "C" fn(Handler, Handler, Handler) -> c_int;

/// What the loader fills in: a null entry for each name that no loaded library has.
#[repr(C)]
struct Imports {
    dlsym: Option<Dlsym>,
    dlvsym: Option<Dlvsym>,
    dlerror: Option<Dlerror>,
    errno_location: Option<ErrnoLocation>,
    environ: *mut *mut *mut u8,
}

global_asm!(
    ".pushsection .data.rel.ro.gilscope,\"aw\",@progbits",
    ".p2align 3",
    ".globl gilscope_imports",
    ".hidden gilscope_imports",
    ".type gilscope_imports, @object",
    ".size gilscope_imports, 40",
    "gilscope_imports:",
    ".weak dlsym",
    ".quad dlsym",
    ".weak dlvsym",
    ".quad dlvsym",
    ".weak dlerror",
    ".quad dlerror",
    ".weak __errno_location",
    ".quad __errno_location",
    ".weak environ",
    ".quad environ",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "gilscope_imports"]
    static IMPORTS: Imports;
}

/// A function of libc that is looked up once.
pub struct Real {
    name: &'static CStr,
    version: &'static CStr,
    address: AtomicPtr<c_void>,
}

/// `pthread_cond_signal`.
pub static SIGNAL: Real = Real::named(c"pthread_cond_signal");
/// `pthread_cond_timedwait`.
pub static TIMED_WAIT: Real = Real::named(c"pthread_cond_timedwait");
/// `pthread_cond_wait`.
pub static WAIT: Real = Real::named(c"pthread_cond_wait");
/// `pthread_cond_init`.
pub static INIT: Real = Real::named(c"pthread_cond_init");

impl Real {
    const fn named(name: &'static CStr) -> Self {
        Self::versioned(name, VERSION)
    }

    /// The function `name`, of `version` where libc has such.
    pub const fn versioned(name: &'static CStr, version: &'static CStr) -> Self {
        Self { name, version, address: AtomicPtr::new(null_mut()) }
    }

    /// The function's address; null when there is none.
    #[inline(always)]
    pub fn get(&self) -> *mut c_void {
        let known = self.address.load(Ordering::Relaxed);
        if known.is_null() { self.find() } else { known }
    }

    /// Looks the function up. The probe's constructor does so first; constructors of other libraries may call the
    /// interposed functions before.
    #[cold]
    #[inline(never)]
    pub fn find(&self) -> *mut c_void {
        let found =
            keeping_errno(|| next_versioned(self.name, self.version).unwrap_or_else(|| symbol(RTLD_NEXT, self.name)));
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

/// The address of `name` in any loaded object; null when there is none.
pub fn global(name: &CStr) -> *mut c_void {
    keeping_errno(|| symbol(RTLD_DEFAULT, name))
}

/// Has `child` called in every process that this one forks, by the thread that forks it. `owner` stands for this object.
#[cfg(family)]
pub fn call_in_children(child: extern "C" fn(), owner: *const c_void) {
    let glibcs = global(c"__register_atfork");
    let everybodys = global(c"pthread_atfork");
    if !glibcs.is_null() {
        // SAFETY: glibc's function of this name and type.
        let register = unsafe { core::mem::transmute::<*mut c_void, RegisterAtfork>(glibcs) };
        // SAFETY: the handler lives as long as the process: the probe is never unloaded.
        unsafe { register(None, None, Some(child), owner) };
    } else if !everybodys.is_null() {
        // SAFETY: the function that POSIX describes.
        let register = unsafe { core::mem::transmute::<*mut c_void, PthreadAtfork>(everybodys) };
        // SAFETY: as above.
        unsafe { register(None, None, Some(child)) };
    }
}

/// libc's variable `environ`; null when there is none.
pub fn environ() -> *mut *mut *mut u8 {
    imports().environ
}

fn next_versioned(name: &CStr, version: &CStr) -> Option<*mut c_void> {
    let dlvsym = imports().dlvsym?;
    // SAFETY: both strings end in NUL; the loader finds our object by this call's return address.
    let found = unsafe { dlvsym(RTLD_NEXT, name.as_ptr(), version.as_ptr()) };
    (!found.is_null()).then_some(found)
}

fn symbol(scope: *mut c_void, name: &CStr) -> *mut c_void {
    let Some(dlsym) = imports().dlsym else { return null_mut() };
    // SAFETY: the string ends in NUL.
    let found = unsafe { dlsym(scope, name.as_ptr()) };
    if found.is_null()
        && let Some(dlerror) = imports().dlerror
    {
        // SAFETY: forgets our failed look-up, which the program's own next `dlerror` would report.
        unsafe { dlerror() };
    }
    found
}

fn keeping_errno(look_up: impl FnOnce() -> *mut c_void) -> *mut c_void {
    let Some(errno_location) = imports().errno_location else { return look_up() };
    // SAFETY: always gives the calling thread's own variable.
    let errno = unsafe { errno_location() };
    // SAFETY: as above.
    let before = unsafe { errno.read() };
    let found = look_up();
    // SAFETY: as above.
    unsafe { errno.write(before) };
    found
}

fn imports() -> &'static Imports {
    let table = &raw const IMPORTS;
    // SAFETY: the loader has filled the table in before any code of ours runs. Reading it through an opaque pointer
    // keeps the compiler from assuming that a function's address is never null.
    unsafe { &*core::hint::black_box(table) }
}
