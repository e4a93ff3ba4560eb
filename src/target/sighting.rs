//! What every thread of the target is doing at the moment of attaching: its relation to each lock, and to the CPUs.
//!
//! The locks are read before and after the threads. When they have changed meanwhile, the sweep is repeated, and after
//! a few times every relation is left unknown: it is never guessed, and never two threads own one lock.
//!
//! One thing cannot be told apart: a waiter that was just woken and has not yet run looks like any thread that is outside
//! and runnable. Its next step with the lock corrects that.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use crate::{
    model::{
        address::LiveAddress,
        event::{SeenCpu, SeenRelation, Sighting},
        ids::{LockId, Pid, Tid},
    },
    target::{
        lock::{InterpreterThread, LockSeat, LockWords},
        memory::Memory,
        process::{self, Pause},
    },
};

/// How often the threads are looked at before their relations are called unknown, and how long it is tried again.
const SWEEPS: usize = 8;
const LONGEST: Duration = Duration::from_millis(300);

/// One thread as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenThread {
    /// Which.
    pub tid: Tid,
    /// What it was doing.
    pub sighting: Sighting,
    /// Its name; empty when it could not be read.
    pub name: String,
}

/// A lock with what its words say.
struct Watched<'a> {
    id: LockId,
    seat: &'a LockSeat,
    words: Option<LockWords>,
    owner: Owner,
}

/// Who owns a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Thread(Tid),
    /// Somebody whose thread could not be found, or the words could not be read.
    Unknown,
}

/// Looks at every thread of `pid`; those that end meanwhile are left out.
pub fn look(
    pid: Pid,
    memory: &dyn Memory,
    locks: &[(LockId, LockSeat)],
    threads: impl Fn() -> Vec<InterpreterThread>,
) -> Vec<SeenThread> {
    let begun = Instant::now();
    let mut seen = Vec::new();
    for _ in 0..SWEEPS {
        let states = threads().into_iter().map(|thread| (thread.state, thread.tid)).collect();
        let watched: Vec<Watched<'_>> =
            locks.iter().map(|(id, seat)| Watched::read(*id, seat, memory, &states)).collect();
        seen =
            process::threads(pid).unwrap_or_default().into_iter().filter_map(|tid| see(pid, tid, &watched)).collect();
        if watched.iter().all(|lock| lock.seat.read(memory).ok() == lock.words) {
            return seen;
        }
        if begun.elapsed() > LONGEST {
            break;
        }
    }
    for thread in &mut seen {
        thread.sighting.relation = None;
    }
    seen
}

/// Looks at every thread of `pid` once, while all that happens to the locks is seen, too: what is told of a thread that takes
/// no step meanwhile is right, and that of others will be corrected by their steps. Also tells which locks were free.
pub fn glance(
    pid: Pid,
    memory: &dyn Memory,
    locks: &[(LockId, LockSeat)],
    threads: Vec<InterpreterThread>,
) -> (Vec<(Tid, Sighting)>, Vec<LockId>) {
    let states: HashMap<LiveAddress, Tid> = threads.iter().map(|thread| (thread.state, thread.tid)).collect();
    let owns = |words: LockWords| states.get(&words.last_holder).copied();
    let before: Vec<Option<LockWords>> = locks.iter().map(|(_, seat)| seat.read(memory).ok()).collect();
    let tids = process::threads(pid).unwrap_or_default();
    let looked: Vec<_> =
        tids.into_iter().filter_map(|tid| Some((tid, cpu(pid, tid)?, process::pause(pid, tid).ok()))).collect();
    let watched: Vec<Watched<'_>> = locks
        .iter()
        .zip(&before)
        .map(|((id, seat), words)| {
            // One that changes hands meanwhile is owned by threads that take steps.
            let steady = words.filter(|words| seat.read(memory).is_ok_and(|again| again == *words));
            let owner = match steady {
                None => Owner::Unknown,
                Some(words) if !words.locked => Owner::Nobody,
                Some(words) => owns(words).map_or(Owner::Unknown, Owner::Thread),
            };
            Watched { id: *id, seat, words: *words, owner }
        })
        .collect();
    // Whoever owns a lock has taken it last.
    let known: HashSet<Tid> = threads.iter().map(|thread| thread.tid).collect();
    let took_last = |words: LockWords, tid: Tid| owns(words).map_or(!known.contains(&tid), |owner| owner == tid);
    let may_own = |tid| {
        let moving = watched.iter().filter(|lock| lock.owner == Owner::Unknown);
        moving.map(|lock| lock.words).any(|words| words.is_none_or(|words| took_last(words, tid)))
    };
    let see = |(tid, cpu, pause): (Tid, SeenCpu, Option<Pause>)| {
        let relation = match relation_to(tid, pause, &watched) {
            None if pause.is_some_and(|pause| !has_mutex(pause, &watched)) && !may_own(tid) => {
                Some(SeenRelation::Outside)
            }
            relation => relation,
        };
        (tid, Sighting { relation, cpu: Some(cpu) })
    };
    let seen = looked.into_iter().map(see).collect();
    let free = watched.iter().filter(|lock| lock.owner == Owner::Nobody).map(|lock| lock.id).collect();
    (seen, free)
}

impl<'a> Watched<'a> {
    fn read(id: LockId, seat: &'a LockSeat, memory: &dyn Memory, states: &HashMap<LiveAddress, Tid>) -> Self {
        let words = seat.read(memory).ok();
        let owner = match words {
            None => Owner::Unknown,
            Some(words) if !words.locked => Owner::Nobody,
            Some(words) => states.get(&words.last_holder).map_or(Owner::Unknown, |tid| Owner::Thread(*tid)),
        };
        Self { id, seat, words, owner }
    }
}

fn see(pid: Pid, tid: Tid, locks: &[Watched<'_>]) -> Option<SeenThread> {
    let cpu = cpu(pid, tid)?;
    let relation = relation_to(tid, process::pause(pid, tid).ok(), locks);
    let name = process::thread_name(pid, tid).unwrap_or_default();
    Some(SeenThread { tid, sighting: Sighting { relation, cpu: Some(cpu) }, name })
}

/// `None` for one that has ended.
fn cpu(pid: Pid, tid: Tid) -> Option<SeenCpu> {
    match process::thread_state(pid, tid).ok()? {
        'R' => Some(SeenCpu::Runnable),
        'Z' | 'X' | 'x' => None,
        _ => Some(SeenCpu::Asleep),
    }
}

/// Whether the thread sleeps on a mutex of a lock, which is taken for some instants while acquiring and while releasing.
fn has_mutex(pause: Pause, locks: &[Watched<'_>]) -> bool {
    matches!(pause, Pause::Futex(word) if locks.iter().any(|lock| lock.seat.has_mutex_at(word)))
}

fn relation_to(tid: Tid, pause: Option<Pause>, locks: &[Watched<'_>]) -> Option<SeenRelation> {
    if let Some(lock) = locks.iter().find(|lock| lock.owner == Owner::Thread(tid)) {
        return Some(SeenRelation::Inside(lock.id));
    }
    if let Some(Pause::Futex(word)) = pause
        && let Some(lock) = locks.iter().find(|lock| lock.seat.is_waited_for_at(word))
    {
        return Some(SeenRelation::Waiting(lock.id));
    }
    // Either is possible.
    if pause.is_some_and(|pause| has_mutex(pause, locks)) {
        return None;
    }
    let owners_known = locks.iter().all(|lock| lock.owner != Owner::Unknown);
    (pause.is_some() && owners_known).then_some(SeenRelation::Outside)
}

#[cfg(test)]
mod tests {
    use super::{Owner, Watched, relation_to};
    use crate::{
        model::{
            address::LiveAddress,
            event::SeenRelation,
            ids::{LockId, Tid},
        },
        target::{
            lock::{LockLayout, LockSeat},
            process::Pause,
        },
    };

    fn seat() -> LockSeat {
        let address = LiveAddress::in_target(0x1000);
        LockSeat { address, layout: LockLayout::DEFAULT, interpreter: None, name: "GIL".to_owned() }
    }

    fn tid(raw: i32) -> Tid {
        Tid::from_raw(raw).unwrap()
    }

    fn seen(by: i32, owner: Owner, pause: Option<Pause>) -> Option<SeenRelation> {
        let seat = seat();
        let lock = Watched { id: LockId::from_index(0), seat: &seat, words: None, owner };
        relation_to(tid(by), pause, &[lock])
    }

    fn futex(offset: u64) -> Option<Pause> {
        Some(Pause::Futex(LiveAddress::in_target(0x1000 + offset)))
    }

    #[test]
    fn the_owner_is_inside_wherever_it_sleeps() {
        let inside = Some(SeenRelation::Inside(LockId::from_index(0)));
        assert_eq!(seen(7, Owner::Thread(tid(7)), None), inside);
        assert_eq!(seen(7, Owner::Thread(tid(7)), futex(80)), inside);
    }

    #[test]
    fn a_sleeper_on_either_condition_waits() {
        let waiting = Some(SeenRelation::Waiting(LockId::from_index(0)));
        for offset in [32, 79, 120, 167] {
            assert_eq!(seen(7, Owner::Thread(tid(8)), futex(offset)), waiting, "{offset}");
            assert_eq!(seen(7, Owner::Unknown, futex(offset)), waiting, "{offset}");
        }
    }

    #[test]
    fn a_sleeper_on_the_mutexes_is_unknown() {
        for offset in [80, 119, 168, 207] {
            assert_eq!(seen(7, Owner::Nobody, futex(offset)), None, "{offset}");
        }
    }

    #[test]
    fn everybody_else_is_outside_if_the_owner_is_known() {
        for pause in [Pause::Running, Pause::Elsewhere] {
            assert_eq!(seen(7, Owner::Thread(tid(8)), Some(pause)), Some(SeenRelation::Outside));
            assert_eq!(seen(7, Owner::Unknown, Some(pause)), None);
        }
        assert_eq!(seen(7, Owner::Nobody, futex(208)), Some(SeenRelation::Outside));
        assert_eq!(seen(7, Owner::Nobody, None), None);
    }
}
