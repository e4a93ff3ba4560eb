//! Threads that compute all the time and take turns, each giving way when asked to.

use crate::{
    model::{
        ids::Tid,
        profile::ThreadProfile,
        state::{State, StateClass},
        time::Nanos,
    },
    report::{
        text::words::{count, share},
        verdict::{
            Finding,
            evidence::{Evidence, mean, waited},
        },
    },
};

/// A thread that owns or wants the lock for this share of its life does little else.
const CPU_BOUND: f64 = 0.7;
/// And it computes at least this part of what the busiest does; others only wait.
const PART_OF_BUSIEST: f64 = 0.25;
/// Fewer forced releases are no pattern.
const FEWEST_TURNS: u64 = 10;
/// In switch intervals: a turn lasts one, and what the waiter needs to wake up. Longer ones do not give way when asked to.
const LONGEST_TURN: u64 = 2;

/// Says so if two threads or more do that.
pub(super) fn finding(evidence: &Evidence<'_>) -> Option<Finding> {
    let threads = cpu_bound(evidence);
    let sum = |time: fn(&ThreadProfile) -> Nanos| threads.iter().map(|thread| time(thread)).sum::<Nanos>();
    let (waiting, lifetime) = (sum(waited), sum(|thread| thread.lifetime));
    let turns = threads.iter().map(|thread| thread.forced_releases).sum();
    let turn = mean(sum(|thread| thread.states.get(State::HeldRunning)), turns);
    if threads.len() < 2 || turns < FEWEST_TURNS {
        return None;
    }
    let among = |tid: Option<Tid>| threads.iter().any(|thread| Some(thread.tid) == tid);
    let entries = || evidence.profile.blame.iter().filter(|blame| among(blame.waiter) && among(blame.holder));
    let handoff = sum(|thread| thread.states.get(State::WaitHandoff));
    let number = u64::try_from(threads.len()).unwrap_or(u64::MAX);
    let words = format!(
        "{} CPU-bound threads take turns: {} of each is waiting, at {} forced releases, one every {turn}; \
         more threads will not help",
        count(number),
        share(waiting, lifetime),
        count(turns),
    );
    let remedy = "processes, or a free-threaded build, would run them side by side";
    let finding = Finding::new("cpu_bound_turns", words, remedy)
        .count("threads", number)
        .time("waited_ns", waiting)
        .share("waited_share", waiting, lifetime)
        .count("forced_releases", turns)
        .time("turn_ns", turn);
    let explained = entries().map(|blame| blame.wait).sum::<Nanos>() + handoff;
    Some(finding.explaining(explained).about(evidence.worst_place(entries())))
}

fn cpu_bound<'a>(evidence: &Evidence<'a>) -> Vec<&'a ThreadProfile> {
    let threads = &evidence.profile.threads;
    let computed = |thread: &ThreadProfile| thread.states.get(State::HeldRunning);
    let busiest = threads.iter().map(computed).max().unwrap_or_default();
    let longest_turn = Nanos::from_nanos(evidence.switch_interval().as_nanos().saturating_mul(LONGEST_TURN));
    let is_bound = |thread: &&ThreadProfile| {
        let wants = thread.states.class(StateClass::Inside) + waited(thread);
        let gives_way = thread.forced_releases > 0 && mean(computed(thread), thread.forced_releases) <= longest_turn;
        wants.share_of(thread.lifetime) >= CPU_BOUND
            && computed(thread).share_of(busiest) >= PART_OF_BUSIEST
            && gives_way
    };
    threads.iter().filter(is_bound).collect()
}
