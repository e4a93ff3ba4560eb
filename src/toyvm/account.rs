//! From the threads' notes to the ground truth's figures. Pure: no clock, no kernel.
//!
//! Every nanosecond of a thread's life falls into exactly one state, every nanosecond of the window finds the lock
//! either held or free, and every nanosecond of a wait is charged to the owner of that moment or to the hand-over.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::toyvm::witness::{Note, Release, Step, Testimony};

/// A duration for each of the profiler's nine states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StateTimes {
    /// Owns the lock, on a CPU.
    pub held_running: u64,
    /// Owns the lock, runnable without a CPU.
    pub held_preempted: u64,
    /// Owns the lock, asleep.
    pub held_blocked: u64,
    /// Wants the lock while another thread owns it.
    pub wait_queued: u64,
    /// Wants the lock while nobody owns it.
    pub wait_handoff: u64,
    /// Neither owns nor wants it, on a CPU.
    pub outside_running: u64,
    /// The same, runnable without a CPU.
    pub outside_preempted: u64,
    /// The same, asleep.
    pub outside_blocked: u64,
    /// Always 0: a thread knows itself.
    pub unknown: u64,
}

/// What one thread did with the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ThreadAccount {
    /// From its first note to its last.
    pub lifetime_ns: u64,
    /// Acquisitions.
    pub holds: u64,
    /// Intervals between wanting and having.
    pub waits: u64,
    /// Releases at the eval breaker, on demand.
    pub forced_releases: u64,
    /// Sleeps until another thread had the lock, after forced and voluntary releases alike.
    pub yields: u64,
    /// Runnable without a CPU, whatever its relation to the lock.
    pub run_queue_delay_ns: u64,
    /// The lifetime by state.
    pub states_ns: StateTimes,
}

/// What happened to the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LockAccount {
    /// Somebody owned it.
    pub held_ns: u64,
    /// Nobody owned it.
    pub free_ns: u64,
    /// Somebody owned it and at least one other thread waited.
    pub contended_ns: u64,
    /// Sum over all threads of waiting while nobody owned it.
    pub handoff_ns: u64,
    /// Acquisitions.
    pub holds: u64,
    /// Waits.
    pub waits: u64,
    /// Releases on demand.
    pub forced_releases: u64,
    /// Sleeps until another thread had the lock.
    pub yields: u64,
}

/// All figures of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// In the order of the testimonies.
    pub threads: Vec<ThreadAccount>,
    /// The lock.
    pub lock: LockAccount,
    /// Time waited, by indices of the waiting and of the owning thread.
    pub blame: BTreeMap<(usize, usize), u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Absent,
    Outside,
    Waiting,
    Inside,
}

/// Who owns the lock at a moment, and who waits for it.
#[derive(Debug, Default)]
struct Scene {
    owner: Option<usize>,
    waiters: BTreeSet<usize>,
}

/// Works out the figures. The window is the time from the earliest note to the latest.
pub fn account(testimonies: &[Testimony]) -> Account {
    let mut result = Account { threads: testimonies.iter().map(own_figures).collect(), ..Account::default() };
    let mut scene = Scene::default();
    let mut last = None;
    for (at, thread, position) in in_order(testimonies) {
        result.elapse(&scene, at - last.unwrap_or(at));
        last = Some(at);
        scene.change(thread, relation_after(&testimonies[thread].notes, position));
    }
    for thread in &result.threads {
        result.lock.holds += thread.holds;
        result.lock.waits += thread.waits;
        result.lock.forced_releases += thread.forced_releases;
        result.lock.yields += thread.yields;
    }
    result
}

/// Every note as (time, thread, position). Of a release and an acquisition in the same nanosecond the release comes
/// first.
pub fn in_order(testimonies: &[Testimony]) -> Vec<(u64, usize, usize)> {
    let mut all = Vec::new();
    for (thread, testimony) in testimonies.iter().enumerate() {
        all.extend(testimony.notes.iter().enumerate().map(|(position, note)| (note.at, thread, position)));
    }
    all.sort_by_key(|(at, thread, position)| (*at, testimonies[*thread].notes[*position].step == Step::Acquired));
    all
}

impl Scene {
    fn change(&mut self, thread: usize, relation: Relation) {
        if self.owner == Some(thread) {
            self.owner = None;
        }
        self.waiters.remove(&thread);
        match relation {
            Relation::Inside => self.owner = Some(thread),
            Relation::Waiting => {
                self.waiters.insert(thread);
            }
            Relation::Outside | Relation::Absent => {}
        }
    }
}

impl Account {
    fn elapse(&mut self, scene: &Scene, time: u64) {
        for waiter in &scene.waiters {
            let states = &mut self.threads[*waiter].states_ns;
            match scene.owner {
                Some(owner) => {
                    states.wait_queued += time;
                    *self.blame.entry((*waiter, owner)).or_default() += time;
                }
                None => {
                    states.wait_handoff += time;
                    self.lock.handoff_ns += time;
                }
            }
        }
        match scene.owner {
            Some(_) => self.lock.held_ns += time,
            None => self.lock.free_ns += time,
        }
        if scene.owner.is_some() && !scene.waiters.is_empty() {
            self.lock.contended_ns += time;
        }
    }
}

/// Everything about a thread that does not depend on the others: its counts, and its time inside and outside.
fn own_figures(testimony: &Testimony) -> ThreadAccount {
    let mut figures = ThreadAccount::default();
    let notes = &testimony.notes;
    if let [first, .., last] = notes.as_slice() {
        figures.run_queue_delay_ns = last.ends.delay.saturating_sub(first.begins.delay);
    }
    for (position, note) in notes.iter().enumerate() {
        let relation = relation_after(notes, position);
        figures.holds += u64::from(note.step == Step::Acquired);
        let before = position.checked_sub(1).map(|before| relation_after(notes, before));
        figures.waits += u64::from(relation == Relation::Waiting && before != Some(Relation::Waiting));
        figures.forced_releases += u64::from(note.step == Step::Released(Release::Forced));
        figures.yields += u64::from(note.step == Step::Yielded);
        if let Some(next) = notes.get(position + 1) {
            figures.lifetime_ns += next.at - note.at;
            figures.states_ns.add(relation, &Stretch::between(note, next));
        }
    }
    figures
}

fn relation_after(notes: &[Note], position: usize) -> Relation {
    match notes[position].step {
        Step::Start | Step::Released(Release::Voluntary | Release::Final) => Relation::Outside,
        // Whoever is made to give way wants the lock back all along.
        Step::Want | Step::Released(Release::Forced) => Relation::Waiting,
        Step::Acquired => Relation::Inside,
        Step::Exit => Relation::Absent,
        Step::Yielded => match position.checked_sub(1).map(|before| notes[before].step) {
            Some(Step::Released(Release::Forced)) => Relation::Waiting,
            _ => Relation::Outside,
        },
    }
}

/// How a stretch of a thread's time divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    running: u64,
    preempted: u64,
    blocked: u64,
}

impl Stretch {
    fn between(from: &Note, to: &Note) -> Self {
        let wall = to.at - from.at;
        if from.begins == to.ends {
            // Nothing was read in between: a few instructions, during which the thread ran.
            return Self { running: wall, preempted: 0, blocked: 0 };
        }
        let (first, last) = (Edge::after(from), Edge::before(to));
        let running = to.ends.cpu.saturating_sub(from.begins.cpu) + first.running + last.running;
        let running = running.min(wall);
        let preempted = to.ends.delay.saturating_sub(from.begins.delay) + first.preempted + last.preempted;
        let preempted = preempted.min(wall - running);
        Self { running, preempted, blocked: wall - running - preempted }
    }
}

/// The few instructions between a note and the reading next to it. The thread may lose its CPU even there (a signal wakes
/// others), so no more of them counts as running than the thread ran between the readings around the note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edge {
    running: u64,
    preempted: u64,
}

impl Edge {
    fn after(note: &Note) -> Self {
        Self::of(note, note.begins.at.saturating_sub(note.at))
    }

    fn before(note: &Note) -> Self {
        Self::of(note, note.at.saturating_sub(note.ends.at))
    }

    fn of(note: &Note, gap: u64) -> Self {
        if note.begins == note.ends {
            return Self { running: gap, preempted: 0 };
        }
        let running = note.begins.cpu.saturating_sub(note.ends.cpu).min(gap);
        Self { running, preempted: note.begins.delay.saturating_sub(note.ends.delay).min(gap - running) }
    }
}

impl StateTimes {
    fn add(&mut self, relation: Relation, stretch: &Stretch) {
        let (running, preempted, blocked) = match relation {
            Relation::Inside => (&mut self.held_running, &mut self.held_preempted, &mut self.held_blocked),
            Relation::Outside => (&mut self.outside_running, &mut self.outside_preempted, &mut self.outside_blocked),
            // The two kinds of waiting depend on the other threads.
            Relation::Waiting | Relation::Absent => return,
        };
        *running += stretch.running;
        *preempted += stretch.preempted;
        *blocked += stretch.blocked;
    }
}

#[cfg(test)]
mod tests {
    use super::{StateTimes, account};
    use crate::toyvm::witness::{Note, Reading, Release, Step, Testimony};

    /// A note whose readings were taken at the same moment: the thread has run for `cpu` and queued for `delay`.
    fn note(step: Step, at: u64, cpu: u64, delay: u64) -> Note {
        let reading = Reading { at, cpu, delay };
        Note { step, at, ends: reading, begins: reading }
    }

    fn total(states: &StateTimes) -> u64 {
        let held = states.held_running + states.held_preempted + states.held_blocked;
        let outside = states.outside_running + states.outside_preempted + states.outside_blocked;
        held + outside + states.wait_queued + states.wait_handoff + states.unknown
    }

    fn testimony(tid: u32, notes: Vec<Note>) -> Testimony {
        Testimony { tid, name: "t".into(), notes }
    }

    /// ```text
    ///          0    10        40   45   60        90   100
    /// first    outside held(30)    wait, yield(42) held outside
    /// second   outside want(25)    held(40)       outside
    /// ```
    #[test]
    fn a_wait_is_cut_at_every_change_of_owner() {
        let forced = Step::Released(Release::Forced);
        let first = vec![
            note(Step::Start, 0, 0, 0),
            note(Step::Acquired, 10, 10, 0),
            note(forced, 40, 30, 4),
            note(Step::Yielded, 42, 32, 4),
            note(Step::Acquired, 93, 33, 4),
            note(Step::Released(Release::Final), 98, 38, 4),
            note(Step::Exit, 100, 40, 4),
        ];
        let second = vec![
            note(Step::Start, 5, 0, 0),
            note(Step::Want, 20, 5, 0),
            note(Step::Acquired, 45, 6, 0),
            note(Step::Released(Release::Final), 90, 51, 0),
            note(Step::Exit, 95, 56, 0),
        ];
        let result = account(&[testimony(1, first), testimony(2, second)]);

        let states = result.threads[0].states_ns;
        assert_eq!((states.held_running, states.held_preempted, states.held_blocked), (25, 4, 6));
        assert_eq!((states.wait_queued, states.wait_handoff), (45, 8));
        assert_eq!(result.threads[0].run_queue_delay_ns, 4);
        assert_eq!(total(&states), 100);
        assert_eq!((result.threads[0].waits, result.threads[0].forced_releases), (1, 1));

        let states = result.threads[1].states_ns;
        assert_eq!((states.wait_queued, states.wait_handoff), (20, 5));
        assert_eq!((states.outside_running, states.outside_blocked), (10, 10));
        assert_eq!(total(&states), 90);

        assert_eq!((result.lock.held_ns, result.lock.free_ns, result.lock.contended_ns), (80, 20, 65));
        assert_eq!(result.lock.handoff_ns, 13);
        assert_eq!(result.blame.into_iter().collect::<Vec<_>>(), [((0, 1), 45), ((1, 0), 20)]);
    }

    #[test]
    fn whoever_yields_on_the_way_to_a_sleep_does_not_wait() {
        let notes = vec![
            note(Step::Start, 0, 0, 0),
            note(Step::Acquired, 0, 0, 0),
            note(Step::Released(Release::Voluntary), 10, 10, 0),
            note(Step::Yielded, 11, 11, 0),
            note(Step::Acquired, 50, 12, 0),
            note(Step::Released(Release::Final), 60, 22, 0),
            note(Step::Exit, 60, 22, 0),
        ];
        let result = account(&[testimony(1, notes)]);
        assert_eq!((result.threads[0].waits, result.threads[0].yields, result.threads[0].forced_releases), (0, 1, 0));
        assert_eq!(result.threads[0].states_ns.outside_blocked, 38);
    }
}
