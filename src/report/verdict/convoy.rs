//! The convoy: threads that want the lock for a moment wait a whole switch interval for it, each time, behind one that computes.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    model::{ids::Tid, profile::ThreadProfile, state::State, time::Nanos},
    report::{
        text::words::share,
        verdict::{
            Finding,
            evidence::{Evidence, mean, shown, waited},
        },
    },
};

/// Two fifths of the default switch interval: shorter waits on average are ordinary contention.
const LONG_WAIT: Nanos = Nanos::from_millis(2);
/// A victim computes for at most this part of what it waits for.
const SHORT_HOLD: f64 = 0.2;
/// Fewer waits are no pattern.
const FEWEST_WAITS: u64 = 10;
/// The hog causes at least this share of what its victims wait.
const HOG: f64 = 0.5;

/// Says so if there are such threads.
pub(super) fn finding(evidence: &Evidence<'_>) -> Option<Finding> {
    let victims: Vec<&ThreadProfile> = evidence.profile.threads.iter().filter(|thread| is_victim(thread)).collect();
    let is_one = |tid: Option<Tid>| victims.iter().any(|thread| Some(thread.tid) == tid);
    let mut holders: BTreeMap<Tid, Nanos> = BTreeMap::new();
    let charged = || evidence.profile.blame.iter().filter(|blame| is_one(blame.waiter) && !is_one(blame.holder));
    for (holder, wait) in charged().filter_map(|blame| Some((blame.holder?, blame.wait))) {
        *holders.entry(holder).or_default() += wait;
    }
    let (hog, behind) = holders.into_iter().max_by_key(|(tid, wait)| (*wait, Reverse(*tid)))?;
    let sum = |time: fn(&ThreadProfile) -> Nanos| victims.iter().map(|thread| time(thread)).sum::<Nanos>();
    if behind.share_of(sum(waited)) < HOG {
        return None;
    }
    let wait = mean(sum(waited), victims.iter().map(|thread| thread.waits).sum());
    let hold = mean(sum(computed), victims.iter().map(|thread| thread.holds).sum());
    let place = evidence.worst_place(charged().filter(|blame| blame.holder == Some(hog)));
    // Behind one that does not give way, it is not the switch interval that they wait for.
    if place.as_ref().is_some_and(|place| evidence.keeps_lock(place)) {
        return None;
    }
    let at = place.as_ref().map(shown);
    let who = if victims.len() == 1 { "1 thread waits".to_owned() } else { format!("{} threads wait", victims.len()) };
    let words = format!(
        "Convoy: {who} {wait} at a time for holds of {hold}, behind {}, mostly in {}: {behind}, {} of all waiting. Who computes \
         without a pause gives way only one switch interval ({}) after being asked",
        evidence.names.label(hog),
        at.as_deref().unwrap_or("unknown code"),
        share(behind, evidence.waited()),
        evidence.switch_interval(),
    );
    let remedy = "move that work to a process, or to C code that releases the GIL; a shorter sys.setswitchinterval() cuts each \
                  wait at the price of more switches";
    let finding = Finding::new("convoy", words, remedy)
        .count("victims", u64::try_from(victims.len()).unwrap_or(u64::MAX))
        .time("mean_wait_ns", wait)
        .time("mean_hold_ns", hold)
        .count("hog_tid", u64::try_from(hog.raw()).unwrap_or_default())
        .name("function", at.as_deref())
        .time("inflicted_wait_ns", behind)
        .share("inflicted_share", behind, evidence.waited());
    Some(finding.explaining(behind).about(place))
}

fn is_victim(thread: &ThreadProfile) -> bool {
    let wait = mean(waited(thread), thread.waits);
    let hold = mean(computed(thread), thread.holds);
    thread.waits >= FEWEST_WAITS && wait >= LONG_WAIT && hold.share_of(wait) <= SHORT_HOLD
}

fn computed(thread: &ThreadProfile) -> Nanos {
    thread.states.get(State::HeldRunning)
}
