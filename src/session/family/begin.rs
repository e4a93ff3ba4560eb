//! How the recording of another process begins, goes on and ends.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use crate::{
    ledger::LockStart,
    model::{
        event::{Event, SeenCpu},
        family::{Began, RelativeEnd},
        ids::Pid,
        time::{MonoNanos, Nanos},
    },
    perf::{clock, error::PerfError},
    session::{
        family::{
            Household,
            births::is_alive,
            member::{Likeness, State},
        },
        finder::{InheritedLocks, LiveLocks},
        ladder::Rung,
        options::{ProgressLine, RecordOptions},
        preload::Parts,
        recording::{End, Recording, first_thread},
    },
    source::{
        bpf::LoadedPrograms,
        calls::Translator,
        kin::Life,
        preload::{Origin, Pool},
        scheduler::{SchedulerSource, Scope},
    },
    target::{
        discover::{DiscoverError, Target},
        lock::LockSeat,
    },
};

/// A forked process that lives on is worth programs in the kernel of its own; until then it records by itself.
const SETTLED: Nanos = Nanos::from_millis(50);
/// An interpreter that records can be described within milliseconds; if not by then, never.
const PATIENCE: Nanos = Nanos::from_millis(5_000);
/// Until then hardly any process has an interpreter that could be described.
const STARTING: Nanos = Nanos::from_millis(100);
/// Most processes that are forked execute a program at once, and till then look like their parent.
const ABOUT_TO_EXECUTE: Nanos = Nanos::from_millis(10);
/// Looks for an interpreter at every turn; later ones come more rarely.
const EAGER_LOOKS: u32 = 40;
const PAUSE: Nanos = Nanos::from_millis(200);
/// Looks after which a process is none; it is looked at again when it executes something.
const MOST_LOOKS: u32 = 60;
/// Recordings with programs of their own at the same time: each has a clock on every CPU.
const MOST_PROGRAMS: usize = 8;

/// Where the lock events of other processes come from.
#[derive(Debug)]
pub(super) enum Way {
    /// They record by themselves.
    Pool(Box<Pool>),
    /// Each is attached to by this rung.
    Rung(Rung),
}

/// How a process that has taken room began.
pub(super) fn began(origin: Origin) -> Began {
    match origin {
        Origin::Forked => Began::Forked,
        Origin::Executed => Began::Executed,
    }
}

/// Whether a process that records by itself can be described.
enum Described {
    Yes(Box<Likeness>),
    NotYet,
    Never(String),
}

impl Household {
    /// Does what is due for one member.
    pub(super) fn advance(&mut self, index: usize, root: &Recording) {
        match &mut self.members[index].state {
            State::Watched => self.look_at(index, root),
            State::Waiting(_) => self.describe(index, root),
            State::Recording(recording, _) => {
                recording.turn();
                let (pid, watched) = (self.members[index].pid, self.kin.is_some());
                if self.members[index].ended.is_none() && !watched && !is_alive(pid) {
                    self.members[index].ended = Some((clock::now(), RelativeEnd::Exited));
                }
                if self.members[index].ended.is_some() {
                    self.finish(index);
                }
            }
            State::Done(_) | State::Missed(_) => {}
        }
    }

    /// The recording of everybody ends.
    pub(super) fn conclude(&mut self, index: usize, root: &Recording) {
        if let State::Waiting(_) = self.members[index].state {
            self.members[index].looks = u32::MAX;
            self.describe(index, root);
        }
        self.finish(index);
    }

    fn finish(&mut self, index: usize) {
        let member = &mut self.members[index];
        let end = match member.ended {
            None => End::Now,
            // The kernel has told of the end.
            Some(_) if member.life.is_some() => End::TargetEnded,
            Some((at, _)) => End::TargetEndedAt(at),
        };
        match std::mem::replace(&mut member.state, State::Watched) {
            State::Recording(recording, room) => {
                member.likeness = Some(Likeness::of(&recording));
                member.state = State::Done(Arc::new(recording.finish(end)));
                if let (Some(room), Way::Pool(pool), Some(_)) = (room, &mut self.way, member.ended) {
                    pool.give_back(room);
                }
            }
            other => member.state = other,
        }
    }

    /// A process without a room: with uprobes it is looked at for an interpreter, and else once, to tell what it is.
    fn look_at(&mut self, index: usize, root: &Recording) {
        let now = clock::now();
        let member = &mut self.members[index];
        if let Some((_, end)) = member.ended {
            if end == RelativeEnd::Exited {
                self.forget(index);
            }
            return;
        }
        let rested = member.looks < MOST_LOOKS && now.saturating_since(member.looked) > PAUSE;
        let due = match self.way {
            // One that was forked from a recorded process has the probe, whatever it does with it.
            Way::Pool(_) if member.began == Began::Forked && self.kin.is_some() => false,
            Way::Pool(_) => rested && member.age(now) > STARTING,
            Way::Rung(_) if member.began == Began::Forked && member.age(now) < ABOUT_TO_EXECUTE => false,
            Way::Rung(_) => rested || member.looks < EAGER_LOOKS,
        };
        if !due {
            return;
        }
        (member.looked, member.looks) = (now, member.looks + 1);
        if self.kin.is_none() {
            member.look_at_command();
        }
        let by_rung = matches!(self.way, Way::Rung(_));
        let (pid, parent) = (member.pid, member.parent.filter(|_| by_rung && member.began == Began::Forked));
        if matches!(self.way, Way::Pool(_)) && Pool::reaches(pid) {
            return;
        }
        // One that was forked looks like its parent.
        let alike = self.likeness_of(parent, root).map(|likeness| Target { pid, ..likeness.target });
        match alike.map_or_else(|| Target::discover(pid), Ok) {
            Ok(target) => self.arm(index, target),
            Err(DiscoverError::NotPermitted { owner, .. }) => {
                self.members[index].state =
                    State::Missed(format!("it belongs to {owner}, and looking into it is not permitted"));
            }
            Err(_) => {}
        }
    }

    /// Arms uprobes on an interpreter that does not record by itself.
    fn arm(&mut self, index: usize, target: Target) {
        let options = self.options_for(index);
        let member = &mut self.members[index];
        member.command.clone_from(&target.command);
        let (rung, unreached) = match self.way {
            Way::Pool(_) => (Rung::Programs, true),
            Way::Rung(rung) => (rung, false),
        };
        member.state = match rung.attach_beside(&target, options, self.kin.as_ref()) {
            Ok(mut recording) => {
                if member.began != Began::Existed {
                    let missing = recording.started().saturating_since(member.start);
                    let why = if unreached { "the probe did not get into it" } else { "it had to be found first" };
                    recording.note(format!("its first {missing} are missing: {why}"));
                }
                State::Recording(Box::new(recording), None)
            }
            Err(_) if !is_alive(member.pid) => State::Missed("it ended while probes were being armed".to_owned()),
            Err(why) if unreached => State::Missed(format!(
                "the probe did not get into it (its starter gave it other variables, or it belongs to another user), and \
                 kernel probes cannot be used: {why}"
            )),
            Err(why) => State::Missed(why.to_string()),
        };
        member.armed = clock::now();
    }

    fn describe(&mut self, index: usize, root: &Recording) {
        let described = self.described(index, root);
        match described {
            Described::NotYet => {}
            Described::Never(why) => {
                if let State::Waiting(room) = std::mem::replace(&mut self.members[index].state, State::Missed(why))
                    && let (Way::Pool(pool), true) = (&mut self.way, self.members[index].ended.is_some())
                {
                    pool.give_back(room.number);
                }
            }
            Described::Yes(likeness) => {
                self.begin(index, *likeness);
                // Others may be waiting for its room.
                if self.members[index].ended.is_some() {
                    self.finish(index);
                }
            }
        }
    }

    fn described(&self, index: usize, root: &Recording) -> Described {
        let member = &self.members[index];
        let State::Waiting(room) = &member.state else { return Described::NotYet };
        let now = clock::now();
        let over = member.ended.is_some() || member.looks == u32::MAX || !is_alive(member.pid);
        let age = now.saturating_since(room.begun);
        match room.origin {
            Origin::Forked if !over && age < SETTLED => Described::NotYet,
            Origin::Forked => match self.likeness_of(room.parent, root) {
                Some(likeness) => {
                    let target = Target { pid: member.pid, ..likeness.target };
                    Described::Yes(Box::new(Likeness { target, ..likeness }))
                }
                None if over => Described::Never("it was forked from a process of which nothing is known".to_owned()),
                None => Described::NotYet,
            },
            Origin::Executed => match Target::discover(member.pid) {
                Ok(target) => Described::Yes(Box::new(Likeness { target, seats: Vec::new() })),
                Err(_) if over => Described::Never("it ended before it could be described".to_owned()),
                Err(_) if age < PATIENCE => Described::NotYet,
                Err(why) => Described::Never(why.to_string()),
            },
        }
    }

    /// What children of the process `parent` look like.
    fn likeness_of(&self, parent: Option<Pid>, root: &Recording) -> Option<Likeness> {
        let mut next = parent?;
        // A family has no cycles, but numbers are used again.
        for _ in 0..self.members.len() + 1 {
            let member = self.latest.get(&next).and_then(|index| self.members.get(*index));
            match member.map(|member| (&member.state, &member.likeness)) {
                None if next == self.root => return Some(Likeness::of(root)),
                None => return None,
                Some((_, Some(likeness))) => return Some(likeness.clone()),
                Some((State::Recording(recording, _), None)) => return Some(Likeness::of(recording)),
                Some((State::Waiting(room), None)) if room.origin == Origin::Forked => next = room.parent?,
                Some(_) => return None,
            }
        }
        None
    }

    fn begin(&mut self, index: usize, likeness: Likeness) {
        let (options, programs) = (self.options_for(index), self.programs(index));
        let member = &mut self.members[index];
        let State::Waiting(room) = std::mem::replace(&mut member.state, State::Watched) else { return };
        let Way::Pool(pool) = &self.way else { return };
        let Likeness { target, seats } = likeness;
        if room.origin == Origin::Executed {
            (member.began, member.command) = (Began::Executed, target.command.clone());
        }
        let (number, start, life) = (room.number, member.start.min(room.begun), member.life);
        let translator = Rc::new(RefCell::new(translator(&target, seats)));
        let calls = Rc::clone(&translator);
        let source = pool.source_of(*room, Box::new(move |call, out| calls.borrow_mut().translate(call, out)));
        let (scheduler, first) = self.scheduler((target.pid, life), start);
        let parts = Parts { source, translator, scheduler, programs, notes: Vec::new(), start, first };
        let recording = parts.begin(target, options);
        self.members[index].state = State::Recording(Box::new(recording), Some(number));
    }

    /// What tells of the process's scheduling and, where that does not tell of its first thread, a sighting of it.
    fn scheduler(
        &self,
        (pid, life): (Pid, Option<Life>),
        start: MonoNanos,
    ) -> (Result<SchedulerSource, PerfError>, Option<Event>) {
        if let (Some(kin), Some(life)) = (&self.kin, life) {
            return (Ok(SchedulerSource::of_life(Rc::clone(kin), pid, life)), None);
        }
        let first = first_thread(pid.main_thread(), start, SeenCpu::Runnable, LockStart::Free);
        (SchedulerSource::open(pid, Scope::Running), Some(first))
    }

    /// The root's time limit is that of all.
    fn options_for(&self, index: usize) -> RecordOptions {
        let late = self.members[index].start.saturating_since(self.started);
        let duration = self.options.duration.map(|wanted| wanted.saturating_sub(Duration::from_nanos(late.as_nanos())));
        RecordOptions { duration, progress: ProgressLine::Hidden, ..self.options }
    }

    /// Programs that sample the running threads of a process that lives on.
    fn programs(&self, index: usize) -> Option<LoadedPrograms> {
        let wanted = self.options.rate.is_some() && self.members[index].ended.is_none();
        let recorded = self.members.iter().filter(|member| matches!(member.state, State::Recording(..))).count();
        (wanted && recorded < MOST_PROGRAMS).then(LoadedPrograms::load).and_then(Result::ok)
    }

    /// Nobody will ask for what it did.
    fn forget(&mut self, index: usize) {
        let member = &mut self.members[index];
        let lives = [member.life.take(), member.before.take().and_then(|(_, life)| life)];
        if let Some(kin) = &self.kin {
            let mut kin = kin.borrow_mut();
            lives.into_iter().flatten().for_each(|life| kin.forget(life));
        }
    }
}

/// A forked process has its parent's locks, and may get more.
fn translator(target: &Target, inherited: Vec<LockSeat>) -> Translator {
    let mut translator = Translator::new(None);
    if !inherited.is_empty() {
        translator.find_with(Box::new(InheritedLocks(inherited)));
    }
    if let Ok(live) = LiveLocks::of(target) {
        translator.find_with(Box::new(live));
    }
    translator
}
