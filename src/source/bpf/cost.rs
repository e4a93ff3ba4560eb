//! What one record costs the thread that makes it, measured on this machine and this very process.

use std::sync::OnceLock;

use crate::{
    bpf::ring::Ring,
    model::{ids::Pid, time::Nanos},
    source::{
        bpf::programs::Programs,
        uprobe::cost::{CALLS, fastest_batch_on, own_signal_site},
    },
};

/// Measured once: taking a link away again makes the kernel wait for all CPUs.
static MEASURED: OnceLock<Option<Nanos>> = OnceLock::new();
static METERED: OnceLock<Option<Nanos>> = OnceLock::new();

/// The time that a record adds to the call it is made at, and what is read there with it; `None` when our own calls made none.
pub(super) fn measure(programs: &Programs, ring: &mut Ring) -> Option<Nanos> {
    if !programs.meter() {
        return *MEASURED.get_or_init(|| measure_now(programs, ring));
    }
    *METERED.get_or_init(|| {
        // Counters are read at calls on locks alone.
        let mut cond = Box::new(libc::PTHREAD_COND_INITIALIZER);
        programs.pretend_lock(std::ptr::from_ref(&*cond) as u64).ok()?;
        let cost = measure_on(&mut cond, programs, ring);
        programs.pretend_lock(0).ok()?;
        cost
    })
}

fn measure_now(programs: &Programs, ring: &mut Ring) -> Option<Nanos> {
    let mut cond = libc::PTHREAD_COND_INITIALIZER;
    measure_on(&mut cond, programs, ring)
}

fn measure_on(cond: &mut libc::pthread_cond_t, programs: &Programs, ring: &mut Ring) -> Option<Nanos> {
    let site = own_signal_site()?;
    let us = Pid::from_raw(std::process::id().cast_signed())?;
    let without = fastest_batch_on(cond);
    let links = programs.links_to(std::slice::from_ref(&site), us).ok()?;
    let with = fastest_batch_on(cond);
    drop(links);
    let mut records = 0_u32;
    ring.read(|_| records += 1);
    let cost = with.saturating_sub(without).as_nanos() / u64::from(CALLS);
    (records > 0).then(|| Nanos::from_nanos(cost))
}
