//! The one lock, with the rules and the memory layout of CPython's `_gil_runtime_state` (3.7 to 3.15).
//!
//! Whoever traces the libc calls sees what CPython does: `pthread_cond_timedwait(cond)` wants,
//! `pthread_cond_signal(switch_cond)` has, `pthread_cond_signal(cond)` had, `pthread_cond_wait(switch_cond)` gave way
//! on demand. Acquisition and release both signal while `mutex` is held, so their order is total.
#![expect(unsafe_code, reason = "CPython's lock is made of pthread mutexes and condition variables")]

use std::{
    cell::UnsafeCell,
    fmt,
    mem::{MaybeUninit, offset_of},
    sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering},
    time::Duration,
};

use crate::toyvm::{
    breaker::EvalBreaker,
    clock,
    thread::ThreadRecord,
    usdt,
    witness::{Release, Step, Witness},
};

/// The lock. Its address must not change once [`GlobalLock::new`] has made it.
#[repr(C)]
pub struct GlobalLock {
    interval_us: u64,
    last_holder: AtomicPtr<ThreadRecord>,
    locked: AtomicI32,
    switch_number: AtomicU64,
    cond: UnsafeCell<libc::pthread_cond_t>,
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    switch_cond: UnsafeCell<libc::pthread_cond_t>,
    switch_mutex: UnsafeCell<libc::pthread_mutex_t>,
}

const _: () = {
    assert!(offset_of!(GlobalLock, interval_us) == 0);
    assert!(offset_of!(GlobalLock, last_holder) == 8);
    assert!(offset_of!(GlobalLock, locked) == 16);
    assert!(offset_of!(GlobalLock, switch_number) == 24);
    assert!(offset_of!(GlobalLock, cond) == 32);
    assert!(offset_of!(GlobalLock, mutex) == 80);
    assert!(offset_of!(GlobalLock, switch_cond) == 120);
    assert!(offset_of!(GlobalLock, switch_mutex) == 168);
    assert!(size_of::<GlobalLock>() == 208);
};

/// Who takes or releases the lock.
#[derive(Debug)]
pub struct Party {
    /// The thread.
    pub record: &'static ThreadRecord,
    /// What it notes for the ground truth, when there is to be one.
    pub witness: Option<Witness>,
}

impl Party {
    fn approach(&mut self) {
        if let Some(witness) = &mut self.witness {
            witness.approach();
        }
    }

    fn note(&mut self, step: Step) {
        if let Some(witness) = &mut self.witness {
            witness.note(step);
        }
    }

    fn settle(&mut self) {
        if let Some(witness) = &mut self.witness {
            witness.settle();
        }
    }
}

impl GlobalLock {
    /// A free lock.
    pub fn new(interval: Duration) -> Box<Self> {
        let lock = Box::new(Self {
            interval_us: u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1),
            last_holder: AtomicPtr::default(),
            locked: AtomicI32::new(0),
            switch_number: AtomicU64::new(0),
            cond: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
            mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
            switch_cond: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
            switch_mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
        });
        make_monotonic(&lock.cond);
        make_monotonic(&lock.switch_cond);
        lock
    }

    /// The lock's address, as the trace points and the published layout give it.
    pub fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Takes the lock, and asks its holder to give way after each switch interval of fruitless waiting.
    pub fn take(&self, party: &mut Party, breaker: &EvalBreaker) {
        party.approach();
        lock(&self.mutex);
        while self.is_locked() {
            self.wait_a_slice(party, breaker);
        }
        lock(&self.switch_mutex);
        self.locked.store(1, Ordering::Relaxed);
        let own = std::ptr::from_ref(party.record).cast_mut();
        if self.last_holder.load(Ordering::Relaxed) != own {
            self.last_holder.store(own, Ordering::Relaxed);
            self.switch_number.fetch_add(1, Ordering::Relaxed);
        }
        party.note(Step::Acquired);
        usdt::lock_acquired(self.address());
        signal(&self.switch_cond);
        unlock(&self.switch_mutex);
        breaker.clear_drop();
        unlock(&self.mutex);
        party.settle();
    }

    /// Releases the lock; when somebody has asked for it, sleeps until another thread has taken it.
    pub fn release(&self, party: &mut Party, breaker: &EvalBreaker, release: Release) {
        let own = std::ptr::from_ref(party.record).cast_mut();
        party.approach();
        if release != Release::Final {
            self.last_holder.store(own, Ordering::Relaxed);
        }
        lock(&self.mutex);
        self.locked.store(0, Ordering::Relaxed);
        party.note(Step::Released(release));
        usdt::lock_released(self.address());
        signal(&self.cond);
        unlock(&self.mutex);
        if release != Release::Forced {
            party.settle();
        }
        if release != Release::Final && breaker.drop_requested() {
            self.yield_to_another(party, breaker);
        }
        if release == Release::Forced {
            // Not before: a reading would give the others time to come first, and there would be fewer yields.
            party.settle();
        }
    }

    fn wait_a_slice(&self, party: &mut Party, breaker: &EvalBreaker) {
        let before = self.switch_number.load(Ordering::Relaxed);
        let until = clock::deadline(self.interval_us);
        party.note(Step::Want);
        usdt::lock_wait(self.address());
        let timed_out = wait_until(&self.cond, &self.mutex, &until);
        if timed_out && self.is_locked() && self.switch_number.load(Ordering::Relaxed) == before {
            breaker.request_drop();
        }
    }

    /// One untimed wait, as in CPython: the acquisition that ends it signals after it has written `last_holder`.
    fn yield_to_another(&self, party: &mut Party, breaker: &EvalBreaker) {
        lock(&self.switch_mutex);
        if std::ptr::eq(self.last_holder.load(Ordering::Relaxed), party.record) {
            breaker.clear_drop();
            party.note(Step::Yielded);
            usdt::lock_yield(self.address());
            wait(&self.switch_cond, &self.switch_mutex);
        }
        unlock(&self.switch_mutex);
    }

    fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed) != 0
    }
}

impl fmt::Debug for GlobalLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlobalLock").field("locked", &self.locked).finish_non_exhaustive()
    }
}

// SAFETY: the pthread objects are made to be shared between threads and only libc touches them; the rest is atomic or
// never changes.
unsafe impl Sync for GlobalLock {}

fn make_monotonic(cond: &UnsafeCell<libc::pthread_cond_t>) {
    let mut attributes = MaybeUninit::<libc::pthread_condattr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: the pointer is valid for a write.
    expect_success("pthread_condattr_init", unsafe { libc::pthread_condattr_init(attributes) });
    // SAFETY: the attributes have been initialised above.
    let result = unsafe { libc::pthread_condattr_setclock(attributes, libc::CLOCK_MONOTONIC) };
    expect_success("pthread_condattr_setclock", result);
    // SAFETY: nobody uses the condition variable yet, and the attributes are initialised.
    expect_success("pthread_cond_init", unsafe { libc::pthread_cond_init(cond.get(), attributes) });
}

fn lock(mutex: &UnsafeCell<libc::pthread_mutex_t>) {
    // SAFETY: the mutex is initialised and does not move while it is borrowed.
    expect_success("pthread_mutex_lock", unsafe { libc::pthread_mutex_lock(mutex.get()) });
}

fn unlock(mutex: &UnsafeCell<libc::pthread_mutex_t>) {
    // SAFETY: as for `lock`; the calling thread has locked it.
    expect_success("pthread_mutex_unlock", unsafe { libc::pthread_mutex_unlock(mutex.get()) });
}

fn signal(cond: &UnsafeCell<libc::pthread_cond_t>) {
    // SAFETY: the condition variable is initialised and does not move while it is borrowed.
    expect_success("pthread_cond_signal", unsafe { libc::pthread_cond_signal(cond.get()) });
}

fn wait(cond: &UnsafeCell<libc::pthread_cond_t>, mutex: &UnsafeCell<libc::pthread_mutex_t>) {
    // SAFETY: both are initialised and do not move while they are borrowed; the calling thread has locked the mutex.
    expect_success("pthread_cond_wait", unsafe { libc::pthread_cond_wait(cond.get(), mutex.get()) });
}

/// Whether the wait ended by time.
fn wait_until(
    cond: &UnsafeCell<libc::pthread_cond_t>,
    mutex: &UnsafeCell<libc::pthread_mutex_t>,
    until: &libc::timespec,
) -> bool {
    // SAFETY: as for `wait`.
    let result = unsafe { libc::pthread_cond_timedwait(cond.get(), mutex.get(), until) };
    if result != libc::ETIMEDOUT {
        expect_success("pthread_cond_timedwait", result);
    }
    result == libc::ETIMEDOUT
}

/// libc refuses these calls only when their preconditions are broken, after which nothing can be relied on.
fn expect_success(call: &str, result: libc::c_int) {
    assert_eq!(result, 0, "{call} failed");
}
