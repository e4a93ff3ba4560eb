//! What records mean for those who are watched. Pure.

use rustc_hash::FxHashMap;

use crate::{
    model::{
        ids::{Pid, Tid},
        machine::MachineSample,
        time::MonoNanos,
    },
    perf::{
        family::{Family, Role},
        reading::GroupReading,
        record::{Body, EventId, Naming, RawRecord},
        stream::{Kin, PlacedReading, Record, order::Pending},
    },
};

pub(super) fn is_birth(record: &Record) -> bool {
    matches!(record.body, Body::Forked { .. })
}

/// Whether the record is that of a thread which goes on on another CPU, the one at this place.
pub(super) fn has_migrated(places: &mut FxHashMap<Tid, usize>, record: &Record, place: usize) -> bool {
    match record.body {
        // The number may be that of an earlier one, whose end was lost.
        Body::Forked { child, .. } => {
            places.remove(&child);
            false
        }
        Body::SwitchedIn => places.insert(record.tid, place).is_some_and(|before| before != place),
        Body::SwitchedOut(_) => {
            places.insert(record.tid, place);
            false
        }
        Body::Exited => {
            places.remove(&record.tid);
            false
        }
        _ => false,
    }
}

/// Whether the record tells of a new program. It is believed whoever wrote it: a thread other than the first that
/// executes one goes on under the first's number, with the events of its own root.
pub(super) fn is_exec(record: &Record) -> bool {
    matches!(record.body, Body::Named { cause: Naming::Exec, .. })
}

/// Keeps the lineages up to date with births and deaths.
pub(super) fn follow(families: &mut [Family], record: &Record) {
    for lineage in families.iter_mut().map(|family| &mut family.lineage) {
        match record.body {
            Body::Forked { child, .. } => lineage.on_fork(record.tid, child, record.at),
            Body::Exited => lineage.on_exit(record.tid),
            _ => {}
        }
    }
}

/// A record of the target as it is kept; `None` for one about another process or from an event that is not ours.
/// A loss is dated `since`, the last moment before it that is accounted for.
pub(super) fn pending(
    raw: RawRecord,
    place: usize,
    since: MonoNanos,
    (pid, kin): (Pid, Kin),
    roles: &FxHashMap<EventId, Role>,
) -> Option<Pending> {
    let RawRecord { event, at, pid: of, tid, body, reading } = raw;
    if let Body::Lost { .. } = body {
        let record = Record { at: since, pid, tid: pid.main_thread(), body, probe: None, reading: None };
        return Some(Pending { record, place, from: None });
    }
    let (role, of) = (roles.get(&event)?, watched(of, (pid, kin))?);
    let placed =
        |said: Box<GroupReading>| role.group.map(|group| Box::new(PlacedReading { group, cpu: place, said: *said }));
    let reading = reading.and_then(placed);
    let body = match (body, role.fault) {
        (Body::Counted, Some((kind, times))) => Body::Faulted(kind, times),
        (Body::Counted, None) if reading.is_none() => return None,
        (body, _) => body,
    };
    let record = Record { at, pid: of, tid: tid?, body, probe: role.probe, reading };
    Some(Pending { record, place, from: Some((role.family, role.root)) })
}

/// The process of a record, if it is to be watched.
pub(super) fn watched(of: Option<Pid>, (pid, kin): (Pid, Kin)) -> Option<Pid> {
    of.filter(|of| kin == Kin::Descendants || *of == pid)
}

/// A look at a thread of the target, by the event that is its own.
pub(super) fn sample(
    raw: RawRecord,
    whom: (Pid, Kin),
    (roles, families): (&FxHashMap<EventId, Role>, &[Family]),
) -> Option<(Pid, MachineSample)> {
    let RawRecord { event, at, pid: of, tid, body, .. } = raw;
    let (role, tid, of) = (roles.get(&event)?, tid?, watched(of, whom)?);
    match body {
        Body::Sampled(state) if families[role.family].lineage.believes(role.root, tid) => {
            Some((of, MachineSample { at, tid, state }))
        }
        _ => None,
    }
}

/// The thread of a sample of the event, unless it is nobody's.
pub(super) fn sampled(
    raw: &RawRecord,
    pid: Pid,
    (roles, families): (&FxHashMap<EventId, Role>, &[Family]),
) -> Option<Tid> {
    let (role, tid) = (roles.get(&raw.event)?, raw.tid?);
    let own = raw.pid == Some(pid) && families[role.family].lineage.believes(role.root, tid);
    own.then_some(tid)
}
