//! Page faults under the lock: memory that is given back to the kernel and taken anew while others wait.

use crate::{
    model::{
        counts::Counter,
        state::{State, StateClass},
        time::Nanos,
    },
    report::{
        text::words::{count, share},
        verdict::{Finding, evidence::Evidence},
    },
};

/// Below this part of the time on a CPU inside, the lock would hardly be free any earlier without them.
const NOTICEABLE: f64 = 0.1;

/// Says how much of the time inside page faults take, if each takes as long as one that was measured.
pub(super) fn finding(evidence: &Evidence<'_>) -> Option<Finding> {
    let (cost, counts) = (evidence.profile.fault_cost?, evidence.profile.counts()?);
    let (minor, running) =
        (counts.class(StateClass::Inside).get(Counter::MinorFaults), evidence.states.get(State::HeldRunning));
    let taken = Nanos::from_nanos(cost.as_nanos().saturating_mul(minor)).min(running);
    let queued = evidence.states.get(State::WaitQueued);
    let words = format!(
        "Page faults: memory is taken from the kernel while the GIL is held, {} pages, which takes about {} of the time inside \
         ({taken}, at {cost} a page here)",
        count(minor),
        share(taken, running),
    );
    let remedy = "keep and reuse large buffers; have malloc keep freed memory, such as by MALLOC_TRIM_THRESHOLD_ and \
                  MALLOC_MMAP_THRESHOLD_ in the environment; huge pages";
    let finding = Finding::new("page_faults_inside", words, remedy)
        .count("minor_faults", minor)
        .time("fault_ns", cost)
        .time("taken_ns", taken)
        .share("taken_share", taken, running);
    // While they took the lock's time, whoever waited waited for them.
    let explained =
        u128::from(queued.as_nanos()) * u128::from(taken.as_nanos()) / u128::from(running.as_nanos().max(1));
    let explained = u64::try_from(explained).map_or(queued, Nanos::from_nanos);
    (taken.share_of(running) >= NOTICEABLE).then(|| finding.explaining(explained))
}
