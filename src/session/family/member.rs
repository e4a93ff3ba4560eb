//! One program of one process, from its first sight to what is known of it in the end.

use std::sync::Arc;

use crate::{
    model::{
        family::{Began, Record, Relative, RelativeEnd},
        ids::Pid,
        profile::Profile,
        time::{MonoNanos, Nanos},
    },
    session::{checkpoint::Snapshot, recording::Recording},
    source::{
        kin::Life,
        preload::{Room, RoomNumber},
    },
    target::{discover::Target, lock::LockSeat, process},
};

/// A process, or a program that it executed later than another one that was recorded.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) pid: Pid,
    pub(super) parent: Option<Pid>,
    pub(super) command: String,
    pub(super) began: Began,
    /// Its birth or its first sight.
    pub(super) start: MonoNanos,
    /// Its part of the family's records; `None` where there are none.
    pub(super) life: Option<Life>,
    /// When it was forked and its records till it executed its program, if it was seen to do so.
    pub(super) before: Option<(MonoNanos, Option<Life>)>,
    pub(super) ended: Option<(MonoNanos, RelativeEnd)>,
    pub(super) state: State,
    /// What its forked children look like, once that is known.
    pub(super) likeness: Option<Likeness>,
    /// When it was last looked at for an interpreter, and how often.
    pub(super) looked: MonoNanos,
    pub(super) looks: u32,
    /// When arming probes on it was over.
    pub(super) armed: MonoNanos,
}

/// What a forked child has in common with its parent.
#[derive(Debug, Clone)]
pub(super) struct Likeness {
    pub(super) target: Target,
    pub(super) seats: Vec<LockSeat>,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum State {
    /// It has not been seen to have an interpreter.
    Watched,
    /// It records by itself, and is not described yet.
    Waiting(Box<Room>),
    /// It is recorded.
    Recording(Box<Recording>, Option<RoomNumber>),
    /// It was recorded.
    Done(Arc<Profile>),
    /// It had an interpreter and could not be recorded.
    Missed(String),
}

impl Likeness {
    /// Of the process that `recording` is about.
    pub(super) fn of(recording: &Recording) -> Self {
        Self { target: recording.target().clone(), seats: recording.seats() }
    }
}

impl Member {
    pub(super) fn new(pid: Pid, parent: Option<Pid>, began: Began, start: MonoNanos) -> Self {
        Self {
            pid,
            parent,
            command: String::new(),
            began,
            start,
            life: None,
            before: None,
            ended: None,
            state: State::Watched,
            likeness: None,
            looked: MonoNanos::from_monotonic(0),
            looks: 0,
            armed: MonoNanos::from_monotonic(0),
        }
    }

    /// Whether there is an interpreter of its own that a program executed at `at` replaces.
    pub(super) fn ran_interpreter_before(&self, at: MonoNanos) -> bool {
        match &self.state {
            State::Waiting(room) => room.begun < at,
            State::Recording(recording, _) => recording.started() < at,
            State::Done(_) | State::Missed(_) => true,
            State::Watched => false,
        }
    }

    /// Whether it executed a program at `at` while probes were being armed on the one before.
    pub(super) fn was_replaced_in_arming(&self, at: MonoNanos) -> bool {
        let armed = matches!(self.state, State::Recording(_, None) | State::Missed(_));
        armed && self.looked < at && at <= self.armed
    }

    /// It was forked a moment ago, and has executed a program without having recorded before, as far as is known.
    pub(super) fn on_executed(&mut self, at: MonoNanos, command: String, life: Option<Life>) {
        self.before = Some((self.start, self.life));
        (self.start, self.life, self.began, self.command) = (at, life, Began::Executed, command);
        (self.looks, self.looked) = (0, MonoNanos::from_monotonic(0));
    }

    /// The process as it was before, if it had taken room at `begun`, before it executed its program.
    pub(super) fn split_off(&mut self, begun: MonoNanos) -> Option<Self> {
        let (start, life) = self.before.take_if(|_| begun < self.start)?;
        let mut earlier = Self::new(self.pid, self.parent, Began::Forked, start);
        (earlier.life, earlier.ended) = (life, Some((self.start, RelativeEnd::Executed)));
        Some(earlier)
    }

    /// Where nobody tells of executions: a command line of its own tells of one.
    pub(super) fn look_at_command(&mut self) {
        let found = process::command(self.pid).ok().filter(|found| !found.is_empty() && *found != self.command);
        if let Some(found) = found {
            (self.command, self.began) = (found, Began::Executed);
        }
    }

    /// How long its present program has run by `now`.
    pub(super) fn age(&self, now: MonoNanos) -> Nanos {
        now.saturating_since(self.start)
    }

    /// What is known of it in the end; `unseen`: why a forked process may not have been seen to use a lock.
    pub(super) fn into_relative(self, started: MonoNanos, now: MonoNanos, unseen: Option<&str>) -> Relative {
        let relative = self.without_profile(started, now, unseen);
        match self.state {
            State::Done(profile) => with_profile(relative, Arc::unwrap_or_clone(profile)),
            _ => relative,
        }
    }

    /// What is known of it now, to be worked out anywhere.
    pub(super) fn snapshot(&self, started: MonoNanos, now: MonoNanos, unseen: Option<&str>) -> Snapshot<Relative> {
        let relative = self.without_profile(started, now, unseen);
        match &self.state {
            State::Done(profile) => {
                let profile = Arc::clone(profile);
                Box::new(move || with_profile(relative, Profile::clone(&profile)))
            }
            State::Recording(recording, _) => {
                let close = recording.snapshot();
                Box::new(move || with_profile(relative, close()))
            }
            _ => Box::new(move || relative),
        }
    }

    fn without_profile(&self, started: MonoNanos, now: MonoNanos, unseen: Option<&str>) -> Relative {
        let (until, end) = self.ended.unwrap_or((now, RelativeEnd::Alive));
        let missed = |why: &str| Record::Missed { why: why.to_owned() };
        let record = match &self.state {
            State::Missed(why) => missed(why),
            State::Done(_) | State::Recording(..) | State::Waiting(_) => missed("it was not read to its end"),
            State::Watched => unseen.filter(|_| self.began == Began::Forked).map_or(Record::NoInterpreter, missed),
        };
        Relative {
            pid: self.pid,
            parent: self.parent,
            command: self.command.clone(),
            began: self.began,
            start: self.start.saturating_since(started),
            lifetime: until.saturating_since(self.start),
            end,
            record,
        }
    }
}

fn with_profile(relative: Relative, profile: Profile) -> Relative {
    Relative { record: Record::Profile(Box::new(profile)), ..relative }
}
