//! Hand-off: the lock is free, but whoever waits for it is not awake yet.

use crate::{
    model::state::State,
    report::{
        text::words::{count, share},
        verdict::{
            Finding,
            evidence::{Evidence, mean},
        },
    },
};

/// Says how much of the waiting that was.
pub(super) fn finding(evidence: &Evidence<'_>) -> Option<Finding> {
    let handoff = evidence.states.get(State::WaitHandoff);
    let waits: u64 = evidence.profile.locks.iter().map(|lock| lock.waits).sum();
    let each = mean(handoff, waits);
    let words = format!(
        "Hand-off: for {} of all waiting ({handoff}) nobody owned the GIL: {each} in each of {} waits until the thread that was \
         woken had a CPU",
        share(handoff, evidence.waited()),
        count(waits),
    );
    let finding = Finding::new("handoff", words, "fewer and longer holds; a CPU to spare for those who are woken")
        .time("handoff_ns", handoff)
        .share("handoff_share", handoff, evidence.waited())
        .count("waits", waits)
        .time("mean_handoff_ns", each);
    (waits > 0).then(|| finding.explaining(handoff))
}
