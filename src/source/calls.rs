//! From libc calls to lock steps: which condition variable belongs to which lock, and what a call on it means.
//!
//! The event stream of CPython's lock, exact on every version from 3.7 to 3.15: `pthread_cond_timedwait(cond)` is a
//! want, `pthread_cond_signal(switch_cond)` an acquisition, `pthread_cond_signal(cond)` a release,
//! `pthread_cond_wait(switch_cond)` a yield after a forced release.

use crate::{
    model::{address::LiveAddress, ids::Tid, time::MonoNanos},
    target::site::CondFunction,
};

/// A call of one of the three libc functions, at its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// When.
    pub at: MonoNanos,
    /// By which thread.
    pub tid: Tid,
    /// Of which function.
    pub function: CondFunction,
    /// On which condition variable.
    pub cond: LiveAddress,
}
