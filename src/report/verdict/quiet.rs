//! No contention: the lock is not what the program waits for.

use crate::{
    model::{
        state::{State, StateClass},
        time::Nanos,
    },
    report::{
        text::words::share,
        verdict::{Finding, evidence::Evidence},
    },
};

/// Waiting below this share of the threads' busy time, or of the window, would not be noticed if it were gone.
const NOTICEABLE: f64 = 0.02;

/// Says so if threads hardly waited.
pub(super) fn finding(evidence: &Evidence<'_>) -> Option<Finding> {
    let (waited, busy, lifetime) = (evidence.waited(), evidence.busy(), evidence.states.total());
    let shares = [waited.share_of(busy), waited.share_of(evidence.profile.window)];
    let quiet = shares.into_iter().any(|share| share < NOTICEABLE);
    let words = format!(
        "The GIL is not your problem: waiting for it took {} of the threads' lifetime ({waited}). {}",
        share(waited, lifetime),
        instead(evidence)
    );
    quiet.then(|| {
        Finding::new("no_contention", words, "")
            .time("waited_ns", waited)
            .share("waited_share", waited, lifetime)
            .time("busy_ns", busy)
    })
}

/// Where the time went instead.
fn instead(evidence: &Evidence<'_>) -> String {
    let states = evidence.states;
    let asleep = states.get(State::OutsideBlocked);
    let outside = states.class(StateClass::Outside).saturating_sub(asleep);
    let parts = [
        (asleep, "asleep without it"),
        (states.class(StateClass::Inside), "owning it"),
        (outside, "at work without it"),
    ];
    let (time, what) = parts.into_iter().max_by_key(|(time, _)| *time).unwrap_or((Nanos::ZERO, "unknown"));
    format!("Most of it, {}, they were {what}", share(time, states.total()))
}
