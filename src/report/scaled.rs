//! The profile as a person should read it: where events were taken in windows, amounts scaled to the whole by the estimates
//! that were made with the profile. Nothing is estimated here, and nothing is changed where everything was observed.
//!
//! Invariant: as in any profile, a thread's states sum to its lifetime, and their parts by stack to the states.

use std::borrow::Cow;

use crate::model::{
    estimate::{Estimates, LockEstimate, Method, ThreadEstimate},
    profile::{LockProfile, Profile, StackTime, ThreadProfile},
    state::{State, StateTimes},
    time::Nanos,
};

/// The profile with what was seen in windows scaled to the whole.
pub(super) fn scaled(profile: &Profile) -> Cow<'_, Profile> {
    match &profile.estimates {
        Some(estimates) if estimates.method == Method::Windows => Cow::Owned(scaled_by(profile, estimates)),
        _ => Cow::Borrowed(profile),
    }
}

fn scaled_by(profile: &Profile, estimates: &Estimates) -> Profile {
    let mut scaled = profile.clone();
    for thread in &mut scaled.threads {
        if let Some(estimate) = estimates.threads.iter().find(|estimate| estimate.tid == thread.tid) {
            scale_thread(thread, estimate);
        }
    }
    for (lock, seen) in scaled.locks.iter_mut().zip(&profile.locks) {
        if let Some(estimate) = estimates.locks.iter().find(|estimate| estimate.lock == lock.id) {
            scale_lock(lock, estimate, profile.window);
        }
        let held = Ratio { of: lock.held.as_nanos(), to: seen.held.as_nanos() };
        let contended = Ratio { of: lock.contended.as_nanos(), to: seen.contended.as_nanos() };
        let holds = Ratio { of: lock.holds, to: seen.holds };
        lock.forced_releases = holds.apply(seen.forced_releases);
        lock.long_holds = holds.apply(seen.long_holds);
        let sites = scaled.hold_sites.iter_mut().filter(|site| site.lock == lock.id).map(|site| &mut site.tally);
        for tally in sites.chain([&mut lock.unseen]) {
            tally.holds = holds.apply(tally.holds);
            tally.counts = tally.counts.map(|count| holds.apply(count));
            tally.forced = holds.apply(tally.forced);
            tally.held = held.time(tally.held);
            tally.contended = contended.time(tally.contended);
        }
        let blamed = Ratio { of: lock.blamed.as_nanos(), to: seen.blamed.as_nanos() };
        for blame in scaled.blame.iter_mut().filter(|blame| blame.lock == lock.id) {
            blame.wait = blamed.time(blame.wait);
        }
    }
    scaled.quality.unknown = scaled.threads.iter().map(|thread| thread.states.get(State::Unknown)).sum();
    scaled
}

/// How much one amount is of another; of nothing, nothing can be made.
#[derive(Debug, Clone, Copy)]
struct Ratio {
    of: u64,
    to: u64,
}

impl Ratio {
    fn apply(self, amount: u64) -> u64 {
        if self.to == 0 {
            return amount;
        }
        let product = u128::from(amount) * u128::from(self.of) / u128::from(self.to);
        u64::try_from(product).unwrap_or(u64::MAX)
    }

    fn time(self, time: Nanos) -> Nanos {
        Nanos::from_nanos(self.apply(time.as_nanos()))
    }
}

fn scale_thread(thread: &mut ThreadProfile, estimate: &ThreadEstimate) {
    if estimate.states.is_empty() {
        return;
    }
    let states = states_of(thread.lifetime, estimate);
    for state in State::ALL {
        let ratio = Ratio { of: states.get(state).as_nanos(), to: thread.states.get(state).as_nanos() };
        let mut parts: Vec<&mut StackTime> = thread.stacks.iter_mut().filter(|part| part.state == state).collect();
        parts.iter_mut().for_each(|part| part.time = ratio.time(part.time));
        let sum: Nanos = parts.iter().map(|part| part.time).sum();
        // What rounding has left over.
        if let Some(largest) = parts.into_iter().max_by_key(|part| part.time) {
            largest.time += states.get(state).saturating_sub(sum);
        }
    }
    thread.states = states;
}

/// The likeliest times, and what is left of the life as unknown. Estimates of states are made one by one, so that they may
/// exceed a life together: then all of them shrink.
fn states_of(lifetime: Nanos, estimate: &ThreadEstimate) -> StateTimes {
    let sum: Nanos = estimate.states.iter().map(|part| part.time.value).sum();
    let ratio = Ratio { of: lifetime.min(sum).as_nanos(), to: sum.as_nanos() };
    let mut states = StateTimes::default();
    for part in &estimate.states {
        states.add(part.state, ratio.time(part.time.value));
    }
    let left = lifetime.saturating_sub(states.total());
    // A few nanoseconds of rounding are no ignorance.
    let rest = if left < Nanos::from_nanos(1_000) { largest(&states) } else { State::Unknown };
    states.add(rest, left);
    states
}

fn largest(states: &StateTimes) -> State {
    states.iter().max_by_key(|(_, time)| *time).map_or(State::Unknown, |(state, _)| state)
}

fn scale_lock(lock: &mut LockProfile, estimate: &LockEstimate, window: Nanos) {
    if let Some(held) = estimate.held {
        lock.held = held.value;
        (lock.free, lock.unknown) = (window.saturating_sub(held.value), Nanos::ZERO);
    }
    if let Some(contended) = estimate.contended {
        lock.contended = contended.value;
    }
    if let Some(waited) = estimate.waited {
        let ratio = Ratio { of: waited.value.as_nanos(), to: lock.wait_total.as_nanos() };
        (lock.handoff, lock.wait_unknown) = (ratio.time(lock.handoff), ratio.time(lock.wait_unknown));
        lock.wait_total = waited.value;
        lock.blamed = waited.value.saturating_sub(lock.handoff + lock.wait_unknown);
    }
    lock.holds =
        lock.counted.map(|counted| counted.holds).or(estimate.holds.map(|holds| holds.value)).unwrap_or(lock.holds);
    lock.waits = lock
        .counted
        .and_then(|counted| counted.waits)
        .or(estimate.waits.map(|waits| waits.value))
        .unwrap_or(lock.waits);
}
