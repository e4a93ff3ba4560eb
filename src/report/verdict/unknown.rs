//! Whether too little is known to judge.

use crate::{
    model::{state::State, time::Nanos},
    report::{
        text::words::{count, share},
        verdict::{Finding, evidence::Evidence},
    },
};

/// From here on a share of a tenth, the least that is worth saying, may be wrong by its own size.
const DOUBTFUL: f64 = 0.1;
/// From here on most of the truth is missing, whatever the rest says.
const HOPELESS: f64 = 0.5;

/// How much doubt there is.
#[derive(Debug)]
pub(super) enum Doubt {
    /// None that matters.
    None,
    /// Findings may be wrong.
    Some(Finding),
    /// Findings would be guesses.
    TooMuch(Finding),
}

/// The doubt about a profile.
pub(super) fn doubt(evidence: &Evidence<'_>) -> Doubt {
    let (unknown, lifetime) = (evidence.states.get(State::Unknown), evidence.states.total());
    let amount = unknown.share_of(lifetime);
    let finding = finding(evidence, unknown, lifetime);
    match amount {
        _ if lifetime == Nanos::ZERO || amount >= HOPELESS => Doubt::TooMuch(finding),
        DOUBTFUL.. => Doubt::Some(finding),
        _ => Doubt::None,
    }
}

fn finding(evidence: &Evidence<'_>, unknown: Nanos, lifetime: Nanos) -> Finding {
    let lost = evidence.profile.quality.lost_events;
    let (words, remedy) = match lost {
        _ if lifetime == Nanos::ZERO => ("No thread was observed: nothing can be judged".to_owned(), ""),
        0 => (
            format!("{} of the threads' time is unknown: nothing was seen of them then", share(unknown, lifetime)),
            "record for longer: a thread is known from its first event on",
        ),
        lost => (
            format!(
                "{} of the threads' time is unknown, since {} events were lost",
                share(unknown, lifetime),
                count(lost)
            ),
            "give the machine a CPU to spare, or record a calmer stretch",
        ),
    };
    Finding::new("too_much_unknown", words, remedy)
        .time("unknown_ns", unknown)
        .share("unknown_share", unknown, lifetime)
        .count("lost_events", lost)
}
