//! The other processes of a program that is recorded: who they are, and a recording of each that has an interpreter.
//!
//! The root's recording is not ours; it only tells when ours began and what its forked children look like. Invariant: each
//! process that was seen is in the result once for each program with an interpreter that it ran, recorded or with the
//! reason why not; a process that vanishes while it is looked at is no failure.

mod begin;
pub(super) mod births;
mod member;

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::{
    model::{
        family::{Began, Family, Reach, Relative, RelativeEnd},
        ids::Pid,
        profile::Profile,
        time::MonoNanos,
    },
    perf::clock,
    session::{
        checkpoint::Snapshot,
        family::{
            begin::Way,
            births::Births,
            member::{Member, State},
        },
        ladder::Rung,
        options::RecordOptions,
        recording::Recording,
    },
    source::{
        kin::{Life, SharedKin, Turn, TurnKind},
        preload::{Pool, Room},
    },
    target::process,
};

/// Between two turns.
const PACE: Duration = Duration::from_millis(5);

/// The profiles of all processes.
pub(super) fn family(root: Profile, household: Option<Household>) -> Family {
    match household {
        None => Family::alone(root),
        Some(household) => Family { root, relatives: household.into_relatives(), reach: Reach::Descendants },
    }
}

/// The same as they are now, to be closed elsewhere while the recordings go on.
pub(super) fn snapshot(root: &Recording, household: Option<&Household>) -> Snapshot {
    let root = root.snapshot();
    let Some(household) = household else { return Box::new(move || Family::alone(root())) };
    let relatives = household.snapshots();
    Box::new(move || {
        let mut relatives: Vec<Relative> = relatives.into_iter().map(|close| close()).collect();
        relatives.sort_by_key(|relative| relative.start);
        Family { root: root(), relatives, reach: Reach::Descendants }
    })
}

/// The other processes.
#[derive(Debug)]
pub(super) struct Household {
    way: Way,
    /// Tells of births and ends; `None` where the kernel does not let us watch, and `/proc` is asked instead.
    kin: Option<SharedKin>,
    births: Births,
    /// The process that was launched or attached to, whether or not it is the one that the root's recording is about.
    first: Pid,
    /// Whom the root's recording is about.
    root: Pid,
    started: MonoNanos,
    /// Programs that `root` executed before were not recorded.
    root_known: MonoNanos,
    options: RecordOptions,
    /// Up to when births, executions and ends are known.
    delivered: MonoNanos,
    /// Taken too lately to be entered.
    rooms: Vec<Room>,
    members: Vec<Member>,
    /// The last program of each process.
    latest: FxHashMap<Pid, usize>,
}

impl Household {
    /// Processes record by themselves, in rooms of `pool`.
    pub(super) fn with_pool(
        pool: Pool,
        kin: Option<SharedKin>,
        launched: (Pid, RecordOptions),
        root: &Recording,
    ) -> Self {
        Self::new(Way::Pool(Box::new(pool)), kin, launched, root)
    }

    /// Each process is attached to by `rung` as soon as it is seen.
    pub(super) fn with_rung(rung: Rung, kin: SharedKin, first: (Pid, RecordOptions), root: &Recording) -> Self {
        // Of the others each has records of its own: these tell of births.
        if rung != Rung::Programs {
            kin.borrow_mut().drop_faults();
        }
        Self::new(Way::Rung(rung), Some(kin), first, root)
    }

    fn new(way: Way, kin: Option<SharedKin>, (first, options): (Pid, RecordOptions), root: &Recording) -> Self {
        if let Some(kin) = &kin {
            kin.borrow_mut().settle(root.target().pid);
        }
        Self {
            way,
            kin,
            births: Births::default(),
            first,
            root: root.target().pid,
            started: root.started(),
            root_known: clock::now(),
            options,
            delivered: MonoNanos::from_monotonic(0),
            rooms: Vec::new(),
            members: Vec::new(),
            latest: FxHashMap::default(),
        }
    }

    /// Adds a process that was there before the recording began.
    pub(super) fn add_existing(&mut self, pid: Pid, parent: Option<Pid>) {
        let life = self.kin.as_ref().map(|kin| kin.borrow().life(pid));
        let command = process::command(pid).unwrap_or_default();
        self.add(Member { life, command, ..Member::new(pid, parent, Began::Existed, clock::now()) });
    }

    /// How long to rest at the most: a process may begin and end meanwhile.
    pub(super) fn pace(&self) -> Duration {
        PACE
    }

    /// Sees who is new and who is gone, and turns every recording.
    pub(super) fn turn(&mut self, root: &Recording) {
        for turn in self.take_turns() {
            self.on_turn(turn, root);
        }
        if let Way::Pool(pool) = &mut self.way {
            self.rooms.extend(pool.look());
        }
        self.enter_rooms(self.delivered);
        for index in 0..self.members.len() {
            self.advance(index, root);
        }
    }

    /// Enters those that were taken before `moment`: what the kernel told of their processes till then is known.
    fn enter_rooms(&mut self, moment: MonoNanos) {
        let (ready, later) = std::mem::take(&mut self.rooms).into_iter().partition(|room| room.begun < moment);
        self.rooms = later;
        let ready: Vec<Room> = ready;
        ready.into_iter().for_each(|room| self.on_room(room));
    }

    /// Ends all recordings. The root's own must not have been finished before: its sources share what ends here.
    pub(super) fn stop(&mut self, root: &Recording) {
        if let Way::Pool(pool) = &self.way {
            pool.close();
        }
        self.turn(root);
        if let Some(kin) = &self.kin {
            kin.borrow_mut().stop();
        }
        for turn in self.take_turns() {
            self.on_turn(turn, root);
        }
        self.enter_rooms(MonoNanos::from_monotonic(u64::MAX));
        for index in 0..self.members.len() {
            self.conclude(index, root);
        }
    }

    /// What came of it.
    pub(super) fn into_relatives(self) -> Vec<Relative> {
        let now = clock::now();
        let started = self.started;
        let unseen = self.unseen();
        let mut relatives: Vec<Relative> =
            self.members.into_iter().map(|member| member.into_relative(started, now, unseen)).collect();
        relatives.sort_by_key(|relative| relative.start);
        relatives
    }

    fn snapshots(&self) -> Vec<Snapshot<Relative>> {
        let (now, unseen) = (clock::now(), self.unseen());
        self.members.iter().map(|member| member.snapshot(self.started, now, unseen)).collect()
    }

    /// Why a forked process may not have been seen to use a lock.
    fn unseen(&self) -> Option<&'static str> {
        match &self.way {
            Way::Pool(pool) if pool.refused() == 0 => None,
            Way::Pool(_) => Some("so many processes were recorded that there was no room"),
            Way::Rung(_) => Some("it ended before probes could be armed on it"),
        }
    }

    fn take_turns(&mut self) -> Vec<Turn> {
        match &self.kin {
            Some(kin) => {
                let mut kin = kin.borrow_mut();
                self.delivered = kin.read(clock::now());
                kin.take_turns()
            }
            None => {
                self.delivered = clock::now();
                self.births.look(self.first)
            }
        }
    }

    fn on_turn(&mut self, Turn { at, pid, life, what }: Turn, root: &Recording) {
        match what {
            TurnKind::Born { parent } if pid != self.root && pid != self.first => {
                if let Some(member) = self.latest_mut(pid) {
                    // Its end was lost, or else the number would not be free.
                    member.ended.get_or_insert((at, RelativeEnd::Exited));
                }
                let mut member = Member::new(pid, Some(parent), Began::Forked, at);
                (member.command, member.life) = (self.command_of(parent, root), life);
                self.add(member);
            }
            TurnKind::Born { .. } => {}
            TurnKind::Executed(name) => self.on_executed((at, pid, life), &name),
            TurnKind::Ended => {
                if let Some(member) = self.latest_mut(pid) {
                    member.ended.get_or_insert((at, RelativeEnd::Exited));
                }
            }
        }
    }

    fn on_executed(&mut self, (at, pid, life): (MonoNanos, Pid, Option<Life>), name: &str) {
        let command = process::command(pid).ok().filter(|command| !command.is_empty());
        let command = command.unwrap_or_else(|| name.to_owned());
        let another = Member { command: command.clone(), life, ..Member::new(pid, Some(pid), Began::Executed, at) };
        if !self.latest.contains_key(&pid) && (pid == self.root || pid == self.first) {
            if pid == self.root && at > self.root_known {
                self.add(another);
            }
            return;
        }
        let Some(member) = self.latest_mut(pid) else { return };
        if member.was_replaced_in_arming(at) {
            // What there is of a recording is about nothing.
            member.state = State::Watched;
        }
        if member.ran_interpreter_before(at) {
            member.ended = Some((at, RelativeEnd::Executed));
            self.add(another);
        } else {
            member.on_executed(at, command, life);
        }
    }

    fn on_room(&mut self, room: Room) {
        let (pid, begun) = (room.pid, room.begun);
        if let Some(mut earlier) = self.latest_mut(pid).and_then(|member| member.split_off(begun)) {
            earlier.command = process::command(room.parent.unwrap_or(pid)).unwrap_or_default();
            earlier.state = State::Waiting(Box::new(room));
            self.members.push(earlier);
            return;
        }
        let known = self.latest_mut(pid).filter(|member| {
            let over = member.ended.is_some_and(|(at, _)| at < begun);
            !over && matches!(member.state, State::Watched)
        });
        if let Some(member) = known {
            member.state = State::Waiting(Box::new(room));
            return;
        }
        if let Some(member) = self.latest_mut(pid) {
            member.ended.get_or_insert((begun, RelativeEnd::Executed));
        }
        let began = begin::began(room.origin);
        let mut member = Member::new(pid, room.parent, began, begun);
        member.command = process::command(pid).unwrap_or_default();
        member.state = State::Waiting(Box::new(room));
        self.add(member);
    }

    fn add(&mut self, member: Member) {
        self.latest.insert(member.pid, self.members.len());
        self.members.push(member);
    }

    fn latest_mut(&mut self, pid: Pid) -> Option<&mut Member> {
        let index = *self.latest.get(&pid)?;
        self.members.get_mut(index)
    }

    /// A forked process has its parent's command line.
    fn command_of(&self, parent: Pid, root: &Recording) -> String {
        let known = self.latest.get(&parent).and_then(|index| self.members.get(*index));
        let own = (parent == self.root).then(|| root.target().command.clone());
        known.map(|member| member.command.clone()).or(own).unwrap_or_default()
    }
}
