//! What happens when the probe is loaded: find out whether this is the process to record, and if so take the session
//! and remove every trace of it.
//!
//! A process without an interpreter keeps the environment and the files untouched, so that wrappers hand them on.

use core::{ffi::c_void, ptr::from_ref, sync::atomic::Ordering};

use crate::{
    emit::{Rehearsal, emit_last},
    environ::Environment,
    gate,
    layout::{CLOCK_MONOTONIC, CLOCK_TSC, COST_EMISSIONS, COUNTING, MAGIC, RECORDING, RECORDS, RING_BYTES, Ring, VERSION},
    meter, park, real,
    system::{self, Part},
};
#[cfg(family)]
use crate::{
    execute,
    family::{self, Door},
    layout::ORIGIN_EXEC,
};

const RING_VARIABLE: &[u8] = b"GILSCOPE_RING_FD=";
const PROBE_VARIABLE: &[u8] = b"GILSCOPE_PROBE_FD=";
const PRELOAD_VARIABLE: &[u8] = b"LD_PRELOAD=";

/// Rounds of [`COST_EMISSIONS`] emissions, the fastest of which counts.
const COST_ROUNDS: u32 = 5;

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = start;

#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = finish;

/// The program calls `exit`, or returns from `main`.
extern "C" fn finish() {
    emit_last();
}

extern "C" fn start() {
    for function in [&real::SIGNAL, &real::TIMED_WAIT, &real::WAIT, &real::INIT] {
        function.find();
    }
    park::begin();
    #[cfg(family)]
    execute::find_functions();
    let Some(environment) = environment() else { return };
    #[cfg(family)]
    if start_as_relative(environment) {
        return;
    }
    let Some(ring_file) = environment.number(RING_VARIABLE) else { return };
    if !is_interpreter() {
        return;
    }
    let probe_file = environment.number(PROBE_VARIABLE);
    if let Some(ring) = map(ring_file) {
        begin(ring);
        system::close(ring_file);
        if let Some(file) = probe_file {
            system::close(file);
        }
    }
    if let Some(file) = probe_file {
        environment.remove_path(PRELOAD_VARIABLE, file);
    }
    [RING_VARIABLE, PROBE_VARIABLE].into_iter().for_each(|variable| environment.remove(variable));
}

/// What a process does that another one of the family has started: it hides the traces whatever it is, since the programs
/// that it executes get them again. `false` when this is no such process.
#[cfg(family)]
fn start_as_relative(environment: Environment<'_>) -> bool {
    let Some([observer, pool, nonce]) = environment.numbers(execute::FAMILY_VARIABLE) else { return false };
    environment.remove(execute::FAMILY_VARIABLE);
    environment.remove_observed(PRELOAD_VARIABLE, observer);
    let door = Door { observer: observer as i32, pool: pool as i32, nonce };
    let Some(directory) = family::join(door) else { return true };
    if !is_interpreter() {
        return true;
    }
    let Some(ring) = family::take_room(directory, ORIGIN_EXEC) else { return true };
    ring.header.parent.store(system::parent_id(), Ordering::Relaxed);
    if !(choose_clock(ring) && gate::prepare() && meter::prepare(ring)) {
        unmap(ring);
        return true;
    }
    open(ring);
    true
}

fn environment() -> Option<Environment<'static>> {
    let variable = real::environ();
    // SAFETY: null or libc's variable.
    let entries = unsafe { variable.as_ref() }?;
    // SAFETY: libc keeps such an array there; constructors run before the program's own code.
    unsafe { Environment::at(*entries) }
}

/// Whether this process has a lock to watch: CPython exports its runtime, gilscope's toy VM a mark of its own.
fn is_interpreter() -> bool {
    !real::global(c"_PyRuntime").is_null() || !real::global(c"gilscope_toyvm").is_null()
}

/// Maps the shared memory in `file`; `None` when it is no such memory.
fn map(file: usize) -> Option<&'static Ring> {
    let start = system::map_sealed(file, Part { whole: RING_BYTES, start: 0, bytes: RING_BYTES })?.cast::<Ring>();
    // SAFETY: a mapping of exactly this size, aligned to pages; the type is valid for any bytes, and the memory file
    // cannot shrink.
    let ring = unsafe { &*start };
    let header = &ring.header;
    if header.magic.load(Ordering::Relaxed) == MAGIC && header.version.load(Ordering::Relaxed) == VERSION {
        return Some(ring);
    }
    unmap(ring);
    None
}

/// Takes the session and opens the gate, unless another process was first or this kernel or libc lacks what we need.
fn begin(ring: &'static Ring) {
    #[cfg(family)]
    let directory = Door::of(&ring.header).and_then(family::join);
    if !(choose_clock(ring) && gate::prepare() && meter::prepare(ring) && claim(ring)) {
        unmap(ring);
        #[cfg(family)]
        if let Some(ring) = directory.and_then(|directory| family::take_room(directory, ORIGIN_EXEC)) {
            // Another program of the same wrapper was first.
            ring.header.parent.store(system::parent_id(), Ordering::Relaxed);
            if choose_clock(ring) && gate::prepare() && meter::prepare(ring) {
                open(ring);
            }
        }
        return;
    }
    open(ring);
}

/// From now on calls are recorded into `ring`.
fn open(ring: &'static Ring) {
    #[cfg(family)]
    family::recording_into(ring);
    gate::open(ring);
    measure_cost(ring);
    // Release: whoever sees the process ready sees its cost and its emptied first chunk.
    ring.header.ready.store(1, Ordering::Release);
}

fn claim(ring: &Ring) -> bool {
    let claimed = &ring.header.claimed;
    claimed.compare_exchange(0, system::process_id(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

fn choose_clock(ring: &Ring) -> bool {
    match ring.header.clock.load(Ordering::Relaxed) {
        CLOCK_TSC => true,
        CLOCK_MONOTONIC => {
            let clock_gettime = real::global(c"clock_gettime");
            system::use_monotonic_clock(clock_gettime);
            !clock_gettime.is_null()
        }
        _ => false,
    }
}

/// Times some emissions into this thread's first chunk, then takes them back.
fn measure_cost(ring: &Ring) {
    let Some(rehearsal) = Rehearsal::begin() else { return };
    let mut fastest = u64::MAX;
    for _ in 0..COST_ROUNDS {
        let mut left = COST_EMISSIONS;
        let mut taken = 0;
        while left > 0 {
            let batch = left.min(at_once(ring));
            rehearsal.rewind();
            let begun = system::now();
            for _ in 0..batch {
                Rehearsal::emit();
            }
            taken += system::now().wrapping_sub(begun);
            left -= batch;
        }
        fastest = fastest.min(taken);
    }
    rehearsal.rewind();
    ring.header.cost.store(fastest, Ordering::Relaxed);
    ring.header.counting_cost.store(counting_cost(ring), Ordering::Relaxed);
}

/// How many emissions have room in a chunk, whatever counters say.
fn at_once(ring: &Ring) -> u32 {
    match meter::wanted(ring) {
        0 => RECORDS as u32,
        events => (RECORDS / (2 + 2 * events)) as u32,
    }
}

/// Times calls that are counted, as if they were acquisitions of a lock and releases in turn; nobody else uses the memory yet.
fn counting_cost(ring: &Ring) -> u64 {
    let [lock, ..] = &ring.header.locks;
    lock.switch_cond.store(Rehearsal::COND, Ordering::Relaxed);
    lock.cond.store(Rehearsal::OTHER_COND, Ordering::Relaxed);
    ring.header.mode.store(COUNTING, Ordering::Relaxed);
    let mut fastest = u64::MAX;
    for _ in 0..COST_ROUNDS {
        let begun = system::now();
        for _ in 0..COST_EMISSIONS / 2 {
            Rehearsal::emit();
            Rehearsal::emit_other();
        }
        fastest = fastest.min(system::now().wrapping_sub(begun));
    }
    ring.header.mode.store(RECORDING, Ordering::Relaxed);
    lock.cond.store(0, Ordering::Relaxed);
    lock.switch_cond.store(0, Ordering::Relaxed);
    lock.acquisitions.store(0, Ordering::Relaxed);
    fastest
}

fn unmap(ring: &'static Ring) {
    system::unmap(from_ref(ring).cast_mut().cast::<c_void>(), RING_BYTES);
}
